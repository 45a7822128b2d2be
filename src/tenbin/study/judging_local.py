"""Opens a model on this machine as a judge: loaded here, or served by vLLM."""

from collections.abc import Sequence
from pathlib import Path

import torch

from tenbin.config import ModelConfig
from tenbin.config_vllm import VllmSection
from tenbin.device import find_device
from tenbin.generate.local import LocalGenerator
from tenbin.generate.vllm import VllmGenerator
from tenbin.models.encode import Encoder
from tenbin.models.loading import load_model
from tenbin.models.tokenizer import load_tokenizer
from tenbin.study.asking_plan import AskingPlan, asking_local
from tenbin.study.local import find_from
from tenbin.study.screen import Screen
from tenbin.study.serving import Serving, memory_share
from tenbin.types import GenerationConfig, Message


def open_judge(
    model: ModelConfig, *, chat: bool, base: Path, cache_dir: Path, offline: bool, screen: Screen
) -> LocalGenerator:
    """Load the judge's model, on the GPU where there is one.

    Args:
        base: folder that relative paths start from.

    Raises:
        ModelError: the model is not to be had, or has no chat template though `chat` is set.
    """

    device = find_device()
    source = find_from(base, model, cache_dir=cache_dir, offline=offline, weights=True, screen=screen)
    encoder = Encoder(load_tokenizer(source.tokenizer), chat=chat)
    loaded = load_model(
        source,
        dtype=torch.bfloat16 if device.dtype("auto") == "bf16" else torch.float32,
        device=device.torch,
    )
    return LocalGenerator(
        loaded.model,
        encoder,
        model_id=model.label,
        max_positions=source.shape.max_positions,
    )


def open_served_judge(
    model: ModelConfig,
    folder: Path,
    *,
    chat: bool,
    base: Path,
    cache_dir: Path,
    offline: bool,
    vram_mib: int | None,
    screen: Screen,
) -> VllmGenerator:
    """A judge that vLLM serves; its server starts when it is first asked, and is the caller's to close.

    Args:
        folder: the study folder, which keeps answers and the server's log.
        vram_mib: cap on the GPU's memory.

    Raises:
        ModelError: the model is not to be had, or there is no vLLM.
    """
    section, device, label = model.vllm or VllmSection(), find_device(), model.label
    source = find_from(base, model, cache_dir=cache_dir, offline=offline, weights=True, screen=screen)
    serving = Serving(
        label=label,
        source=source,
        section=section,
        base=base,
        chat=chat,
        device=device,
        share=memory_share(section, device, vram_mib),
        offline=offline,
    )
    server = serving.server(folder / f"judge-{label}-vllm.log", screen.say)
    return serving.generator(folder, server, screen.say, model_id=label)


def plan_judge(
    model: ModelConfig,
    prompts: Sequence[Sequence[Message]],
    config: GenerationConfig,
    *,
    chat: bool,
    base: Path,
    cache_dir: Path,
    offline: bool,
    screen: Screen,
) -> AskingPlan:
    """What these questions take of a judge on this machine; loads no weights.

    Raises:
        ModelError: the model is not to be had.
    """
    source = find_from(base, model, cache_dir=cache_dir, offline=offline, weights=False, screen=screen)
    encoder, device = Encoder(load_tokenizer(source.tokenizer), chat=chat), find_device()
    dtype = device.dtype("auto")
    size = 2 if dtype == "bf16" else 4
    return asking_local(
        [len(encoder.prompt(prompt)[0]) for prompt in prompts],
        config.max_new_tokens,
        source.shape,
        weight_bytes=source.shape.num_params() * size,
        dtype_bytes=size,
        cap_bytes=device.total_bytes,
        matrix_rate=device.matrix_rate(dtype),
    )
