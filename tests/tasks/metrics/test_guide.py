"""docs/guide/metrics.md holds what `tenbin metrics list --markdown` prints, and names the tasks' metrics."""

from pathlib import Path

import pytest
from tests.tasks.conformance import task_of

from tenbin.commands import metrics_markdown
from tenbin.tasks.metrics import METRICS
from tenbin.tasks.registry import TASKS

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "metrics.md"
MARK = "<!-- tenbin metrics list --markdown -->\n"


def test_the_table_is_the_commands():
    _, mark, table = GUIDE.read_text(encoding="utf-8").partition(MARK)
    assert mark
    assert table == metrics_markdown(), "run `tenbin metrics list --markdown` and put it behind the mark"
    assert table.count("\n") == len(METRICS) + 2


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_named_with_its_headline(name):
    (line,) = [x for x in GUIDE.read_text(encoding="utf-8").splitlines() if x.startswith(f"| `{name}` |")]
    assert line.split("|")[2].split("`")[1] == task_of(name).metrics[0].id


def test_every_task_and_field_is_in_the_guide_to_data():
    text = GUIDE.with_name("data.md").read_text(encoding="utf-8")
    for name, entry in TASKS.items():
        (line,) = [x for x in text.splitlines() if x.startswith(f"| `{name}` |")]
        assert [f for f in (*entry.required, *entry.optional, entry.target) if f"`{f}`" not in line] == []
