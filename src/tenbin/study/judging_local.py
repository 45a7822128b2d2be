"""Opens a local model as a judge."""

from pathlib import Path

import torch

from tenbin.config_judge import JudgeConfig
from tenbin.device import find_device
from tenbin.generate.local import LocalGenerator
from tenbin.models.encode import Encoder
from tenbin.models.loading import load_model, resolve_source
from tenbin.models.tokenizer import load_tokenizer
from tenbin.study.screen import Screen

BATCH_SIZE, BATCH_TOKENS = 16, 16384


def open_judge(
    config: JudgeConfig, *, base: Path, cache_dir: Path, offline: bool, screen: Screen
) -> LocalGenerator:
    """Load the judge's model, on the GPU where there is one.

    Args:
        base: folder that relative paths start from.

    Raises:
        ModelError: the model is not to be had, or has no chat template though `chat` is set.
    """

    def located(source: str) -> str:
        path = base / Path(source).expanduser()
        return str(path) if path.exists() else source

    device = find_device()
    source = resolve_source(
        located(config.source),
        tokenizer=located(config.tokenizer) if config.tokenizer else None,
        cache_dir=cache_dir,
        offline=offline,
        weights=True,
        progress=screen.say,
    )
    encoder = Encoder(load_tokenizer(source.tokenizer), chat=config.chat)
    loaded = load_model(
        source,
        dtype=torch.bfloat16 if device.dtype("auto") == "bf16" else torch.float32,
        device=device.torch,
    )
    return LocalGenerator(
        loaded.model,
        encoder,
        model_id=config.name or source.name,
        batch_size=BATCH_SIZE,
        batch_tokens=BATCH_TOKENS,
        max_positions=source.shape.max_positions,
    )
