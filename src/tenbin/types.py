"""The records that every layer shares, and the seams (Protocols) between layers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

JsonValue = str | int | float | bool | None | Mapping[str, "JsonValue"] | Sequence["JsonValue"]

SplitName = Literal["train", "validation", "test"]
BaseType = Literal["same", "fp8", "fp8-both", "nf4"]
"""Type of the frozen linear maps: that of everything else, fp8 (in one order or in both, see `decoder.fp8`),
or 4 bits."""
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
    marking: Mapping[str, str] = field(default_factory=dict)
    """Question banks: how the answer is marked, from columns that no prompt shows (category, marking_note,
    points, grade, tolerance, unit); {} of other tasks."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLikelihood:
    """How probable a model finds one given answer after its prompt."""

    nats: float | None
    """Natural logarithm of its probability, summed over its tokens; None where it could not be computed."""
    num_tokens: int
    """Of the answer."""
    prompt_tokens: int
    error: str | None = None
    """Why there is no number: prompt and answer do not fit the model, for example."""


class AnswerLikelihoods(Protocol):
    """LogLikelihood with what it takes to compare answers of different lengths."""

    @property
    def model_id(self) -> str:
        """Name for tables."""
        ...

    def answer_likelihoods(
        self, pairs: Sequence[tuple[Sequence[Message], str]]
    ) -> Iterator[tuple[int, AnswerLikelihood]]:
        """Yield (index of the pair, its likelihood) in any order, each index once."""
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
    question: Mapping[str, str] = field(default_factory=dict)
    """Question banks: what a grader needs to see, the example's inputs and its marking; {} of other tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsPart:
    """Points of a question bank: of one category, or of all questions."""

    category: str | None
    """None = all questions."""
    earned: float
    """Σ points x share of the grade, over the graded questions."""
    possible: float
    """Points of the graded questions; those without a grade are in neither sum."""
    num_graded: int
    num_ungraded: int
    """Answers that wait for a person or a judge."""
    num_errors: int
    """Questions without a completion."""
    by: Mapping[str, int]
    """Who graded -> number of answers: `rule`, `judge gpt-4o`, `people Sato, Suzuki`."""
    estimate: Estimate | None
    """earned / possible; None where nothing is graded, or one question only: `reason` says."""
    reason: str | None = None


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
    points: tuple[PointsPart, ...] = ()
    """Question banks: all questions first, then each category; () of other tasks."""

    def metric(self, metric_id: str) -> MetricSummary:
        """The summary of one metric.

        Raises:
            KeyError: if this result does not hold it.
        """
        for summary in self.metrics:
            if summary.metric == metric_id:
                return summary
        raise KeyError(f"no metric {metric_id!r}; there are {[m.metric for m in self.metrics]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedUse:
    """What the calls of one evaluation through an API took: answers, tokens, money and time."""

    num_calls: int
    """Sent by the process that finished the evaluation, with those that failed."""
    num_cached: int
    """Answers that were there already, of earlier processes or other runs."""
    num_errors: int
    """Questions without an answer, over all repeats; asked again by the next run."""
    num_filtered: int
    """Answers that the service's content filter kept back."""
    num_lost: int
    """Calls that may have been billed without giving an answer."""
    input_tokens: int
    output_tokens: int
    """Of all answers, also of those that were there already."""
    cost_usd: float | None
    """Of all answers, also of those that were there already; None where `cost_note` says why."""
    cost_yen: float | None
    lost_usd: float | None
    """Of the lost calls, at most."""
    cost_note: str
    """Where the prices come from, or why there is no cost."""
    latency_median_s: float | None
    """Of a call that was answered, without waiting for a retry or a rate limit; None where none was."""
    latency_p95_s: float | None
    repeats: int = 1
    """How often every question was asked; the figures of the run are those of the first time."""
    repeat_values: Sequence[float | None] = ()
    """The headline metric of each repeat; None where it is undefined."""
    repeat_sd: float | None = None
    """Standard deviation of `repeat_values` (n - 1); None of fewer than two, or where one is undefined."""
    num_changed: int = 0
    """Questions whose score was not the same in all repeats."""
