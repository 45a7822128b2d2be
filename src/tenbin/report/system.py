"""System: something that answered the reporting set; LeftOut: a result that may not be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tenbin.runs import RunResult
from tenbin.types import EvalResult, EvalRow

Kind = Literal["tuned", "base", "adapter", "hosted", "baseline"]
"""tuned: fine-tuned in this study; base: a model as it is; adapter: a model with an adapter from elsewhere;
hosted: it answers through an API; baseline: it needs no model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Something that answered every example of the reporting set."""

    key: str
    """Run id, or `baseline: <name>`."""
    name: str
    """As in tables: `gemma-3-270m lr=2e-4`."""
    kind: Kind
    result: EvalResult
    rows: tuple[EvalRow, ...] = ()
    run: RunResult | None = None
    """None of a baseline."""
    environment: Mapping[str, Any] | None = None
    losses: tuple[tuple[int, float], ...] = ()
    """(step, mean loss of the step in nats a token), as logged."""
    variant: str = ""
    """Settings in which it differs from other runs of the same model: `lora.rank=8`."""
    finalist: bool = False
    """The run that validation chose among those of its model, or what was not tuned: these are weighed."""

    @property
    def model(self) -> str | None:
        """Short name of the model; None of a baseline."""
        return self.run.spec.model if self.run else None

    @property
    def rate(self) -> float | None:
        """Learning rate; None of base models and baselines."""
        return self.run.spec.learning_rate if self.run else None

    def value(self, metric: str) -> float | None:
        """The figure of a metric on the reporting set; None where it is undefined or missing."""
        for summary in self.result.metrics:
            if summary.metric == metric:
                return summary.estimate.value if summary.estimate else None
        return None

    def selection_score(self, metric: str) -> float | None:
        """The validation figure of the chosen epoch: what chooses among the runs of a model."""
        if self.run is None:
            return None
        for record in self.run.epochs:
            if record.epoch == self.run.best_epoch and record.validation is not None:
                for summary in record.validation.metrics:
                    if summary.metric == metric and summary.estimate is not None:
                        return summary.estimate.value
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A finished run that may not be compared with the others, and why."""

    name: str
    run_id: str
    reasons: tuple[str, ...]
