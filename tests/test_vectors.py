import json
import os
from pathlib import Path

import pytest

from tenbin.errors import DataError
from tenbin.vectors import verify

OWN = Path(__file__).parent / "tasks" / "vectors.json"
SHARED = Path(__file__).parents[2] / "shared" / "metric_vectors.json"


def test_own_vectors_agree():
    rows = verify(OWN)
    assert [row for row in rows if row.differences] == []
    assert sum(row.agreed for row in rows) == sum(row.total for row in rows) == 25


def test_published_vectors_agree():
    if not SHARED.exists():
        assert not os.environ.get("CI"), f"{SHARED} must stand beside the checkout in CI"
        pytest.skip(f"{SHARED} is not there: a clone alone does not have it")
    rows = verify(SHARED)
    assert [difference for row in rows for difference in row.differences] == []
    assert len(rows) >= 18


def _written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_wrong_value_is_a_difference(tmp_path):
    cases = [{"id": "x", "prediction": "傘", "references": ["傘"], "expected": {"em": 0, "rougeW": 1}}]
    path = _written(
        tmp_path / "v.json", {"schema": "metric-vectors/1", "metrics": {"jsquad_jglue": {"cases": cases}}}
    )
    (row,) = verify(path)
    assert (row.agreed, row.total) == (0, 1)
    assert "expected 0, found 1.0" in row.differences[0]
    assert "not computed here" in row.differences[1]


def test_all_problems_of_a_file_are_told_at_once(tmp_path):
    metrics = {
        "no_such": {"cases": []},
        "jsquad_jglue": {"cases": [{"id": "x", "expected": {}}]},
        "set_f1": {},
    }
    path = _written(tmp_path / "v.json", {"schema": "metric-vectors/1", "metrics": metrics})
    with pytest.raises(DataError) as error:
        verify(path)
    told = str(error.value)
    assert len(error.value.problems) == 3
    assert "no_such" in told
    assert "prediction, references" in told


@pytest.mark.parametrize(
    "content", [{"schema": "metric-vectors/2", "metrics": {}}, [], {"schema": "metric-vectors/1"}]
)
def test_another_schema_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="metric-vectors/1"):
        verify(_written(tmp_path / "v.json", content))


def test_a_file_that_is_not_json(tmp_path):
    path = tmp_path / "v.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        verify(path)
