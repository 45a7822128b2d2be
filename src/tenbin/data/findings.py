"""Findings: what is doubtful about examples: repeats, conflicts, lost answers, personal data."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tenbin.data.overlap import RUN, find_overlap, training_runs
from tenbin.data.personal import find_personal
from tenbin.data.similarity import near_duplicates
from tenbin.data.splits import Splits, content_key
from tenbin.types import Example, SplitName

MAX_PLACES = 5
NEAR = 0.8
"""Least Jaccard similarity of near duplicates."""
MIN_CACHED = 200
"""Texts worth remembering: passages come again with every question, short texts hardly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something doubtful about the examples; `places` names at most five."""

    kind: str
    split: SplitName | None
    """None where it concerns several sets."""
    num: int
    """What is counted is said in `text`."""
    text: str
    places: tuple[str, ...] = ()


def find_doubts(splits: Splits, task_name: str) -> list[Finding]:
    """Everything doubtful in the sets and between them, leaks of equal texts aside (see `find_leaks`)."""
    found: list[Finding] = []
    for name, dataset in splits.sets():
        found += _repeats(name, dataset.examples, task_name)
        if task_name == "reading":
            found += _answers_elsewhere(name, dataset.examples)
        found += _personal(name, dataset.examples)
    return found + _near_duplicates(splits) + _overlaps(splits)


def _place(example: Example) -> str:
    return example.source or example.id


def _repeats(name: SplitName, examples: Sequence[Example], task_name: str) -> list[Finding]:
    """Examples whose inputs are equal after NFKC, and those of them whose categories differ."""
    by_content: dict[str, list[Example]] = {}
    for example in examples:
        by_content.setdefault(content_key(example), []).append(example)
    several = [group for group in by_content.values() if len(group) > 1]
    found = []
    if several:
        extra = sum(len(group) - 1 for group in several)
        found.append(
            Finding(
                kind="duplicates",
                split=name,
                num=extra,
                text="examples whose inputs another one has already (after NFKC)",
                places=tuple(" = ".join(map(_place, group[:2])) for group in several[:MAX_PLACES]),
            )
        )
    conflicts = [group for group in several if len({example.references for example in group}) > 1]
    if conflicts and task_name == "classification":
        found.append(
            Finding(
                kind="conflicting categories",
                split=name,
                num=sum(map(len, conflicts)),
                text="examples with equal inputs and different categories",
                places=tuple(_conflict(group) for group in conflicts[:MAX_PLACES]),
            )
        )
    return found


def _conflict(group: Sequence[Example]) -> str:
    first = group[0]
    other = next(example for example in group if example.references != first.references)
    return ", ".join(f"{_place(e)}: {'/'.join(e.references) or '(none)'}" for e in (first, other))


def _answers_elsewhere(name: SplitName, examples: Sequence[Example]) -> list[Finding]:
    found = [e for e in examples if any(r not in e.inputs.get("passage", "") for r in e.references)]
    if not found:
        return []
    return [
        Finding(
            kind="answers not in the passage",
            split=name,
            num=len(found),
            text="examples with an answer that is not in its passage word for word",
            places=tuple(map(_place, found[:MAX_PLACES])),
        )
    ]


def _personal(name: SplitName, examples: Sequence[Example]) -> list[Finding]:
    counts: Counter[str] = Counter()
    places: dict[str, list[str]] = {}
    seen: dict[str, bool] = {}
    for example in examples:
        for text in (*example.inputs.values(), *example.references):
            if seen.get(text) is False:
                continue
            finds = list(find_personal(text))
            if len(text) > MIN_CACHED:
                seen[text] = bool(finds)
            for find in finds:
                counts[find.kind] += 1
                places.setdefault(find.kind, []).append(f"{_place(example)}: {find.masked}")
    return [
        Finding(
            kind=kind,
            split=name,
            num=number,
            text=f"places that look like personal data: {kind}",
            places=tuple(dict.fromkeys(places[kind]))[:MAX_PLACES],
        )
        for kind, number in counts.most_common()
    ]


def _near_duplicates(splits: Splits) -> list[Finding]:
    """Near duplicates in one set, and between sets, of the longest input field."""
    field = _main_field(splits.train.examples)
    if field is None:
        return []
    first: dict[str, tuple[SplitName, Example]] = {}
    for name, dataset in splits.sets():
        for example in dataset:
            first.setdefault(unicodedata.normalize("NFKC", example.inputs.get(field, "")), (name, example))
    owners = list(first.values())
    pairs = near_duplicates(list(first), NEAR)
    by_sets: dict[tuple[SplitName, SplitName], list[str]] = {}
    members: dict[tuple[SplitName, SplitName], set[int]] = {}
    for pair in sorted(pairs, key=lambda pair: -pair.similarity):
        (one, a), (two, b) = owners[pair.first], owners[pair.second]
        key = (one, two)
        by_sets.setdefault(key, []).append(f"{_place(a)} ~ {_place(b)} ({pair.similarity:.2f})")
        members.setdefault(key, set()).update((pair.second,) if one != two else (pair.first, pair.second))
    return [
        Finding(
            kind="near duplicates" if one == two else "near duplicates across sets",
            split=one if one == two else None,
            num=len(members[one, two]),
            text=(
                f"different texts in {field!r} that share {NEAR:.0%} of their 3-grams with another one"
                if one == two
                else f"texts in {field!r} of {two} that share {NEAR:.0%} of their 3-grams with one of {one}"
            ),
            places=tuple(places[:MAX_PLACES]),
        )
        for (one, two), places in by_sets.items()
    ]


def _overlaps(splits: Splits) -> list[Finding]:
    """Runs of characters that other sets share with the training data."""
    others = [(name, dataset) for name, dataset in splits.sets() if name != "train"]
    known = training_runs(splits.train.examples) if others else None
    found = []
    for name, dataset in others:
        assert known is not None
        overlap = find_overlap(known, dataset.examples)
        if overlap.num_shared:
            short = f"; {overlap.num_short:,} are too short to compare" if overlap.num_short else ""
            found.append(
                Finding(
                    kind="overlap with the training data",
                    split=name,
                    num=overlap.num_shared,
                    text=f"of {len(dataset):,} examples share {RUN} or more characters in a row with a"
                    f" training text, {overlap.num_half:,} of them with more than half of their"
                    f" characters{short}; tuned scores on them may be memory",
                    places=tuple(f"{place} ({share:.0%})" for place, share in overlap.places[:MAX_PLACES]),
                )
            )
    return found


def _main_field(examples: Sequence[Example]) -> str | None:
    """The input with the most text."""
    totals: Counter[str] = Counter()
    for example in examples:
        for name, text in example.inputs.items():
            totals[name] += len(text)
    return totals.most_common(1)[0][0] if totals else None
