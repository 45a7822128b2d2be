"""Every study of examples/ is read and inspected as `tenbin inspect` does it; every data set has one."""

import importlib.util
import os
from pathlib import Path

import pytest

from tenbin.config import read_study
from tenbin.data.inspection import inspect_splits
from tenbin.study.prepare import prepare

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHARED = ROOT.parent / "shared" / "data"
SIZES = {
    "aio-quiz": (608, 995, 200),
    "economy-watchers-binary": (4000, 500, 1000),
    "economy-watchers-levels": (10000, 1000, 2000),
    "elyza-tasks-100": (100, 0, 100),
    "jaquad-jsquad": (8000, 1000, 0),
    "jcommonsenseqa": (8939, 1119, 1118),
    "jcommonsenseqa-bank": (1119, 0, 1119),
    "jemhopqa": (1059, 0, 120),
    "jmmlu": (5065, 651, 1381),
    "jmmlu-bank": (7097, 0, 7097),
    "jnli": (2191, 243, 2508),
    "jrte-reputation": (3887, 555, 1111),
    "jrte-sentiment": (2956, 423, 845),
    "livedoor-headlines": (3000, 737, 500),
    "livedoor-topics": (3000, 737, 736),
    "mgsm-ja": (250, 0, 250),
    "mgsm-ja-bank": (250, 0, 250),
    "msdocs-summaries": (5066, 476, 478),
    "niilc": (800, 0, 200),
}
STUDIES = sorted(EXAMPLES.glob("*.toml"))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tables that examples/prepare.py makes."""
    folder = tmp_path_factory.mktemp("prepared")
    spec = importlib.util.spec_from_file_location("prepare", EXAMPLES / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_all(SHARED, folder)
    return folder


def needs_data() -> None:
    if not SHARED.exists():
        assert not os.environ.get("CI"), f"{SHARED} must be there"
        pytest.skip(f"{SHARED} is not there")


def test_every_study_is_listed_here() -> None:
    assert sorted(path.stem for path in STUDIES) == sorted(SIZES)


def test_every_data_set_has_a_study_or_a_reason() -> None:
    needs_data()
    studies = "".join(path.read_text(encoding="utf-8") for path in [*STUDIES, EXAMPLES / "prepare.py"])
    _, _, reasons = (EXAMPLES / "README.md").read_text(encoding="utf-8").partition("## Without a study")
    names = [path.name for path in sorted(SHARED.iterdir()) if path.is_dir()]
    assert names
    used = {name for name in names if f"/data/{name}/" in studies or f'"{name}" /' in studies}
    explained = {name for name in names if f"`{name}`" in reasons}
    assert used | explained == set(names)
    assert not used & explained


def test_the_readme_names_every_study() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in STUDIES if f"`{path.name}`" not in text] == []


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_says_where_its_data_come_from(path: Path) -> None:
    study = read_study(path)
    assert study.name == path.stem
    comment = path.read_text(encoding="utf-8").split("name =")[0]
    assert "CC BY" in comment
    for text in (study.data.train, study.data.validation, study.data.test):
        assert text is None or text.startswith(("../../shared/data/", "prepared/"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_its_data_are_read_and_inspected(path: Path, request: pytest.FixtureRequest) -> None:
    needs_data()
    data = read_study(path).data
    changes: dict[str, object] = {}
    if data.train.startswith("prepared/"):
        folder = request.getfixturevalue("prepared")
        changes = {
            f"data.{name}": str(folder / Path(text).name)
            for name in ("train", "validation", "test")
            if (text := getattr(data, name))
        }
    study = prepare(path, changes)
    splits = study.splits
    sizes = tuple(len(d) if d is not None else 0 for d in (splits.train, splits.validation, splits.test))
    assert sizes == SIZES[path.stem]
    found = inspect_splits(splits, study.task.name, render=study.rendered)
    assert {name: n for name, n in found.num_examples.items() if n} == {
        name: n for name, n in zip(("train", "validation", "test"), sizes, strict=True) if n
    }
    assert all(sum(lengths.counts) == lengths.num for lengths in found.lengths)
