"""tenbin weighs Japanese LLMs on your own data, on the GPU you have.

    import tenbin

    tenbin.inspect("study.toml").findings      # what is doubtful about the data
    tenbin.plan("study.toml")[0].memory.terms  # bytes by cause
    result = tenbin.run("study.toml")          # everything; resumes, skips what is done
    result.results[0].results["test"].metrics

    tenbin.evaluate("llm-jp/llm-jp-3-1.8b", "bank.xlsx", task="question_bank")   # one model, one file
    tenbin.compare("runs/a", "runs/b").to_rows()                                 # every pair, tested
    tenbin.rag_fitness("study.toml").results                  # the same questions inside long texts
    tenbin.contamination_hints("study.toml")                  # do base models know the choices' order?
    tenbin.judge_answers("study.toml")                        # a model grades, people check it

Each function is what the command of the same name calls. Importing tenbin loads nothing heavy.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch is imported, which reads it then: GPU memory is taken in segments that grow, so that what the
# allocator holds stays close to what is in use, and the plan close to what the driver shows.
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

if TYPE_CHECKING:
    from tenbin.contamination import OrderHint
    from tenbin.data.inspection import Inspection
    from tenbin.report import Compared
    from tenbin.study.evaluating import Evaluated
    from tenbin.study.judging import Judged
    from tenbin.study.planned import Plan
    from tenbin.study.rag import RagDone
    from tenbin.study.run import StudyResult

__all__ = [
    "compare",
    "contamination_hints",
    "evaluate",
    "inspect",
    "judge_answers",
    "plan",
    "rag_fitness",
    "run",
]


def inspect(
    study_file: Path | str, overrides: Mapping[str, object] | None = None, *, offline: bool = False
) -> "Inspection":
    """Read a study's data and look at them; see `tenbin.study.inspecting.inspect_file`."""
    from tenbin.study.inspecting import inspect_file

    return inspect_file(Path(study_file), overrides, offline=offline)


def plan(
    study_file: Path | str, overrides: Mapping[str, object] | None = None, *, offline: bool = False
) -> tuple["Plan", ...]:
    """What fits, for every model of a study; no weights are loaded or fetched."""
    from tenbin.study.run import plan_file

    return plan_file(Path(study_file), overrides, offline=offline)


def run(
    study_file: Path | str, overrides: Mapping[str, object] | None = None, *, offline: bool = False
) -> "StudyResult":
    """Do a whole study; see `tenbin.study.run.run_study`."""
    from tenbin.study.run import run_study

    return run_study(Path(study_file), overrides=overrides, offline=offline)


def evaluate(
    model: str,
    data: Path | str | None = None,
    *,
    task: str | None = None,
    name: str | None = None,
    adapter: Path | str | None = None,
    with_base: bool = False,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    output: Path | str | None = None,
    overrides: Mapping[str, object] | None = None,
    offline: bool = False,
) -> "Evaluated":
    """Evaluate one model, adapter or API on one file, or on a study's set; see `tenbin.study.evaluating`."""
    from tenbin.study.evaluating import Options, evaluate_any

    return evaluate_any(
        model,
        str(data) if data is not None else None,
        task=task,
        name=name,
        columns=columns,
        limit=limit,
        output=Path(output) if output is not None else None,
        options=Options(
            adapter=Path(adapter) if adapter is not None else None,
            with_base=with_base,
            overrides=overrides,
            offline=offline,
        ),
    )


def compare(*folders: Path | str) -> "Compared":
    """Weigh the runs of one or more study folders against each other; see `tenbin.report.compare`."""
    from tenbin.report import compare_folders

    return compare_folders([Path(folder) for folder in folders])


def rag_fitness(
    study_file: Path | str,
    overrides: Mapping[str, object] | None = None,
    *,
    runs: Sequence[str] = (),
    offline: bool = False,
) -> "RagDone":
    """Ask a study's systems inside long texts; see `tenbin.study.rag.rag_file`."""
    from tenbin.study.rag import rag_file

    return rag_file(Path(study_file), overrides, runs=runs, offline=offline)


def contamination_hints(
    study_file: Path | str, overrides: Mapping[str, object] | None = None, *, offline: bool = False
) -> tuple["OrderHint", ...]:
    """Whether base models know their questions' choices in order; see `tenbin.contamination`."""
    from tenbin.study.contamination import hint_file

    return hint_file(Path(study_file), overrides, offline=offline)


def judge_answers(
    study: Path | str,
    judge: Mapping[str, object] | None = None,
    *,
    max_cost: str | None = None,
    offline: bool = False,
) -> tuple["Judged", ...]:
    """Let a model grade a study's answers; see `tenbin.study.judging.judge_any`."""
    from tenbin.study.judging import judge_any

    return judge_any(Path(study), judge, max_cost=max_cost, offline=offline)
