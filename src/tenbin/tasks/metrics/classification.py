"""Metrics of classification, and the two readings of "the first word is the category"."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tenbin.errors import ConfigError, Problem
from tenbin.tasks.base import Metric, Scored
from tenbin.tasks.normalize import nfkc
from tenbin.types import Example

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Counts of kinds (B, U) -> values (B,); NaN = undefined."""


@dataclass(frozen=True, slots=True)
class ResampleTable:
    """A metric as a function of counts, so that a bootstrap of thousands of rows takes milliseconds.

    A kind is a pair (reference, answer) that occurs; `tenbin.stats.bootstrap` takes the three fields.
    """

    codes: NDArray[np.intp]
    """(n,) kind of each example."""
    statistic: Statistic
    bounds: tuple[float, float]
    """Lowest and highest value of the metric."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """The distinct (reference, answer) pairs of some examples, categories as numbers."""

    references: NDArray[np.intp]
    """(U,)"""
    answers: NDArray[np.intp]
    """(U,), -1 = unparsed: wrong, and no category."""
    num_categories: int

    def totals(self, counts: Floats) -> tuple[Floats, Floats, Floats]:
        """By category, each (B, K): examples whose reference it is, that were answered so, and rightly so."""
        categories = np.arange(self.num_categories)
        of_reference = (self.references[:, None] == categories).astype(np.float64)
        of_answer = (self.answers[:, None] == categories).astype(np.float64)
        return counts @ of_reference, counts @ of_answer, counts @ (of_reference * of_answer)


def accuracy(kinds: Kinds, counts: Floats) -> Floats:
    """Share of the examples with the right category. 3 of 4: 0.75."""
    return np.asarray(counts @ (kinds.references == kinds.answers) / counts.sum(axis=1))


def balanced_accuracy(kinds: Kinds, counts: Floats) -> Floats:
    """Mean over the categories that are a reference of the share of their examples that is right.

    Source: jp-stable, scikit-learn. References + + + - -, answers - + + - +: (2/3 + 1/2)/2 = 0.5833.
    """
    references, _, right = kinds.totals(counts)
    present = references > 0
    shares = np.divide(right, references, out=np.zeros_like(right), where=present)
    return np.asarray(shares.sum(axis=1) / present.sum(axis=1))


def macro_f1(kinds: Kinds, counts: Floats) -> Floats:
    """Mean of the categories' F1 = 2 right/(references + answers), over those that are a reference or an
    answer (scikit-learn). An unparsed answer is an error of its reference, not one more category.

    9 times + and once -, always answered +: (18/19 + 0)/2 = 0.4737.
    """
    references, answers, right = kinds.totals(counts)
    present = references + answers > 0
    scores = np.divide(2 * right, references + answers, out=np.zeros_like(right), where=present)
    return np.asarray(scores.sum(axis=1) / present.sum(axis=1))


def mcc(kinds: Kinds, counts: Floats) -> Floats:
    """Matthews correlation for K categories: (c s - Σ p t)/√((s² - Σ p²)(s² - Σ t²)), s examples, c right,
    t and p how often a category is the reference and the answer (Gorodkin 2004; scikit-learn).

    Where all references or all answers are one category it is 0 by convention, the value of an answer
    that tells nothing. Unparsed answers count as one more answered category. + + - -, answered
    + - - -: (3*4 - (1*2 + 3*2))/√((16 - 10)(16 - 8)) = 0.5774.
    """
    references, answers, right = kinds.totals(counts)
    total = counts.sum(axis=1)
    unparsed = total - answers.sum(axis=1)
    covariance = right.sum(axis=1) * total - (references * answers).sum(axis=1)
    spread_answers = total**2 - (answers**2).sum(axis=1) - unparsed**2
    spread_references = total**2 - (references**2).sum(axis=1)
    scale = np.sqrt(spread_answers * spread_references)
    return np.asarray(np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0))


BY_COUNTS: dict[str, tuple[Callable[[Kinds, Floats], Floats], tuple[float, float]]] = {
    "accuracy": (accuracy, (0.0, 1.0)),
    "balanced_accuracy": (balanced_accuracy, (0.0, 1.0)),
    "macro_f1": (macro_f1, (0.0, 1.0)),
    "mcc": (mcc, (-1.0, 1.0)),
}


def resample_tables(metric_id: str, systems: Sequence[Sequence[Scored]]) -> tuple[ResampleTable, ...] | None:
    """One table a system, with common codes, so that systems can be paired; None if the metric is not one
    of counts (accuracy, balanced_accuracy, macro_f1, mcc)."""
    if metric_id not in BY_COUNTS:
        return None
    function, bounds = BY_COUNTS[metric_id]
    pairs = [[(s.example.references[0], s.answer) for s in system] for system in systems]
    named = {text for system in pairs for pair in system for text in pair if text is not None}
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(sorted(named))}
    numbers[None] = -1
    codes = {pair: code for code, pair in enumerate(dict.fromkeys(p for system in pairs for p in system))}
    kinds = Kinds(
        references=np.array([numbers[reference] for reference, _ in codes], dtype=np.intp),
        answers=np.array([numbers[answer] for _, answer in codes], dtype=np.intp),
        num_categories=len(named),
    )

    def statistic(counts: Floats) -> Floats:
        # Counts stop at the last kind that the resampled system has.
        padded = np.pad(counts, ((0, 0), (0, len(codes) - counts.shape[1])))
        return function(kinds, padded)

    return tuple(
        ResampleTable(np.array([codes[pair] for pair in system], dtype=np.intp), statistic, bounds)
        for system in pairs
    )


def resample_table(metric_id: str, scored: Sequence[Scored]) -> ResampleTable | None:
    """The table of one system; None if the metric is not one of counts."""
    tables = resample_tables(metric_id, [scored])
    return None if tables is None else tables[0]


def _aggregate(metric_id: str, scored: Sequence[Scored]) -> float | None:
    table = resample_table(metric_id, scored) if scored else None
    if table is None:
        return None
    return float(table.statistic(np.bincount(table.codes)[None].astype(np.float64))[0])


def right_category(answer: str | None, example: Example) -> float:
    """1 if the answer is the example's category, else 0; unparsed is wrong."""
    return float(answer is not None and answer == example.references[0])


