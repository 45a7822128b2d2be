"""Prepared: a study whose data are read and whose task is known; nothing of torch, no model yet."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from tenbin.config import StudyConfig, read_study, study_folder
from tenbin.data.dataset import Dataset
from tenbin.data.load import load_dataset
from tenbin.data.splits import Splits
from tenbin.errors import DataError, Problem
from tenbin.evaluation import evaluate_baseline
from tenbin.runs import StudyFolder, storage, write_text
from tenbin.study.screen import Screen, SilentScreen
from tenbin.tasks.base import Task
from tenbin.tasks.registry import TASKS, input_fields, make_task
from tenbin.types import Example, JsonValue, SplitName


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A study ready to be planned."""

    config: StudyConfig
    study_file: Path
    folder: StudyFolder
    splits: Splits
    task: Task

    @property
    def report_on(self) -> SplitName:
        """The set whose figures are reported: test, where there is one."""
        return "test" if self.splits.test is not None else "validation"

    @property
    def same_set(self) -> bool:
        """Whether one set both chooses the epoch and reports: such figures are optimistic."""
        return self.splits.test is None

    def rendered(self, example: Example) -> tuple[str, str]:
        """Prompt and target of an example."""
        return self.task.template.prompt(example.inputs), self.task.target(example)

    def datasets(self) -> dict[SplitName, Dataset]:
        """The sets there are."""
        found: dict[SplitName, Dataset] = {"train": self.splits.train}
        if self.splits.validation is not None:
            found["validation"] = self.splits.validation
        if self.splits.test is not None:
            found["test"] = self.splits.test
        return found

    def dataset(self, split: SplitName) -> Dataset:
        """One set; it must be there."""
        return self.datasets()[split]


def prepare(study_file: Path, overrides: dict[str, object] | None = None) -> Prepared:
    """Read the study file and all its data.

    Raises:
        ConfigError: the study file is not right.
        DataError: rows are not right, or there is nothing to evaluate on.
    """
    return prepare_config(read_study(study_file, overrides), study_file)


def prepare_config(config: StudyConfig, study_file: Path) -> Prepared:
    """Read all data of a study whose settings are known.

    Args:
        study_file: paths are relative to its folder, and errors name it.

    Raises:
        ConfigError: template and task do not agree.
        DataError: rows are not right, or there is nothing to evaluate on.
    """
    fields = input_fields(config, study_file.name)
    entry = TASKS[config.task]
    splits = load_dataset(
        config.data,
        base=study_file.parent,
        input_fields=fields.required,
        optional_fields=fields.optional,
        target_field=entry.target,
        group_field=entry.group_field,
        marking_fields=entry.marking,
        check=entry.check,
    )
    if splits.validation is None and splits.test is None:
        raise DataError(
            Problem(
                where=f"{study_file.name}: data",
                found="there is no validation and no test set",
                remedy="name files for them or set data.split",
            )
        )
    if config.task == "classification" and len(splits.categories) < 2:
        named = "、".join(splits.categories) or "none"
        raise DataError(
            Problem(
                where=f"{study_file.name}: data",
                found=f"there is only one category to choose from ({named}): every answer would be right",
                remedy="check data.columns and data.labels, or name data.categories",
            )
        )
    task = make_task(config, splits.categories)
    return Prepared(
        config=config,
        study_file=study_file,
        folder=StudyFolder(study_folder(config, study_file)),
        splits=splits,
        task=task,
    )


def say_bad_rows(prepared: Prepared, screen: Screen) -> None:
    """How many rows `data.skip_bad_rows` left out, where there are some."""
    if number := prepared.splits.num_bad_rows:
        screen.say(f"{number:,} rows with errors are left out (data.skip_bad_rows)")


def say_grading(prepared: Prepared, screen: Screen) -> None:
    """How the questions of a bank are graded: `graded by: choice 5, number 2, people 6`."""
    if prepared.task.question is None:
        return
    examples = prepared.dataset(prepared.report_on).examples
    counts = Counter(prepared.task.question(example)["grade"] for example in examples)
    screen.say("questions graded by: " + ", ".join(f"{by} {num:,}" for by, num in sorted(counts.items())))


def write_bad_rows(prepared: Prepared, screen: Screen) -> None:
    """Write bad_rows.jsonl, one problem a line, and say so; without bad rows there is no such file."""
    path = prepared.folder.path / "bad_rows.jsonl"
    if not prepared.splits.num_bad_rows:
        with storage(path):
            path.unlink(missing_ok=True)  # of an earlier version of the data
        return
    lines = [json.dumps(asdict(problem), ensure_ascii=False) for problem in prepared.splits.bad_rows]
    write_text(path, "".join(f"{line}\n" for line in lines))
    say_bad_rows(prepared, screen)
    screen.say(f"they are listed in {path}")


def write_prepared(prepared: Prepared, screen: Screen | None = None) -> None:
    """Write study.toml, data.json and bad_rows.jsonl: what the report needs to know beside the runs."""
    config, folder = prepared.config, prepared.folder
    write_text(folder.path / "study.toml", config.to_toml())
    write_bad_rows(prepared, screen or SilentScreen())
    say_grading(prepared, screen or SilentScreen())
    reported = prepared.dataset(prepared.report_on)
    baselines: list[JsonValue] = []
    for baseline in prepared.task.baselines:
        result = evaluate_baseline(
            prepared.task,
            baseline,
            prepared.splits.train.examples,
            reported.examples,
            split=prepared.report_on,
            dataset=reported.fingerprint,
            level=config.evaluation.level,
        )
        baselines.append({"name": baseline.name, "result": asdict(result)})
    folder.write(
        "data.json",
        {
            "task": prepared.task.name,
            "template": prepared.task.template.text,
            "template_fingerprint": prepared.task.template.fingerprint,
            "categories": list(prepared.task.categories),
            "headline": prepared.task.metrics[0].id,
            "splits": {
                split: {
                    "name": dataset.name,
                    "num_examples": len(dataset.examples),
                    "fingerprint": dataset.fingerprint,
                }
                for split, dataset in prepared.datasets().items()
            },
            "notes": list(prepared.splits.notes),
            "baselines": {prepared.report_on: baselines},
            "same_set": prepared.same_set,
        },
    )
