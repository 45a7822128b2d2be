"""Inspection: what the sets of a study hold, and what is doubtful about them, before anything is trained."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenbin.data.personal import find_personal
from tenbin.data.similarity import near_duplicates
from tenbin.data.splits import Leak, Splits, content_key, find_leaks
from tenbin.types import Example, SplitName

TokenCounter = Callable[[Sequence[str]], Sequence[int]]
"""Texts -> number of tokens of each, without special tokens."""
CUT_LENGTHS = (256, 512, 1024, 1700, 2048, 4096)
NUM_BINS = 40
MAX_PLACES = 5
NEAR = 0.8
CHARACTERS = "characters"
REFERENCE = "reference"
WHOLE = "whole example"
PROMPT = "prompt"
MIN_CACHED = 200
"""Texts worth remembering: passages come again with every question, short texts hardly."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Lengths of one field in one set."""

    split: SplitName
    field: str
    """An input field, `reference` (the first one), or `whole example` (all inputs and the first reference,
    or the rendered prompt and target where a renderer was given)."""
    unit: str
    """`characters`, or the name of the model whose tokens they are."""
    num: int
    mean: float
    median: float
    max: int
    edges: tuple[int, ...]
    """Edges of the histogram's bins, one more than bins; the last bin reaches to the maximum and holds the
    longest percent, so that a few long texts do not squeeze the others into one bar."""
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What a maximum length would cut, for one model and one set."""

    split: SplitName
    model: str
    max_length: int
    """In tokens."""
    rows: float
    """Share of examples longer than it: some of the answer, which stands last, would be cut."""
    answers: float
    """Share of examples whose inputs alone fill it: nothing of the answer would be left."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything `tenbin inspect` shows; `to_json` for a file."""

    task: str
    num_examples: Mapping[str, int]
    """Set -> examples."""
    num_groups: Mapping[str, int]
    fingerprints: Mapping[str, str]
    categories: Mapping[str, Mapping[str, int]]
    """Set -> category -> examples; empty for other tasks."""
    lengths: tuple[Lengths, ...]
    tokens_per_character: Mapping[str, float]
    """Model -> tokens of all fields / their characters. Fewer is cheaper and leaves more room."""
    cuts: tuple[Cut, ...]
    leaks: tuple[Leak, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def inspect_splits(
    splits: Splits,
    task_name: str,
    tokenizers: Mapping[str, TokenCounter] | None = None,
    render: Callable[[Example], tuple[str, str]] | None = None,
) -> Inspection:
    """Look at every example of a study.

    Args:
        splits: the sets.
        task_name: `classification` looks at categories, `reading` at answers and passages.
        tokenizers: model -> counter of tokens.
        render: example -> (prompt, target) of the study's template, for the lengths of whole examples.
    """
    sets = dict(splits.sets())
    lengths: list[Lengths] = []
    cuts: list[Cut] = []
    totals: Counter[str] = Counter()
    for name, dataset in sets.items():
        for model, counter in {CHARACTERS: _characters, **(tokenizers or {})}.items():
            fields = _field_lengths(dataset.examples, _cached(counter), render)
            totals[model] += sum(int(v.sum()) for field, v in fields.items() if field not in (WHOLE, PROMPT))
            lengths += [_summary(name, f, model, values) for f, values in fields.items() if f != PROMPT]
            if model != CHARACTERS and len(dataset):
                cuts += _cuts(name, model, fields[WHOLE], fields[PROMPT])
    characters = totals.pop(CHARACTERS)
    return Inspection(
        task=task_name,
        num_examples={name: len(dataset) for name, dataset in sets.items()},
        num_groups={name: dataset.num_groups for name, dataset in sets.items()},
        fingerprints={name: dataset.fingerprint for name, dataset in sets.items()},
        categories=(
            {name: dataset.category_counts for name, dataset in sets.items()}
            if task_name == "classification"
            else {}
        ),
        lengths=tuple(lengths),
        tokens_per_character={model: total / characters for model, total in totals.items() if characters},
        cuts=tuple(cuts),
        leaks=find_leaks(splits),
        findings=tuple(_findings(splits, task_name)),
        notes=splits.notes,
    )


def _characters(texts: Sequence[str]) -> Sequence[int]:
    return [len(text) for text in texts]


def _cached(counter: TokenCounter) -> Callable[[Sequence[str]], Ints]:
    """Counts each different text once: passages come again with every question."""

    def count(texts: Sequence[str]) -> Ints:
        different = list(dict.fromkeys(texts))
        known = dict(zip(different, counter(different), strict=True))
        return np.array([known[text] for text in texts], np.int64)

    return count


def _field_lengths(
    examples: Sequence[Example],
    count: Callable[[Sequence[str]], Ints],
    render: Callable[[Example], tuple[str, str]] | None,
) -> dict[str, Ints]:
    """Field -> lengths, (examples,); with `prompt` (inputs or rendered prompt) and `whole example`."""
    names = list(dict.fromkeys(name for example in examples for name in example.inputs))
    fields = {name: count([example.inputs.get(name, "") for example in examples]) for name in names}
    targets = count([example.references[0] if example.references else "" for example in examples])
    if render is None:
        prompt = sum(fields.values(), np.zeros(len(examples), np.int64))
        whole = prompt + targets
    else:
        pairs = [render(example) for example in examples]
        prompt = count([text for text, _ in pairs])
        whole = prompt + count([target for _, target in pairs])
    return {**fields, REFERENCE: targets, PROMPT: prompt, WHOLE: whole}


def _summary(split: SplitName, field: str, unit: str, values: Ints) -> Lengths:
    edges, counts = histogram(values)
    return Lengths(
        split=split,
        field=field,
        unit=unit,
        num=len(values),
        mean=float(values.mean()) if len(values) else 0.0,
        median=float(np.median(values)) if len(values) else 0.0,
        max=int(values.max()) if len(values) else 0,
        edges=edges,
        counts=counts,
    )


def histogram(values: Ints) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(Edges, counts) of at most 40 bins of equal width up to the 99th percentile, and one for the rest."""
    if not len(values):
        return (0, 1), (0,)
    top = int(np.percentile(values, 99)) + 1
    width = max(1, -(-top // NUM_BINS))
    edges = list(range(0, top + width, width))
    if int(values.max()) >= edges[-1]:
        edges.append(int(values.max()) + 1)
    counts, _ = np.histogram(values, edges)
    return tuple(edges), tuple(int(n) for n in counts)


def _cuts(split: SplitName, model: str, whole: Ints, prompt: Ints) -> list[Cut]:
    return [
        Cut(
            split=split,
            model=model,
            max_length=length,
            rows=float((whole > length).mean()),
            answers=float((prompt >= length).mean()),
        )
        for length in CUT_LENGTHS
    ]


def _findings(splits: Splits, task_name: str) -> list[Finding]:
    found: list[Finding] = []
    for name, dataset in splits.sets():
        found += _repeats(name, dataset.examples, task_name)
        if task_name == "reading":
            found += _answers_elsewhere(name, dataset.examples)
        found += _personal(name, dataset.examples)
    return found + _near_duplicates(splits)


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
                f"different {field} texts that share {NEAR:.0%} of their 3-grams with another one"
                if one == two
                else f"{field} texts of {two} that share {NEAR:.0%} of their 3-grams with one of {one}"
            ),
            places=tuple(places[:MAX_PLACES]),
        )
        for (one, two), places in by_sets.items()
    ]


def _main_field(examples: Sequence[Example]) -> str | None:
    """The input with the most text."""
    totals: Counter[str] = Counter()
    for example in examples:
        for name, text in example.inputs.items():
            totals[name] += len(text)
    return totals.most_common(1)[0][0] if totals else None
