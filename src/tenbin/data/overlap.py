"""Overlap: runs of characters that examples of a test set share with the training data."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenbin.types import Example

RUN = 22
"""Characters of a run. English work looks at 13 words in a row (Brown et al. 2020, arXiv:2005.14165, appendix
C); Japanese has no spaces, and words depend on the dictionary's version, so characters are compared. 13
characters would be too short: they are 8 words, and long names alone match. docs/decisions/0009 has the
figures."""
COMMON = 10
"""A run that stands in more different training texts than this is a set phrase and no sign of anything."""
HALF = 0.5
BASE = np.uint64(0x9E3779B97F4A7C15)

UInts = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How much of a set stands in the training data, too."""

    num_shared: int
    """Examples with a run of RUN characters that a training text has."""
    num_half: int
    """Those of them that lie in such runs with more than half of their characters."""
    num_short: int
    """Examples none of whose texts has RUN characters: nothing to compare."""
    places: tuple[tuple[str, float], ...]
    """(place, share of its characters in shared runs), the largest shares first; all that share."""


def find_overlap(known: UInts, examples: Sequence[Example]) -> Overlap:
    """Compare every text of the examples, inputs and references, with the training set.

    Texts are compared after NFKC and without white space. A run never reaches from one field into another.

    Args:
        known: `training_runs` of the training set.
    """
    shares: list[tuple[str, float]] = []
    num_short = 0
    seen: dict[str, int] = {}
    for example in examples:
        texts = _texts(example)
        if all(len(text) < RUN for text in texts):
            num_short += 1
            continue
        covered = 0
        for text in texts:
            if text not in seen:
                seen[text] = _covered(text, known)
            covered += seen[text]
        if covered:
            shares.append((example.source or example.id, covered / sum(map(len, texts))))
    shares.sort(key=lambda item: -item[1])
    return Overlap(
        num_shared=len(shares),
        num_half=sum(share > HALF for _, share in shares),
        num_short=num_short,
        places=tuple(shares),
    )


def _texts(example: Example) -> list[str]:
    """Every field as it is compared."""
    fields = [*example.inputs.values(), *dict.fromkeys(example.references)]
    return [text for field in fields if (text := "".join(unicodedata.normalize("NFKC", field).split()))]


def training_runs(examples: Sequence[Example]) -> UInts:
    """Hashes of the runs of the training texts that are no set phrases, sorted."""
    different = dict.fromkeys(text for example in examples for text in _texts(example))
    found = [np.unique(_hashes(text)) for text in different if len(text) >= RUN]
    if not found:
        return np.array([], np.uint64)
    hashes, counts = np.unique(np.concatenate(found), return_counts=True)
    return hashes[counts <= COMMON]


def _hashes(text: str) -> UInts:
    """(len(text) - RUN + 1,) polynomial hashes of every run modulo 2^64; different runs hardly ever agree."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    codes = (codes + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    num = len(codes) - RUN + 1
    hashes = np.zeros(max(0, num), np.uint64)
    for place in range(RUN):
        hashes = hashes * BASE + codes[place : place + num]
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _covered(text: str, known: UInts) -> int:
    """Characters of the text that lie in a known run."""
    if len(text) < RUN or not len(known):
        return 0
    hashes = _hashes(text)
    places = np.searchsorted(known, hashes)
    hit = known[np.minimum(places, len(known) - 1)] == hashes
    inside = np.zeros(len(text) + 1, np.int64)
    starts = np.flatnonzero(hit)
    np.add.at(inside, starts, 1)
    np.add.at(inside, starts + RUN, -1)
    return int((np.cumsum(inside)[:-1] > 0).sum())
