"""Order hint: whether a model finds the choices of known questions likelier in their printed order.

A model that never met a test cannot know in which order it prints its choices, so the printed order is the
likeliest of k + 1 orders about once in k + 1 questions; one that was trained on the test finds it likelier
more often (Oren et al. 2023, "Proving Test Set Contamination in Black Box Language Models",
arXiv:2310.17623, for the order of examples). It is a hint and no more: an order may be natural by itself
("all of these" comes last), and a model that met the test in another form does not show it.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from statistics import fmean
from typing import Any

from scipy.stats import binom

from tenbin.stats import Undefined, t_interval, wilson
from tenbin.tasks.grading.choice import Choice, parse_choices
from tenbin.types import AnswerLikelihood, AnswerLikelihoods, Estimate, Example, Message

MIN_CHOICES = 3
NUMBER = re.compile(r"[-−]?\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """One question: how likely its choices are in their printed order and in others."""

    id: str
    printed: float
    """Nats: log-probability of the list of choices as printed."""
    others: tuple[float, ...]
    """Of the other orders, in nats."""

    @property
    def first(self) -> bool:
        """Whether the printed order is the likeliest."""
        return self.printed > max(self.others)

    @property
    def gap(self) -> float:
        """Printed minus the mean of the others, in nats."""
        return self.printed - fmean(self.others)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderHint:
    """What all questions together say of one model."""

    system: str
    num_orders: int
    """Other orders of each question."""
    expected: float
    """Share of questions by chance: 1 / (num_orders + 1)."""
    share: Estimate | None
    """Questions whose printed order is the likeliest."""
    p_value: float | None
    """Of as many or more by chance (exact binomial, one-sided)."""
    gap: Estimate | None
    """Mean gap in nats."""
    reason: str | None
    """Why there is no share."""
    num_skipped: int
    """Questions that were not asked: less than three different choices, or choices in the order of size."""
    num_errors: int
    """Questions that did not fit the model."""
    rows: tuple[OrderRow, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def hint_from_json(raw: dict[str, Any]) -> OrderHint:
    """A hint as `to_json` wrote it."""
    found = {key: Estimate(*raw[key]) if raw[key] else None for key in ("share", "gap")}
    rows = tuple(OrderRow(**{**row, "others": tuple(row["others"])}) for row in raw["rows"])
    return OrderHint(**{**raw, **found, "rows": rows})


def askable(examples: Sequence[Example]) -> list[Example]:
    """The questions whose choices could as well stand in another order."""
    return [example for example in examples if _has_order(_choices(example))]


def order_hint(
    model: AnswerLikelihoods,
    examples: Sequence[Example],
    *,
    num_orders: int,
    seed: int,
    level: float,
    num_skipped: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> OrderHint:
    """Compare the printed order of every question's choices with `num_orders` drawn ones.

    Labels (A, 1, ア) stay in their places; the texts change theirs.

    Args:
        examples: of `askable`, with `question` or `text` as the question.
    """
    pairs: list[tuple[list[Message], str]] = []
    owners: list[int] = []
    for number, example in enumerate(examples):
        prompt = [Message("user", f"{example.inputs.get('question') or example.inputs.get('text', '')}\n")]
        for listed in _orders(_choices(example), num_orders, f"{seed}\0{example.id}"):
            pairs.append((prompt, listed))
            owners.append(number)
    found: dict[int, AnswerLikelihood] = {}
    for place, likelihood in model.answer_likelihoods(pairs):
        found[place] = likelihood
        on_progress(len(found), len(pairs))
    by_question: dict[int, list[float | None]] = {}
    for place, number in enumerate(owners):
        by_question.setdefault(number, []).append(found[place].nats)
    rows = []
    for number, nats in by_question.items():
        known = [value for value in nats if value is not None]
        if len(known) == len(nats):
            rows.append(OrderRow(id=examples[number].id, printed=known[0], others=tuple(known[1:])))
    return _sum_up(model.model_id, rows, num_orders, level, num_skipped, len(by_question) - len(rows))


def _sum_up(
    system: str, rows: Sequence[OrderRow], num_orders: int, level: float, num_skipped: int, num_errors: int
) -> OrderHint:
    expected = 1 / (num_orders + 1)
    num_first = sum(row.first for row in rows)
    share = wilson(num_first, len(rows), level=level)
    gap = t_interval([row.gap for row in rows], level=level)
    return OrderHint(
        system=system,
        num_orders=num_orders,
        expected=expected,
        share=share if isinstance(share, Estimate) else None,
        p_value=float(binom.sf(num_first - 1, len(rows), expected)) if rows else None,
        gap=gap if isinstance(gap, Estimate) else None,
        reason=share.reason if isinstance(share, Undefined) else None,
        num_skipped=num_skipped,
        num_errors=num_errors,
        rows=tuple(rows),
    )


def _choices(example: Example) -> tuple[Choice, ...]:
    return parse_choices(example.inputs.get("choices", "")).items


def _has_order(choices: Sequence[Choice]) -> bool:
    """Whether there are three different choices or more that do not stand in the order of size."""
    texts = [choice.text for choice in choices]
    if len(texts) < MIN_CHOICES or len(set(texts)) < len(texts):
        return False
    numbers = [NUMBER.search(text) for text in texts]
    values = [float(n.group().replace("−", "-").replace(",", "")) for n in numbers if n and _is_number(n)]
    return len(values) < len(texts) or values not in (sorted(values), sorted(values, reverse=True))


def _is_number(match: re.Match[str]) -> bool:
    return match.group().count(".") <= 1


def _orders(choices: Sequence[Choice], num: int, key: str) -> list[str]:
    """The list of choices as printed, then in `num` other orders."""
    texts = [choice.text for choice in choices]
    drawn = random.Random(key)  # seeded by text: the same in every process
    chosen = [tuple(texts)]
    if len(texts) <= 4:  # 24 orders at most: all of them, shuffled
        others = [order for order in permutations(texts) if order != tuple(texts)]
        drawn.shuffle(others)
        chosen += others[:num]
    while len(chosen) <= num:
        order = tuple(drawn.sample(texts, len(texts)))
        if order not in chosen:
            chosen.append(order)
    return [
        "\n".join(_line(c.label, text) for c, text in zip(choices, order, strict=True)) for order in chosen
    ]


def _line(label: str | None, text: str) -> str:
    return f"{label}. {text}" if label else text