def first_word(categories: Sequence[str], *, strict: bool = False) -> Callable[[str], str | None]:
    """A `Task.parse`: the category that a completion begins with; None = unparsed.

    The paper takes "the first word" and does not say how it reads `negative.` or `Positive`.
    strict   the text up to the first white space is the category, letter for letter
    lenient  after NFKC, lower case and stripping, the longest category that the text begins with and
             that no further ASCII letter follows: `NEGATIVE`, `negative.`, `ポジティブです` are read

    Raises:
        ConfigError: if two categories cannot be told apart, or one is empty or holds white space (strict).
    """
    _check_categories(categories, strict)
    if strict:
        exact = frozenset(categories)

        def read_strictly(completion: str) -> str | None:
            pieces = completion.split(maxsplit=1)
            return pieces[0] if pieces and pieces[0] in exact else None

        return read_strictly
    folded = {_fold(category): category for category in categories}
    longest_first = sorted(folded, key=len, reverse=True)
    beginning = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")(?![a-z])")

    def read_leniently(completion: str) -> str | None:
        match = beginning.match(_fold(completion))
        return folded[match.group(1)] if match else None

    return read_leniently


def _fold(text: str) -> str:
    return nfkc(text).lower().strip()


def _check_categories(categories: Sequence[str], strict: bool) -> None:
    problems = []
    seen: dict[str, str] = {}
    for category in categories:
        key = category if strict else _fold(category)
        if not key or (strict and len(category.split()) != 1):
            found, remedy = f"{category!r} cannot be read as a first word", "name each category by one word"
        elif key in seen:
            found, remedy = f"{category!r} and {seen[key]!r} read alike", "rename one of the categories"
        else:
            seen[key] = category
            continue
        problems.append(Problem(where="categories", found=found, remedy=remedy))
    if not seen and not problems:
        problems.append(Problem(where="categories", found="there are none", remedy="name the categories"))
    if problems:
        raise ConfigError(problems)


def category_metrics() -> tuple[Metric, ...]:
    """All metrics of this file."""
    wrong = "unparsed is wrong"
    table = (
        ("accuracy", "accuracy", f"share of right categories; {wrong}", "proportion"),
        (
            "balanced_accuracy",
            "balanced accuracy",
            f"mean recall of the categories present; {wrong}",
            "bootstrap",
        ),
        ("macro_f1", "macro F1", f"mean F1 of the categories present (scikit-learn); {wrong}", "bootstrap"),
        ("mcc", "MCC", f"Matthews correlation, 0 for a constant answer (scikit-learn); {wrong}", "bootstrap"),
    )
    return tuple(
        Metric(
            id=id_,
            name=name,
            definition=definition,
            score=right_category,
            aggregate=partial(_aggregate, id_),
            interval="proportion" if interval == "proportion" else "bootstrap",
        )
        for id_, name, definition, interval in table
    )
