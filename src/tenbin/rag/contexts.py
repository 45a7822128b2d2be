"""Contexts: texts of a given length, the needed passage at a given depth among distractors, or left out."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from tenbin.rag.bm25 import Bm25
from tenbin.rag.passages import Passage, plain, sentences, total_characters
from tenbin.types import Example

SEPARATOR = "\n\n"
SHORT = 0.9
"""A text of less than this share of the length asked for is not called one of that length."""
Condition = Literal["alone", "present", "absent"]
"""alone: the needed passage and nothing else; present: among others; absent: only the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One text that a question is asked about."""

    example: Example
    condition: Condition
    length: int
    """Characters asked for; 0 = the needed passage alone."""
    depth: float | None
    """Place asked for, 0 = first, 1 = last; None where the needed passage is not there or alone."""
    text: str
    needed: str
    """The needed passage; "" where it is left out."""
    others: tuple[str, ...]
    """The distractors, in order."""
    found_depth: float | None
    """Where it really stands: passages are not torn apart to make room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impossible:
    """A length that a question cannot be asked at, and why. Nothing is cut to make it fit."""

    example_id: str
    length: int
    condition: Condition
    reason: str


def build_contexts(
    examples: Sequence[Example],
    field: str,
    passages: Sequence[Passage],
    *,
    lengths: Sequence[int],
    depths: Sequence[float],
    absent: bool,
    near: bool = True,
    seed: int = 0,
) -> tuple[list[Context], list[Impossible]]:
    """Every question at every length and depth.

    Distractors are passages that hold none of the question's references (letters and digits compared, after
    NFKC), so that the answer stands in one place only. They are taken in the order of BM25 to the question,
    whole, and of the last one as many leading sentences as fit; then they are shuffled, so that the nearest
    is not always the first.

    Args:
        examples: with the needed passage in `field` and references.
        passages: of the corpus.
        near: False: distractors are drawn instead of ranked.
    """
    index = Bm25([passage.text for passage in passages]) if near else None
    searched = [plain(passage.text) for passage in passages]
    contexts: list[Context] = []
    impossible: list[Impossible] = []
    for example in examples:
        needed = example.inputs[field].strip()
        contexts.append(_alone(example, needed))
        order = (
            index.ranking(example.inputs["question"])
            if index is not None
            else sorted(range(len(passages)), key=lambda i: _key(seed, example.id, passages[i].text))
        )
        usable = [passages[i] for i in order if _distracts(searched[i], example, plain(needed))]
        for length in lengths:
            made = list(_at_length(example, needed, usable, length, depths, absent, seed))
            contexts += [item for item in made if isinstance(item, Context)]
            impossible += [item for item in made if isinstance(item, Impossible)]
    return contexts, impossible


def _distracts(searched: str, example: Example, needed: str) -> bool:
    """Whether a passage is another one and holds none of the references."""
    if searched in needed or needed in searched:
        return False
    return not any((wanted := plain(reference)) and wanted in searched for reference in example.references)


def _alone(example: Example, needed: str) -> Context:
    return Context(
        example=example,
        condition="alone",
        length=0,
        depth=None,
        text=needed,
        needed=needed,
        others=(),
        found_depth=None,
    )


def _at_length(
    example: Example,
    needed: str,
    usable: Sequence[Passage],
    length: int,
    depths: Sequence[float],
    absent: bool,
    seed: int,
) -> Iterator[Context | Impossible]:
    def refuse(condition: Condition, reason: str) -> Impossible:
        return Impossible(example_id=example.id, length=length, condition=condition, reason=reason)

    lacking = f"the corpus has only {total_characters(usable):,} characters without its answer"
    if len(needed) > length:
        yield refuse("present", f"its own passage has {len(needed):,} characters")
    else:
        others = _fill(usable, length - len(needed) - len(SEPARATOR))
        if _size([needed, *others]) < SHORT * length:
            yield refuse("present", lacking)
        else:
            others = _shuffled(others, seed, example.id, length)
            for depth in depths:
                yield _placed(example, needed, others, length, depth)
    if not absent:
        return
    others = _fill(usable, length)
    if _size(others) < SHORT * length:
        yield refuse("absent", lacking)
        return
    others = _shuffled(others, seed, example.id, length)
    yield Context(
        example=example,
        condition="absent",
        length=length,
        depth=None,
        text=SEPARATOR.join(others),
        needed="",
        others=tuple(others),
        found_depth=None,
    )


def _fill(usable: Iterable[Passage], room: int) -> list[str]:
    """Whole passages while they fit, then the leading sentences of those that do not."""
    taken: list[str] = []
    for passage in usable:
        if room <= 0:
            break
        part = passage.text if len(passage.text) <= room else _leading(passage.text, room)
        if part:
            taken.append(part)
            room -= len(part) + len(SEPARATOR)
    return taken


def _leading(text: str, room: int) -> str:
    taken = ""
    for sentence in sentences(text):
        if len(taken) + len(sentence) > room:
            break
        taken += sentence
    return taken.rstrip()


def _size(parts: Sequence[str]) -> int:
    return len(SEPARATOR.join(parts))


def _shuffled(parts: Sequence[str], seed: int, example_id: str, length: int) -> list[str]:
    return sorted(parts, key=lambda part: _key(seed, f"{example_id}\0{length}", part))


def _key(seed: int, name: str, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}\0{text}".encode("utf-8", "surrogatepass")).digest()


def _placed(example: Example, needed: str, others: Sequence[str], length: int, depth: float) -> Context:
    """The needed passage at the boundary between distractors that is nearest to the depth."""
    before = [0, *accumulate(len(other) for other in others)]  # characters before each boundary
    total = before[-1]
    place = min(range(len(before)), key=lambda i: (abs(before[i] - depth * total), i))
    parts = [*others[:place], needed, *others[place:]]
    return Context(
        example=example,
        condition="present",
        length=length,
        depth=depth,
        text=SEPARATOR.join(parts),
        needed=needed,
        others=tuple(others),
        found_depth=before[place] / total if total else None,
    )
