"""StepTimes: what some training steps took and did, and the rates that come of it; no torch here."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tenbin.models.shape import ModelShape

WARM_UP = 2
"""Steps that are not counted: they plan, tune and fill caches."""


@dataclass(slots=True)
class StepTimes:
    """One entry a step in each list."""

    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    """Laid down: a shared prefix counts once, padding does not count."""
    targets: list[int] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)

    def add(self, seconds: float, *, tokens: int, targets: int, examples: int) -> None:
        """Note one step."""
        self.seconds.append(seconds)
        self.tokens.append(tokens)
        self.targets.append(targets)
        self.examples.append(examples)

    @property
    def num_counted(self) -> int:
        """Steps after the warm-up."""
        return max(0, len(self.seconds) - WARM_UP)

    def rates(self, shape: ModelShape, *, context: float, matrix_rate: float) -> dict[str, float | None]:
        """Medians over the counted steps; None where there is none.

        Args:
            context: mean number of keys that a token attends to.
            matrix_rate: operations a second that `mfu` is a share of.

        Returns:
            tokens_per_s, examples_per_s, step_s, and mfu: 4 operations a weight and token and those of
            attention (`ModelShape.flops_per_token`), the output head for targets only, whatever the system
            computes.
        """
        if not self.num_counted:
            return dict.fromkeys(("tokens_per_s", "examples_per_s", "step_s", "mfu"))
        flops = [
            tokens * shape.flops_per_token(context, head_share=targets / tokens, training=True)
            for tokens, targets in zip(self.tokens, self.targets, strict=True)
        ]
        return {
            "tokens_per_s": round(self._median(self.tokens)),
            "examples_per_s": round(self._median(self.examples), 2),
            "step_s": round(statistics.median(self.seconds[WARM_UP:]), 4),
            "mfu": round(self._median(flops) / matrix_rate, 3),
        }

    def _median(self, amounts: Sequence[float]) -> float:
        """Of amount a second."""
        rates = [amount / s for amount, s in zip(amounts, self.seconds, strict=True)]
        return statistics.median(rates[WARM_UP:])


def mean_context(lengths: Sequence[int]) -> float:
    """Mean number of keys that a token attends to in causal texts of these lengths, itself included."""
    return sum(n * (n + 1) / 2 for n in lengths) / sum(lengths)
