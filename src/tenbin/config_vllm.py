"""[model.vllm]: how tenbin starts vLLM to serve a local model, and the sources that ask for it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tenbin.config_section import Section

PREFIX = "vllm:"
OURS = (
    *("host", "port", "api-key", "served-model-name", "tokenizer", "generation-config"),
    *("dtype", "max-model-len", "gpu-memory-utilization", "enable-lora", "lora-modules", "max-lora-rank"),
)
"""Options of `vllm serve` that follow from the study or have a key of their own."""


def is_vllm(source: str) -> bool:
    """Whether a source asks for vLLM."""
    return source.startswith(PREFIX)


def _arguments(arguments: list[str]) -> list[str]:
    names = {argument.split("=")[0].removeprefix("--").replace("_", "-") for argument in arguments}
    ours = sorted(names & set(OURS))
    if ours:
        raise ValueError(f"args cannot set {', '.join(ours)}: tenbin does, or they have keys of their own")
    return arguments


class VllmSection(Section):
    """[model.vllm]: the server that tenbin starts for this model, and ends."""

    command: str = Field(default="vllm", min_length=1)
    """The executable: a name on PATH, or the path of one in another environment."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: int | None = Field(default=None, ge=1)
    """Tokens of prompt and answer together; the model's own limit without it. Less needs less memory."""
    memory_share: float | None = Field(default=None, gt=0, le=1)
    """Of the GPU's memory; without it `budget.vram_mib` as a share, else vLLM's own."""
    concurrency: int = Field(default=64, ge=1, le=1024)
    """Most questions at once."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Most seconds of one answer."""
    start_timeout_s: float = Field(default=900.0, gt=0)
    """Most seconds until the server answers: weights are loaded and kernels compiled before."""
    args: Annotated[list[str], AfterValidator(_arguments)] = Field(default=[])
    """More arguments of `vllm serve`, passed on as they are: `["--tensor-parallel-size", "2"]`."""


def vllm_mistakes(source: str, vllm: VllmSection | None) -> list[str]:
    """What does not fit together in a [[model]]; each names its key."""
    if not is_vllm(source):
        return [] if vllm is None else [f"vllm: only of a model whose source begins with {PREFIX}"]
    if not source.removeprefix(PREFIX).strip():
        return [f"source: it names no model: write {PREFIX}FOLDER or {PREFIX}HUB_NAME"]
    return []
