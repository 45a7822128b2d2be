"""Opens a local model once, and yields a generator for each of its runs: as it is, and with its adapters."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from tenbin.config import ModelConfig
from tenbin.decoder.base_types import make_frozen, move_rest
from tenbin.decoder.decoder import Decoder
from tenbin.device import find_device
from tenbin.generate.local import LocalGenerator
from tenbin.models.adapters import read_adapter
from tenbin.models.encode import Encoder
from tenbin.models.loading import load_model
from tenbin.models.lora import activate, inject, remove_adapter
from tenbin.models.tokenizer import load_tokenizer
from tenbin.runs import Run
from tenbin.study.adapter import adapter_of, check_same_model
from tenbin.study.local import find_model
from tenbin.study.prepare import Prepared
from tenbin.study.screen import Screen

ADAPTER = "asked"


def open_local(
    prepared: Prepared,
    model: ModelConfig,
    runs: Sequence[Run],
    *,
    cache_dir: Path,
    offline: bool,
    screen: Screen,
) -> Iterator[tuple[Run, LocalGenerator]]:
    """Yield (run, generator); the prompt's chat form and the batch sizes are the study's.

    Raises:
        ModelError: the model is not to be had, has changed since the run, or an adapter is gone.
    """
    config = prepared.config
    device = find_device()
    device.cap(config.budget.vram_mib)
    source = find_model(prepared, model, cache_dir=cache_dir, offline=offline, weights=True, screen=screen)
    check_same_model(runs, model.label, source.fingerprint)
    # All of them before the model is loaded: one that is gone is said now.
    folders = {run.path.name: folder for run in runs if (folder := _adapter_folder(run)) is not None}
    dtype, base = device.dtype(config.training.dtype), config.training.base_dtype
    loaded = load_model(
        source,
        dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
        device=device.torch if base == "same" else "cpu",
    )
    decoder = None
    if base != "same":  # as the runs were trained and evaluated: whoever asks later asks the same model
        inject(loaded.model)
        move_rest(loaded.model, device.torch)
        decoder = Decoder(loaded.model, make_frozen(base, device.torch))
    generation = config.generation
    for run in runs:
        with ExitStack() as stack:
            if (folder := folders.get(run.path.name)) is not None:
                read_adapter(loaded.model, folder, ADAPTER)
                stack.callback(remove_adapter, loaded.model, ADAPTER)
                stack.enter_context(activate(loaded.model, ADAPTER))
            yield (
                run,
                LocalGenerator(
                    loaded.model,
                    Encoder(load_tokenizer(source.tokenizer), chat=config.prompt.chat),
                    model_id=run.spec.label,
                    batch_size=generation.batch_size,
                    batch_tokens=generation.batch_tokens,
                    max_positions=source.shape.max_positions,
                    decoder=decoder,
                ),
            )


def _adapter_folder(run: Run) -> Path | None:
    """Of the adapter that the run trained, or was given; None of a model as it is."""
    if run.spec.kind == "train":
        return run.path / "adapter"
    return adapter_of(run).folder if run.spec.variety == "adapter" else None
