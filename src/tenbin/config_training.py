"""[lora] and [training] of a study file."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tenbin.config_section import Section


class LoraConfig(Section):
    """[lora]: the adapter."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"


class TrainingConfig(Section):
    """[training]: the grid and how each of its runs is trained."""

    learning_rates: list[float] = Field(default=[2e-4, 5e-5, 2e-5, 1e-5])
    """One run each, for every model and seed. `[]`: the models are evaluated as they are."""
    seeds: list[int] = Field(default=[0], min_length=1)
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=16, ge=1)
    """Examples of one optimizer step; memory never changes it."""
    micro_batch_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of one forward and backward; planned without it."""
    max_length: int | Literal["fit"] = "fit"
    """Longest example in tokens. "fit": the longest the data needs that the cap and the model allow."""
    loss_on: Literal["response", "all"] = "response"
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    base_dtype: Literal["same", "fp8", "nf4"] = "same"
    """Type of the frozen linear maps. fp8: half the memory, faster on GPUs that multiply it (Ada, Hopper);
    nf4: a quarter of the memory, slower (needs bitsandbytes). The model is evaluated in it as well."""
    order: Literal["grouped", "shuffled"] = "grouped"
    """Order of the examples in an epoch. grouped: those of one group (questions about one passage) follow one
    another and groups are shuffled; without groups it is the same as shuffled."""
    share_prefixes: bool = True
    """Compute what several examples of a step begin with once. It does not change the result."""
    cuda_graphs: bool = True
    """On a GPU, record short micro-batches as CUDA graphs. It does not change the result."""
    at_once: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Runs trained at once over one copy of the model. It does not change the result."""
    checkpoint_every_s: float = Field(default=60.0, ge=0)
    """Least seconds between two checkpoints; 0 = after every step."""

    @model_validator(mode="after")
    def _positive_rates(self) -> "TrainingConfig":
        for position, rate in enumerate(self.learning_rates):
            if not 0 < rate < 1:
                raise ValueError(f"learning_rates[{position}] must lie between 0 and 1, not {rate}")
        for key, values in (("learning_rates", self.learning_rates), ("seeds", self.seeds)):
            if len(set(values)) != len(values):
                raise ValueError(f"{key} has the same value twice: {values}")
        return self
