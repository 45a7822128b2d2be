"""How grades of one study count: the scale, and what is done where raters differ."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tenbin.config_grading import GradingConfig
from tenbin.config_problems import config_problems
from tenbin.errors import ConfigError, Problem
from tenbin.runs import StudyFolder, write_json

SETTINGS = "grading.json"


def read_settings(study: StudyFolder) -> GradingConfig:
    """What `grade import` was last told, else the study file's [grading], else the defaults.

    Raises:
        ConfigError: where one of the files is not right.
    """
    raw = study.read(SETTINGS)
    if raw is not None:
        return check_settings(raw, SETTINGS)
    path = study.path / "study.toml"
    if not path.exists():
        return GradingConfig()
    try:
        whole = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        remedy = "run the study again: it writes this file anew"
        raise ConfigError(Problem(where=str(path), found=f"not TOML: {error}", remedy=remedy)) from None
    return check_settings(whole.get("grading", {}), "study.toml: grading")


def write_settings(folder: Path, settings: GradingConfig) -> None:
    """Keep settings that take the place of the study file's."""
    write_json(folder / SETTINGS, settings.model_dump(mode="json"))


def check_settings(raw: Any, where: str) -> GradingConfig:  # noqa: ANN401  (JSON)
    """Settings from outside.

    Raises:
        ConfigError: naming every key that is wrong.
    """
    try:
        return GradingConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(config_problems(error, GradingConfig, where)) from None
