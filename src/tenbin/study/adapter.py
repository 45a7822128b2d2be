"""Adapter: one on disk that is evaluated as it is: its weights, and the template it was trained with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tenbin.errors import ModelError, Problem
from tenbin.models.adapters import CONFIG, WEIGHTS, read_folder
from tenbin.models.files import sha256_file
from tenbin.models.loading import ModelSource
from tenbin.runs import Run, RunSpec, read_record, write_json

FINGERPRINT_DIGITS = 16
RECORD = "adapter.json"
"""In the folder of a run that evaluated an adapter from elsewhere: where that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter folder, tenbin's or PEFT's, checked but not loaded."""

    folder: Path
    name: str
    """For tables and folders."""
    base_model: str | None
    """As the adapter names it."""
    fingerprint: str
    """Of its weights: first 16 hex digits of their SHA-256."""
    info: Mapping[str, Any]
    """What `tenbin.json` says; empty for an adapter that PEFT made."""

    def overrides(self) -> dict[str, object]:
        """Keys of a study, so that the adapter is asked as it was trained: template, categories, length.

        Empty for an adapter that PEFT made: it does not say.
        """
        kept = {
            "prompt.template": self.info.get("template"),
            "prompt.chat": self.info.get("chat"),
            "generation.max_new_tokens": self.info.get("max_new_tokens"),
            "data.categories": self.info.get("categories") or None,
        }
        return {key: value for key, value in kept.items() if value is not None}

    def check(self, source: ModelSource) -> None:
        """Refuse a base model that is not the one the adapter was trained on, as far as it says.

        Raises:
            ModelError: the fingerprints differ.
        """
        wanted = self.info.get("base_model_fingerprint")
        if wanted is not None and wanted != source.fingerprint:
            raise ModelError(
                Problem(
                    where=str(self.folder),
                    found=f"the adapter was trained on {self.base_model} ({wanted}), and {source.name} is"
                    f" another model ({source.fingerprint})",
                    remedy="name the base model that it was trained on",
                )
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An adapter that is to be evaluated, and whether the model without it is too."""

    adapter: Adapter
    with_base: bool = False

    def specs(self, specs: Sequence[RunSpec]) -> list[RunSpec]:
        """The runs to do, from those of the model alone."""
        about = {"name": self.adapter.name, "fingerprint": self.adapter.fingerprint}
        found = []
        for spec in specs:
            if spec.kind == "eval":
                found += [spec] if self.with_base else []
                found.append(replace(spec, settings={**spec.settings, "adapter": about}))
        return found

    def record(self, runs: Sequence[Run]) -> None:
        """Keep beside its runs where the adapter is, to ask it again."""
        for run in runs:
            if run.spec.variety == "adapter":
                write_json(run.path / RECORD, {"folder": str(self.adapter.folder.resolve())})


def adapter_of(run: Run) -> Adapter:
    """The adapter of a run that evaluated one from elsewhere.

    Raises:
        ModelError: where it is was not kept, it is gone, or it has changed.
    """
    remedy = "evaluate it again: tenbin eval STUDY.toml --adapter FOLDER"
    path = run.path / RECORD
    if not path.exists():
        found = "it does not say where its adapter is (an older tenbin made it)"
        raise ModelError(Problem(where=str(run.path), found=found, remedy=remedy))
    adapter = read_adapter_folder(Path(read_record(path, lambda raw: str(raw["folder"]))))
    about = run.spec.settings["adapter"]
    assert isinstance(about, Mapping)
    if adapter.fingerprint != about["fingerprint"]:
        found = f"the adapter in {adapter.folder} has changed since: {adapter.fingerprint}, then"
        found += f" {about['fingerprint']}"
        raise ModelError(Problem(where=str(run.path), found=found, remedy=remedy))
    return adapter


def check_same_model(runs: Sequence[Run], label: str, fingerprint: str) -> None:
    """Refuse to ask again with another model than the runs were made with.

    Raises:
        ModelError: every run of another model.
    """
    problems = [
        Problem(
            where=str(run.path),
            found=f"{label} is not the model of this run any more: {fingerprint},"
            f" then {run.spec.model_fingerprint}",
            remedy="run the study again, or name the model that was used",
        )
        for run in runs
        if run.spec.model_fingerprint != fingerprint
    ]
    if problems:
        raise ModelError(problems)


def read_adapter_folder(folder: Path, name: str | None = None) -> Adapter:
    """Read what an adapter folder says.

    Args:
        name: for tables; without it the folder's, or of an adapter in a study its run's.

    Raises:
        ModelError: it is no adapter that can be used.
    """
    if not (folder / CONFIG).exists():
        found = f"there is no {CONFIG} in it" if folder.is_dir() else "there is no such folder"
        raise ModelError(Problem(where=str(folder), found=found, remedy="name the folder of a LoRA adapter"))
    read = read_folder(folder)
    if not (folder / WEIGHTS).exists():
        remedy = "copy the adapter again, whole (tenbin reads safetensors only)"
        raise ModelError(Problem(where=str(folder), found=f"there is no {WEIGHTS} in it", remedy=remedy))
    return Adapter(
        folder=folder,
        name=name or _name(folder),
        base_model=read.base_model,
        fingerprint=sha256_file(folder / WEIGHTS)[:FINGERPRINT_DIGITS],
        info=read.info,
    )


def _name(folder: Path) -> str:
    """A study keeps each adapter as `<run>/adapter`, which would name them all alike."""
    whole = folder.resolve()
    name = whole.parent.name if whole.name == "adapter" else whole.name
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name) or "adapter"
