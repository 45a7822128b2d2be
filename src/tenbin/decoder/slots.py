"""Slots: which parts of the cache are taken. Neighbouring slots, first fit; no torch."""

from bisect import bisect


class Slots:
    """Places for tokens, numbered from 0, given out in runs of neighbours."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._gaps = [(0, total)] if total else []
        """(start, length), in order; no two touch."""

    @property
    def free(self) -> int:
        """Slots that are not taken, in all gaps together."""
        return sum(length for _, length in self._gaps)

    def take(self, length: int) -> int | None:
        """The first of `length` neighbours, from the first gap that is long enough; None: there is none."""
        assert length > 0, "a run has a slot"
        for i, (start, room) in enumerate(self._gaps):
            if room >= length:
                self._gaps[i : i + 1] = [(start + length, room - length)] if room > length else []
                return start
        return None

    def give_back(self, start: int, length: int) -> None:
        """The run is free again; it joins the gaps that it touches."""
        i = bisect(self._gaps, (start, 0))
        end = start + length
        assert i == 0 or sum(self._gaps[i - 1]) <= start, "slots were not taken"
        assert i == len(self._gaps) or end <= self._gaps[i][0], "slots were not taken"
        first = i
        if i and sum(self._gaps[i - 1]) == start:
            first, start = i - 1, self._gaps[i - 1][0]
        if i < len(self._gaps) and self._gaps[i][0] == end:
            end = sum(self._gaps[i])
            i += 1
        self._gaps[first:i] = [(start, end - start)]
