"""Where the settings of grading come from, and what is refused."""

import pytest

from tenbin.config import parse_study
from tenbin.errors import ConfigError
from tenbin.grading.settings import check_settings, read_settings, write_settings
from tenbin.runs import StudyFolder


def test_the_command_before_the_study_file_before_the_defaults(tmp_path):
    study = StudyFolder(tmp_path)
    assert read_settings(study).scale == [0.0, 0.5, 1.0]
    (tmp_path / "study.toml").write_text("[grading]\nscale = [0, 1, 2]\n", encoding="utf-8")
    assert read_settings(study).scale == [0.0, 1.0, 2.0]
    write_settings(tmp_path, check_settings({"disagreement": "adjudicator", "adjudicator": "長"}, "x"))
    assert read_settings(study).adjudicator == "長"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"scale": [0, 1, 1]}, "different grades"),
        ({"scale": [0]}, "at least 2"),
        ({"scale": [-1, 1]}, "greater than or equal to 0"),
        ({"disagreement": "adjudicator"}, 'needs adjudicator = "NAME"'),
        ({"adjudicator": "長"}, "only asked with"),
        ({"disagrement": "mean"}, "did you mean `disagreement`"),
    ],
)
def test_settings_that_do_not_go_together(raw, said):
    with pytest.raises(ConfigError, match=said):
        check_settings(raw, "grading.json")


def test_a_broken_study_file_is_named(tmp_path):
    (tmp_path / "study.toml").write_text("[grading", encoding="utf-8")
    with pytest.raises(ConfigError, match="not TOML"):
        read_settings(StudyFolder(tmp_path))


def test_grading_is_a_section_of_the_study():
    raw = {"name": "s", "task": "question_bank", "data": {"train": "a"}, "model": [{"source": "m"}]}
    config = parse_study({**raw, "grading": {"scale": [0, 1, 2, 3]}})
    assert "scale = [\n    0.0,\n    1.0,\n    2.0,\n    3.0,\n]" in config.to_toml()
