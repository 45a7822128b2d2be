"""Item: one answer to one question as a grader sees it, whichever systems gave it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenbin.errors import DataError, Problem
from tenbin.grading.store import AnswerKey
from tenbin.runs import DO_AGAIN, Run, RunResult, StudyFolder
from tenbin.types import EvalRow

NOT_OF_THE_VERSION = ("category", "points", "grade", "tolerance", "unit")
"""Fields whose change leaves the grades of people and judges as good as they were."""
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Of codes: no vowels (no words), no digits (Excel makes numbers and dates of those)."""
CODE_LETTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One answer to one question. Equal answers of several systems are one item, graded once."""

    question: str
    """Id of the question."""
    version: str
    """First 12 hex digits of the SHA-256 of the question, its references and its marking note."""
    answer: str
    """The whole completion; "" where the system said nothing."""
    extracted: str | None
    """What the task took from the completion; None = unparsed."""
    fields: Mapping[str, str]
    """question, context, choices, category, marking_note, points, grade, tolerance, unit: those that the row
    of the bank has."""
    references: tuple[str, ...]
    systems: tuple[str, ...]
    """Run ids of the systems that gave it. Never shown to a grader."""

    @property
    def key(self) -> AnswerKey:
        """What grades of it carry."""
        return (self.question, self.version, self.answer)

    @property
    def code(self) -> str:
        """Eight letters that stand for the answer on a sheet and tell nothing of who gave it."""
        digest = hashlib.sha256(json.dumps(self.key).encode()).digest()
        number = int.from_bytes(digest[:8], "big")
        letters = ""
        for _ in range(CODE_LETTERS):
            number, place = divmod(number, len(LETTERS))
            letters += LETTERS[place]
        return letters


def answer_key(row: EvalRow) -> AnswerKey:
    """What grades of this row's answer carry."""
    return (row.id, question_version(row.question, row.references), row.completion)


def question_version(fields: Mapping[str, str], references: Sequence[str]) -> str:
    """Fingerprint of a question as its grader sees it: other words need other grades."""
    seen = {name: text for name, text in fields.items() if name not in NOT_OF_THE_VERSION and text}
    text = json.dumps([sorted(seen.items()), list(references)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def collect_items(runs: Sequence[Run]) -> tuple[Item, ...]:
    """The answers of finished runs to the questions of a bank, in the order of the bank; those of one
    question in the order of the runs. Rows without a completion (errors) are not answers.

    Raises:
        DataError: predictions that are not whole, or runs without a bank's questions.
    """
    found: dict[AnswerKey, Item] = {}
    systems: dict[AnswerKey, list[str]] = {}
    order: dict[str, int] = {}
    for run in runs:
        for row in reported_rows(run, run.result()):
            order.setdefault(row.id, len(order))
            if row.error is not None or not row.question:
                continue
            key = answer_key(row)
            systems.setdefault(key, []).append(run.path.name)
            found.setdefault(
                key,
                Item(
                    question=row.id,
                    version=key[1],
                    answer=row.completion,
                    extracted=row.answer,
                    fields=row.question,
                    references=row.references,
                    systems=(),
                ),
            )
    items = [
        Item(
            question=item.question,
            version=item.version,
            answer=item.answer,
            extracted=item.extracted,
            fields=item.fields,
            references=item.references,
            systems=tuple(systems[key]),
        )
        for key, item in found.items()
    ]
    return tuple(sorted(items, key=lambda item: order[item.question]))


def finished_runs(study: StudyFolder) -> list[Run]:
    """The runs of a study folder that have a result.

    Raises:
        DataError: where there is none.
    """
    runs = [run for run in study.runs() if run.done]
    if not runs:
        found = "there is no finished run in this folder"
        remedy = "name the folder that `tenbin run` or `tenbin eval` wrote"
        raise DataError(Problem(where=str(study.path), found=found, remedy=remedy))
    return runs


def reporting_split(result: RunResult) -> str:
    """The set whose figures are reported: test, where the run has it."""
    return "test" if "test" in result.results else next(iter(result.results), "validation")


def reported_rows(run: Run, result: RunResult, split: str | None = None) -> tuple[EvalRow, ...]:
    """The rows behind a run's reported result; a run without a test set has them under its best epoch.

    Raises:
        DataError: where they are not those of the result.
    """
    split = split or reporting_split(result)
    rows = run.read_rows(split)
    if not rows and result.best_epoch is not None:
        rows = run.read_rows(f"{split}-epoch-{result.best_epoch:02d}")
    expected = result.results[split].num_examples
    if len(rows) != expected:
        found = f"{len(rows)} rows of predictions, where the result is of {expected}"
        raise DataError(Problem(where=f"{run.path}: {split}", found=found, remedy=DO_AGAIN))
    return rows
