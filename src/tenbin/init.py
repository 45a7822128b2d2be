"""A new study: a commented study.toml and a few sample rows to put one's own in place of."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from jinja2 import Environment, StrictUndefined

from tenbin.errors import ConfigError, Problem
from tenbin.runs import write_text

Preset = Literal["plain", "marc-ja", "jsquad", "xlsum", "question-bank"]

PAPER_MODELS = (
    "cyberagent/calm2-7b",
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-2-13b-hf",
    "llm-jp/llm-jp-13b-v1.0",
)
BANK_MODELS = ("llm-jp/llm-jp-3-1.8b", "llm-jp/llm-jp-3-1.8b-instruct3")
PAPER_RATES = "[2e-4, 5e-5, 2e-5, 1e-5]"
NUM_SAMPLE_ROWS = 20


@dataclass(frozen=True, slots=True)
class _Start:
    task: str
    file: str
    models: tuple[str, ...]
    rates: str
    epochs: int


STARTS: dict[Preset, _Start] = {
    "plain": _Start("classification", "reviews.jsonl", ("llm-jp/llm-jp-3-1.8b",), "[2e-4, 5e-5]", 3),
    "marc-ja": _Start("classification", "reviews.jsonl", PAPER_MODELS, PAPER_RATES, 10),
    "jsquad": _Start("reading", "handbook.json", PAPER_MODELS, PAPER_RATES, 10),
    "xlsum": _Start("summarization", "notices.jsonl", PAPER_MODELS, PAPER_RATES, 10),
    "question-bank": _Start("question_bank", "question_bank.jsonl", BANK_MODELS, "[]", 1),
}


def write_study(folder: Path, preset: Preset) -> tuple[Path, Path]:
    """Write study.toml and its sample rows; the files that were written.

    Raises:
        ConfigError: where one of the files is there already: nothing is written over.
    """
    start = STARTS[preset]
    study, rows = folder / "study.toml", folder / start.file
    problems = [
        Problem(where=str(path), found="is there already", remedy="name another folder or move it away")
        for path in (study, rows)
        if path.exists()
    ]
    if problems:
        raise ConfigError(problems)
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    template = environment.from_string(
        (files("tenbin") / "templates" / "study.toml.jinja").read_text(encoding="utf-8")
    )
    text = template.render(
        preset=preset,
        name="reviews" if preset == "plain" else preset,
        task=start.task,
        file=start.file,
        models=start.models,
        rates=start.rates,
        epochs=start.epochs,
    )
    write_text(rows, _sample(start.file))
    write_text(study, text)
    return study, rows


def _sample(name: str) -> str:
    """The first rows of a shipped file; of one in SQuAD form the first title's passages."""
    text = (files("tenbin") / "samples" / name).read_text(encoding="utf-8")
    if name.endswith(".jsonl"):
        return "".join(text.splitlines(keepends=True)[:NUM_SAMPLE_ROWS])
    whole = json.loads(text)
    return json.dumps({**whole, "data": whole["data"][:1]}, ensure_ascii=False, indent=1) + "\n"
