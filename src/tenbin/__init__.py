"""tenbin weighs Japanese LLMs on your own data, on the GPU you have.

    import tenbin

    tenbin.inspect("study.toml").findings      # what is doubtful about the data
    tenbin.plan("study.toml")[0].memory.terms  # bytes by cause
    result = tenbin.run("study.toml")          # everything; resumes, skips what is done
    result.results[0].results["test"].metrics

Each function is what the command of the same name calls. Importing tenbin loads nothing heavy.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenbin.data.inspection import Inspection
    from tenbin.study.planning import ModelPlan
    from tenbin.study.run import StudyResult

__all__ = ["inspect", "plan", "run"]


def inspect(
    study_file: Path | str, overrides: Mapping[str, object] | None = None, *, offline: bool = False
) -> "Inspection":
    """Read a study's data and look at them; see `tenbin.study.inspecting.inspect_file`."""
    from tenbin.study.inspecting import inspect_file

    return inspect_file(Path(study_file), overrides, offline=offline)


def plan(
    study_file: Path | str, overrides: Mapping[str, object] | None = None, *, offline: bool = False
) -> tuple["ModelPlan", ...]:
    """What fits, for every model of a study; no weights are loaded or fetched."""
    from tenbin.study.run import plan_file

    return plan_file(Path(study_file), overrides, offline=offline)


def run(
    study_file: Path | str, overrides: Mapping[str, object] | None = None, *, offline: bool = False
) -> "StudyResult":
    """Do a whole study; see `tenbin.study.run.run_study`."""
    from tenbin.study.run import run_study

    return run_study(Path(study_file), overrides=overrides, offline=offline)
