"""What two sequences share: clipped counts, their F1, and the longest common subsequence."""

from collections import Counter
from collections.abc import Hashable, Sequence


def f1(shared: float, size_answer: int, size_reference: int) -> float:
    """2PR/(P+R) with P = shared/answer and R = shared/reference; 0 where nothing is shared."""
    if not shared:
        return 0.0
    precision, recall = shared / size_answer, shared / size_reference
    return 2 * precision * recall / (precision + recall)


def num_shared(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Items in both, each as often as it stands in the one that has fewer of it (clipped counts)."""
    one, other = set(first), set(second)
    if len(one) == len(first) or len(other) == len(second):
        return len(one & other)  # nothing is twice in one of them, so every shared item counts once
    left = Counter(second)
    shared = 0
    for item in first:
        if left.get(item, 0) > 0:
            left[item] -= 1
            shared += 1
    return shared


def lcs_length(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence.

    Bit-parallel: one big integer holds a row of the table, a bit for each item of `first`, and each item
    of `second` updates the whole row in four operations (Hyyrö, Bit-parallel LCS-length computation
    revisited, 2004).
    """
    if not first or not second:
        return 0
    places: dict[Hashable, int] = {}
    bit = 1
    for item in first:
        places[item] = places.get(item, 0) | bit
        bit <<= 1
    everything = bit - 1
    row = everything  # a 0 bit marks where the length of the table's row grows
    for item in second:
        matches = row & places.get(item, 0)
        if matches:
            row = ((row + matches) | (row - matches)) & everything
    return len(first) - row.bit_count()
