"""Inspect a study's data with every candidate's tokenizer; a model that is not at hand is only said."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_path

from tenbin.data.inspection import Inspection, TokenCounter, inspect_splits
from tenbin.errors import ModelError
from tenbin.study.prepare import Prepared, prepare, say_grading
from tenbin.study.screen import Screen, SilentScreen


def inspect_file(
    study_file: Path,
    overrides: Mapping[str, object] | None = None,
    *,
    cache_dir: Path | None = None,
    offline: bool = False,
    screen: Screen | None = None,
) -> Inspection:
    """Read a study's data and look at them: characters always, tokens for each model that can be had.

    Raises:
        ConfigError: the study file is not right.
        DataError: rows are not right, all of them.
    """
    screen = screen or SilentScreen()
    prepared = prepare(study_file, dict(overrides or {}))
    say_grading(prepared, screen)
    counters = _counters(prepared, cache_dir or user_cache_path("tenbin"), offline, screen)
    return inspect_splits(prepared.splits, prepared.config.task, counters, prepared.rendered)


def _counters(prepared: Prepared, cache_dir: Path, offline: bool, screen: Screen) -> dict[str, TokenCounter]:
    local = [model for model in prepared.config.model if not model.is_hosted]
    if not local:
        return {}
    if find_spec("transformers") is None:
        screen.say('lengths in characters only: for tokens, pip install "tenbin[train]"')
        return {}
    from tenbin.models.encode import Encoder
    from tenbin.models.tokenizer import load_tokenizer
    from tenbin.study.local import find_model

    counters: dict[str, TokenCounter] = {}
    for model in local:
        try:
            source = find_model(
                prepared, model, cache_dir=cache_dir, offline=offline, weights=False, screen=screen
            )
        except ModelError as error:
            screen.say(f"no lengths in tokens of {model.label}: {error}")
            continue
        counters[model.label] = Encoder(load_tokenizer(source.tokenizer)).count
    return counters
