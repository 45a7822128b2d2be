"""LowRank: the second product of a group's adapters, not yet added to the group's output."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LowRank:
    """What y still lacks: in the columns of part p, low[:, p r : (p + 1) r] times b^T of the part's rows."""

    low: Tensor  # (T, parts * r), routed and scaled
    b: Tensor  # (N, r)
    parts: int

    @property
    def rank(self) -> int:
        """r: of all adapters of one part."""
        return self.b.shape[1]
