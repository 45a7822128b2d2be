"""RagRow, RagResult: every answer at every length and depth, and what they sum up to; JSON both ways."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tenbin.rag.contexts import Condition, Context, Impossible
from tenbin.rag.outcome import Outcome
from tenbin.types import Estimate, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class RagRow:
    """One answer to one question inside one text."""

    id: str
    """Of the example."""
    condition: Condition
    length: int
    """Characters asked for; 0 = the needed passage alone."""
    depth: float | None
    found_depth: float | None
    num_chars: int
    """Of the text."""
    input_tokens: int
    completion: str
    answer: str | None
    outcome: Outcome
    score: float | None
    """The task's headline metric; None without a completion, and where the answer was left out."""
    group: str
    """What is independent: the example's group, or itself."""
    error: str | None = None

    @property
    def key(self) -> str:
        """Which question in which text."""
        return row_key(self.id, self.condition, self.length, self.depth)


def row_key(example_id: str, condition: Condition, length: int, depth: float | None) -> str:
    """Names one question in one text of a result."""
    return f"{condition}/{length}/{'' if depth is None else format(depth, '.3f')}/{example_id}"


def context_key(context: Context) -> str:
    """The key of the row that answers a context."""
    return row_key(context.example.id, context.condition, context.length, context.depth)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a result with what it is of."""

    kind: str
    """`score`, or an outcome whose share it is."""
    condition: Condition
    length: int
    depth: float | None
    """None: all depths together."""
    estimate: Estimate | None
    reason: str | None
    """Why there is no estimate."""
    num_asked: int
    num_errors: int
    """Of those asked: no completion was got, so they are not in the estimate."""
    mean_chars: float
    mean_depth: float | None
    """Where the needed passage really stood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A length against the needed passage alone, on the same questions."""

    length: int
    difference: float
    """Mean score at this length (all depths) minus that of the passage alone."""
    p_value: float
    p_adjusted: float
    """By Holm over the lengths."""
    n: int
    """Questions, or groups of them."""
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RagResult:
    """How one system answers inside long texts."""

    system: str
    """As in tables."""
    task: str
    metric: str
    """Id of the score."""
    metric_name: str
    definition: str
    level: float
    settings: Mapping[str, JsonValue]
    """What determines the answers: template, lengths, depths, seed, fingerprints."""
    num_questions: int
    figures: tuple[Figure, ...]
    drops: tuple[Drop, ...]
    impossible: tuple[Impossible, ...]
    errors: Mapping[str, int] = field(default_factory=dict)
    """Error text -> how often."""

    @property
    def lengths(self) -> list[int]:
        """Lengths with an answer, ascending; 0 = the passage alone."""
        return sorted({figure.length for figure in self.figures})

    def find(self, kind: str, condition: Condition, length: int, depth: float | None = None) -> Figure | None:
        """One figure; None where there is none."""
        wanted = (kind, condition, length, depth)
        return next((f for f in self.figures if (f.kind, f.condition, f.length, f.depth) == wanted), None)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def result_from_json(raw: Mapping[str, Any]) -> RagResult:
    """A result as `to_json` wrote it."""
    return RagResult(
        **{
            **raw,
            "figures": tuple(_figure(item) for item in raw["figures"]),
            "drops": tuple(Drop(**item) for item in raw["drops"]),
            "impossible": tuple(Impossible(**item) for item in raw["impossible"]),
        }
    )


def _figure(raw: Mapping[str, Any]) -> Figure:
    estimate: Sequence[Any] | None = raw["estimate"]
    return Figure(**{**raw, "estimate": Estimate(*estimate) if estimate else None})
