"""AskingPlan: what questions will take of one model: answers, tokens, and money or time and memory."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tenbin.config import ModelConfig
from tenbin.generate.hosted import Cost, Prices, plan_hosted
from tenbin.models.shape import ModelShape
from tenbin.study.planning import MATRIX_SHARE
from tenbin.types import GenerationConfig, JsonValue, Message

COUNTED = "prompt tokens of local models are counted by their tokenizers"
NO_COST = "what runs on this machine costs nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingPlan:
    """What is still to be asked of one model, before anything is loaded or sent."""

    num_calls: int
    """Answers still to be written."""
    num_cached: int = 0
    """Answers that are there already."""
    input_tokens: int
    """Of the prompts still to be asked."""
    output_tokens: int
    """At most."""
    longest_tokens: int | None = None
    """Prompt and answer, at most; None where nobody but the service can count."""
    cost: Cost | None = None
    """At most; None on this machine, and where `notes` say why it is not known."""
    seconds: float | None = None
    """About, to read the prompts on this machine; None where it is not known."""
    memory_bytes: int | None = None
    """Weights, and the cache of the longest prompt with its answer; None where they are elsewhere."""
    cap_bytes: int | None = None
    notes: tuple[str, ...] = ()
    """How the tokens were counted, and where prices come from."""

    @property
    def is_here(self) -> bool:
        """Whether the model is on this machine."""
        return self.memory_bytes is not None

    def times(self, number: int) -> "AskingPlan":
        """The same questions asked so many times over."""
        cost = None if self.cost is None else Cost(number * self.cost.usd, number * self.cost.yen)
        return replace(
            self,
            num_calls=number * self.num_calls,
            num_cached=number * self.num_cached,
            input_tokens=number * self.input_tokens,
            output_tokens=number * self.output_tokens,
            cost=cost,
            seconds=None if self.seconds is None else number * self.seconds,
        )

    def but(self, num_done: int) -> "AskingPlan":
        """Without so many answers that are there already, as large as the others in the mean."""
        num_done = min(num_done, self.num_calls)
        share = 1.0 - num_done / self.num_calls if self.num_calls else 1.0
        cost = None if self.cost is None else Cost(share * self.cost.usd, share * self.cost.yen)
        return replace(
            self,
            num_calls=self.num_calls - num_done,
            num_cached=self.num_cached + num_done,
            input_tokens=round(share * self.input_tokens),
            output_tokens=round(share * self.output_tokens),
            cost=cost,
            seconds=None if self.seconds is None else share * self.seconds,
        )

    def to_json(self) -> dict[str, JsonValue]:
        """As JSON values."""
        return asdict(self)


def asking_local(
    lengths: Sequence[int],
    max_new_tokens: int,
    shape: ModelShape,
    *,
    weight_bytes: int,
    dtype_bytes: int,
    cap_bytes: int | None = None,
    matrix_rate: float | None = None,
) -> AskingPlan:
    """Of a model on this machine.

    Args:
        lengths: tokens of the prompts.
        matrix_rate: operations a second of a large matrix product, for the time.
    """
    total = sum(lengths)
    mean_context = sum(n * (n + 1) / 2 for n in lengths) / max(1, total)
    head_share = len(lengths) / max(1, total)  # one token of a prompt predicts: the last
    flops = total * shape.flops_per_token(mean_context, head_share=head_share)
    longest = max(lengths, default=0) + max_new_tokens
    return AskingPlan(
        num_calls=len(lengths),
        input_tokens=total,
        output_tokens=len(lengths) * max_new_tokens,
        longest_tokens=longest if lengths else None,
        seconds=flops / (MATRIX_SHARE * matrix_rate) if matrix_rate else None,
        memory_bytes=weight_bytes + shape.kv_bytes(longest, dtype_bytes),
        cap_bytes=cap_bytes,
        notes=(COUNTED, NO_COST),
    )


def asking_hosted(
    model: ModelConfig,
    folder: Path,
    prompts: Sequence[Sequence[Message]],
    config: GenerationConfig,
    prices: Prices,
) -> AskingPlan:
    """Of a model that others run. Only the study's own questions are asked `hosted.repeats` times.

    Raises:
        DataError: the kept answers are damaged.
    """
    if model.hosted is not None:
        model = model.model_copy(update={"hosted": model.hosted.model_copy(update={"repeats": 1})})
    calls = plan_hosted(model, folder, prompts, config, prices=prices)
    return AskingPlan(
        num_calls=calls.num_calls,
        num_cached=calls.num_cached,
        input_tokens=calls.input_tokens,
        output_tokens=calls.output_tokens,
        cost=calls.cost,
        notes=(f"prompt tokens of hosted models are estimated: {calls.rule}", calls.cost_note),
    )
