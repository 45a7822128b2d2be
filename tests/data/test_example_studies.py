"""Every study of examples/ parses, and its data are read without an error."""

import importlib.util
import os
from pathlib import Path

import pytest

from tenbin.config import DataConfig, StudyConfig, read_study
from tenbin.data import Splits, load_dataset
from tenbin.tasks.base import PromptTemplate

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHARED = ROOT.parent / "shared" / "data"
FIELDS = {
    "classification": (("text",), "category"),
    "reading": (("passage", "question"), "answer"),
    "summarization": (("text",), "summary"),
}
SIZES = {
    "economy-watchers-binary": (4000, 500, 1000),
    "economy-watchers-levels": (10000, 1000, 2000),
    "jaquad-jsquad": (8000, 1000, 0),
    "jcommonsenseqa": (8939, 1119, 1118),
    "jmmlu": (5065, 651, 1381),
    "jnli": (2191, 243, 2508),
    "jrte-reputation": (3887, 555, 1111),
    "jrte-sentiment": (2956, 423, 845),
    "livedoor-headlines": (3000, 737, 500),
    "livedoor-topics": (3000, 737, 736),
    "msdocs-summaries": (5066, 476, 478),
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


def load(study: StudyConfig, data: DataConfig) -> Splits:
    fields, target = FIELDS[study.task]
    if study.prompt.template is not None:
        fields = PromptTemplate(study.prompt.template).fields
    return load_dataset(data, base=EXAMPLES, input_fields=fields, target_field=target)


def test_every_study_is_listed_here() -> None:
    assert [path.stem for path in STUDIES] == sorted(SIZES)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_says_where_its_data_come_from(path: Path) -> None:
    study = read_study(path)
    assert study.name == path.stem
    comment = path.read_text(encoding="utf-8").split("name =")[0]
    assert "CC BY" in comment
    for text in (study.data.train, study.data.validation, study.data.test):
        assert text is None or text.startswith(("../../shared/data/", "prepared/"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_its_data_are_read(path: Path, request: pytest.FixtureRequest) -> None:
    if not SHARED.exists():
        assert not os.environ.get("CI"), f"{SHARED} must be there"
        pytest.skip(f"{SHARED} is not there")
    study = read_study(path)
    data = study.data
    if data.train.startswith("prepared/"):
        folder = request.getfixturevalue("prepared")
        changes = {
            name: str(folder / Path(text).name)
            for name in ("train", "validation", "test")
            if (text := getattr(data, name))
        }
        data = data.model_copy(update=changes)
    splits = load(study, data)
    sizes = tuple(len(d) if d is not None else 0 for d in (splits.train, splits.validation, splits.test))
    assert sizes == SIZES[path.stem]
