"""Inspection: what the sets of a study hold, and what is doubtful about them, before anything is trained."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenbin.data.findings import Finding, find_doubts
from tenbin.data.splits import Leak, Splits, find_leaks
from tenbin.types import Example, SplitName

TokenCounter = Callable[[Sequence[str]], Sequence[int]]
"""Texts -> number of tokens of each, without special tokens."""
CUT_LENGTHS = (256, 512, 1024, 1700, 2048, 4096)
NUM_BINS = 40
CHARACTERS = "characters"
REFERENCE = "reference"
WHOLE = "whole example"
PROMPT = "prompt"

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
        findings=tuple(find_doubts(splits, task_name)),
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
