"""Near duplicates: pairs of texts that share most of their character 3-grams, found by MinHash and LSH."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NGRAM = 3
"""A changed character changes three of them; longer ones would miss edits of short sentences."""
BANDS, ROWS = 20, 6
"""A pair of Jaccard similarity s is looked at with probability 1 - (1 - s^6)^20: 0.998 at 0.8, 0.27 at
0.5."""
CHUNK = 2_000_000
SEED = 20240131

UInts = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts by their positions, first < second."""

    first: int
    second: int
    similarity: float
    """Jaccard similarity of their sets of 3-grams, in [0, 1]."""


def near_duplicates(texts: Sequence[str], threshold: float = 0.8) -> list[Pair]:
    """Pairs of texts at least this similar, spaces and character widths (NFKC) aside.

    Broder 1997, "On the resemblance and containment of documents", with the banding of Leskovec, Rajaraman
    and Ullman, "Mining of Massive Datasets", chapter 3. Among many like texts each is compared with the
    first and the next of its bucket only, so the pairs join a cluster without listing it in full. A pair is
    never false: similarities are computed, not estimated. Give distinct texts: equal ones are pairs, too.
    """
    cleaned = ["".join(unicodedata.normalize("NFKC", text).split()) for text in texts]
    positions = [position for position, text in enumerate(cleaned) if len(text) >= NGRAM]
    if len(positions) < 2:
        return []
    signatures = _signatures([cleaned[position] for position in positions])
    candidates = _candidates(signatures)
    if not len(candidates):
        return []
    # The share of equal hashes estimates the similarity with standard error sqrt(s (1 - s) / 120) < 0.046.
    likely = candidates[_agreement(signatures, candidates) >= threshold - 0.15]
    pairs = []
    for one, other in likely.tolist():
        first, second = sorted((positions[one], positions[other]))
        similarity = jaccard(cleaned[first], cleaned[second])
        if similarity >= threshold:
            pairs.append(Pair(first, second, similarity))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def jaccard(first: str, second: str) -> float:
    """Size of the intersection over that of the union of the sets of character 3-grams.

    >>> jaccard("abcd", "abcx")
    0.3333333333333333
    """
    one, other = _grams(first), _grams(second)
    union = len(one | other)
    return len(one & other) / union if union else 1.0


def _grams(text: str) -> set[str]:
    return {text[i : i + NGRAM] for i in range(max(1, len(text) - NGRAM + 1))}


def _signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """MinHash signatures, (texts, BANDS * ROWS)."""
    rng = np.random.default_rng(SEED)
    num_hashes = BANDS * ROWS
    factors = rng.integers(1, 2**63, num_hashes, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = rng.integers(0, 2**63, num_hashes, dtype=np.uint64)
    signatures = np.empty((len(texts), num_hashes), np.uint32)
    for begin, end in _chunks(texts):
        hashes, starts = _gram_hashes(texts[begin:end])
        for k in range(num_hashes):
            least = np.minimum.reduceat(hashes * factors[k] + offsets[k], starts)
            signatures[begin:end, k] = (least >> np.uint64(32)).astype(np.uint32)
    return signatures


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    begin = size = 0
    for position, text in enumerate(texts):
        size += len(text)
        if size >= CHUNK:
            yield begin, position + 1
            begin, size = position + 1, 0
    if begin < len(texts):
        yield begin, len(texts)


def _gram_hashes(texts: Sequence[str]) -> tuple[UInts, NDArray[np.int64]]:
    """Hashes of the 3-grams of all texts in a row, (grams,), and where each text's begin, (texts,)."""
    joined = "".join(texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    # A code point has 21 bits: three of them fit 64 without collision; then the finalizer of splitmix64.
    grams = codes[:-2] << np.uint64(42) | codes[1:-1] << np.uint64(21) | codes[2:]
    grams = (grams ^ (grams >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    grams = (grams ^ (grams >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    grams ^= grams >> np.uint64(31)
    lengths = np.array([len(text) for text in texts])
    ends = np.cumsum(lengths)
    across = np.zeros(len(codes), bool)  # grams that reach into the next text
    across[ends - 1] = across[ends - 2] = True
    counts = lengths - (NGRAM - 1)
    return grams[~across[: len(grams)]], np.concatenate(([0], np.cumsum(counts)[:-1]))


def _candidates(signatures: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Pairs of rows that agree in a whole band, (pairs, 2)."""
    found: list[NDArray[np.int64]] = []
    for band in range(BANDS):
        keys = np.zeros(len(signatures), np.uint64)
        for k in range(band * ROWS, (band + 1) * ROWS):
            keys = (keys ^ signatures[:, k]) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(29)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        same = ordered[1:] == ordered[:-1]
        found.append(np.stack([order[:-1][same], order[1:][same]], axis=1))
        begins = np.concatenate(([True], ~same))
        first = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
        others = ~begins
        found.append(np.stack([first[others], order[others]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.unique(pairs, axis=0) if len(pairs) else pairs


def _agreement(signatures: NDArray[np.uint32], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of equal hashes of each pair, (pairs,)."""
    shares = np.empty(len(pairs))
    step = 100_000
    for begin in range(0, len(pairs), step):
        part = pairs[begin : begin + step]
        equal = signatures[part[:, 0]] == signatures[part[:, 1]]
        shares[begin : begin + step] = equal.mean(axis=1)
    return shares
