"""Pairs: two systems' answers side by side, each pair in both positions, so that the place cannot win."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tenbin.grading.items import Item
from tenbin.judge.grading import Judging
from tenbin.judge.prompt import JudgePrompt, pair_prompt
from tenbin.judge.verdict import read_better
from tenbin.stats import Undefined, estimate, mcnemar
from tenbin.types import Completion, Estimate, GenerationConfig, Generator

Outcome = Literal["first", "second", "same", "position", "unparsed", "error"]
"""first, second: chosen in both positions; same: called equal in both, or once equal and once chosen;
position: the other one was chosen when they changed places; unparsed, error: one of the two judgements."""
DECIDED: tuple[Outcome, ...] = ("first", "second", "same", "position")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """One question on which two systems differ, judged in both positions."""

    question: str
    version: str
    first_answer: str
    second_answer: str
    outcome: Outcome
    reasons: tuple[str, str]
    completions: tuple[str, str]
    """The judge's: as first and second, then swapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairResult:
    """Two systems over all questions that both answered."""

    first: str
    """Run id."""
    second: str
    judge: str
    source: str
    """Settings of the judge."""
    num_equal: int
    """Questions to which both gave the same answer, word for word: not judged, and no win."""
    rows: tuple[PairRow, ...]

    def count(self, outcome: Outcome) -> int:
        """Judged questions with this outcome."""
        return sum(row.outcome == outcome for row in self.rows)

    def share(self, level: float) -> Estimate | None:
        """Share of questions on which the first is better; ties and changes with the position count half.

        None where nothing was judged.
        """
        worth = {"first": 1.0, "second": 0.0, "same": 0.5, "position": 0.5}
        values = [worth[row.outcome] for row in self.rows if row.outcome in worth] + [0.5] * self.num_equal
        found = estimate(values, kind="mean", level=level) if values else Undefined("nothing was judged")
        return found if isinstance(found, Estimate) else None

    def p_value(self) -> float:
        """Of the wins in both positions (exact McNemar)."""
        return mcnemar(self.count("first"), self.count("second")).p_value

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def pair_from_json(raw: dict[str, Any]) -> PairResult:
    """A result as `to_json` wrote it."""
    rows = tuple(
        PairRow(**{**row, "reasons": tuple(row["reasons"]), "completions": tuple(row["completions"])})
        for row in raw["rows"]
    )
    return PairResult(**{**raw, "rows": rows})


def judge_pair(
    first: str,
    second: str,
    items: Sequence[Item],
    judge: Generator,
    how: Judging,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PairResult:
    """Compare two runs on every question that both answered.

    Args:
        first, second: run ids.
        items: the answers of the study (`collect_items`).
    """
    by_first = {(item.question, item.version): item for item in items if first in item.systems}
    by_second = {(item.question, item.version): item for item in items if second in item.systems}
    both = [key for key in by_first if key in by_second]
    differing = [(by_first[key], by_second[key]) for key in both if by_first[key] is not by_second[key]]
    prompts = [prompt for a, b in differing for prompt in pair_prompts(a, b, how)]
    completions: list[Completion | None] = [None] * len(prompts)
    config = GenerationConfig(max_new_tokens=how.max_new_tokens)
    answered = judge.generate([prompt.messages for prompt in prompts], config)
    for done, (index, completion) in enumerate(answered, start=1):
        completions[index] = completion
        on_progress(done, len(prompts))
    rows = []
    for place, (a, b) in enumerate(differing):
        said = [c for c in completions[2 * place : 2 * place + 2] if c is not None]
        rows.append(_row(a, b, prompts[2 * place : 2 * place + 2], said))
    return PairResult(
        first=first,
        second=second,
        judge=how.grader,
        source=how.source,
        num_equal=len(both) - len(differing),
        rows=tuple(rows),
    )


def pair_prompts(a: Item, b: Item, how: Judging) -> list[JudgePrompt]:
    """Both answers side by side, in both positions."""
    shown = {name: a.fields.get(name, "") for name in ("question", "context", "choices", "marking_note")}
    return [
        pair_prompt(shown, a.references, one.answer, other.answer, seed=how.seed, name=name)
        for one, other, name in ((a, b, "as given"), (b, a, "swapped"))
    ]


def _row(a: Item, b: Item, prompts: Sequence[JudgePrompt], said: Sequence[Completion]) -> PairRow:
    verdicts = [read_better(c.text, prompt.code) for c, prompt in zip(said, prompts, strict=True)]
    errors = [c.error for c in said if c.error is not None]
    chosen = [v.value for v in verdicts]
    return PairRow(
        question=a.question,
        version=a.version,
        first_answer=a.answer,
        second_answer=b.answer,
        outcome="error" if errors else pair_outcome(chosen[0], chosen[1]),
        reasons=(verdicts[0].reason, verdicts[1].reason),
        completions=(said[0].text, said[1].text),
    )


def pair_outcome(as_given: object, swapped: object) -> Outcome:
    """What two verdicts come to: the first with the first system as A, the second with it as B."""
    if as_given is None or swapped is None:
        return "unparsed"
    one = {"A": "first", "B": "second"}.get(str(as_given), "same")
    other = {"A": "second", "B": "first"}.get(str(swapped), "same")
    if one == other:
        return "first" if one == "first" else "second" if one == "second" else "same"
    return "same" if "same" in (one, other) else "position"
