"""The records that every layer shares, and the seams (Protocols) between layers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

JsonValue = str | int | float | bool | None | Mapping[str, "JsonValue"] | Sequence["JsonValue"]

SplitName = Literal["train", "validation", "test"]
StopReason = Literal["stop", "length", "content_filter", "error"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a prompt. Base models get the contents joined as plain text."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One input with its acceptable answers: a row after reading."""

    id: str
    """Unique in its dataset; two results are paired by it."""
    inputs: Mapping[str, str]
    """Fields of the template, for example {"passage": ..., "question": ...}."""
    references: tuple[str, ...] = ()
    """Acceptable answers, best first; () = unlabeled."""
    group: str | None = None
    """Split and cluster key: same document, same customer."""
    source: str | None = None
    """Where it was read: `reviews.csv:17`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model said, or why it did not."""

    text: str
    stop_reason: StopReason
    input_tokens: int
    output_tokens: int
    latency_s: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """How completions are decoded. Greedy (temperature 0) is the only mode that is compared."""

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    """Texts that end a completion; they are not part of it."""
    temperature: float = 0.0


class Generator(Protocol):
    """The one seam to models: local, API, fake."""

    @property
    def model_id(self) -> str:
        """Name for tables: `gemma-3-270m lr=2e-4`."""
        ...

    def generate(
        self, prompts: Sequence[Sequence[Message]], config: GenerationConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index of the prompt, its completion) as they finish, in any order, each index once."""
        ...


class LogLikelihood(Protocol):
    """Apart from Generator, so that 'cannot do it' is a type error."""

    def loglikelihood(self, pairs: Iterable[tuple[Sequence[Message], str]]) -> Iterator[float]:
        """Natural logarithm of the probability of each answer after its prompt, in nats."""
        ...


class Estimate(NamedTuple):
    """A number never travels without its uncertainty."""

    value: float
    low: float
    high: float
    level: float
    n: int
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRow:
    """One example of one evaluation. A score is None where no completion was got (an error)."""

    id: str
    prompt: str
    completion: str
    stop_reason: StopReason
    answer: str | None
    """What `Task.parse` took from the completion; None = unparsed (scores 0, counted)."""
    references: tuple[str, ...]
    scores: Mapping[str, float | None]
    """By metric id."""
    input_tokens: int = 0
    output_tokens: int = 0
    group: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSummary:
    """One metric over a whole set: its definition travels with the number."""

    metric: str
    """Metric id, for example `jsquad_f1`."""
    name: str
    """As shown in tables, for example `F1`."""
    definition: str
    """Formula, tokenizer, dictionary and their versions, in one line."""
    estimate: Estimate | None
    """None where it is undefined; `reason` says why."""
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult:
    """One system on one set of examples."""

    task: str
    model_id: str
    """For people: `gemma-3-270m lr=2e-4`."""
    split: SplitName
    dataset: str
    """Fingerprint of the examples; results of different data refuse to be compared."""
    template: str
    """Fingerprint of the prompt template."""
    metrics: tuple[MetricSummary, ...]
    """The first one is the headline."""
    num_examples: int
    num_errors: int
    num_unparsed: int
    rows: tuple[EvalRow, ...] = field(default=(), repr=False)

    def metric(self, metric_id: str) -> MetricSummary:
        """The summary of one metric.

        Raises:
            KeyError: if this result does not hold it.
        """
        for summary in self.metrics:
            if summary.metric == metric_id:
                return summary
        raise KeyError(f"no metric {metric_id!r}; there are {[m.metric for m in self.metrics]}")
