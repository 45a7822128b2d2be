"""The real parts that tests use: tokenizers and the model of the demo, and how they are found."""

import os
from functools import cache
from pathlib import Path

import pytest
from platformdirs import user_cache_path

SHARED = Path(__file__).parents[2] / "shared"
"""Real data and tokenizers, beside the checkout; not part of the project."""


@cache
def demo_model():
    """The converted folder of Gemma 3 270M, from `make model`; None where it was not fetched."""
    from tenbin.models.fetch import MODEL_FILE
    from tenbin.models.loading import resolve_source

    named = os.environ.get("TENBIN_TEST_MODEL")
    path = Path(named) if named else user_cache_path("tenbin") / "downloads" / MODEL_FILE
    if not path.exists():
        return None
    return resolve_source(str(path), cache_dir=user_cache_path("tenbin"), offline=True)


def real_model():
    """The real model, of tests marked `model`: without it they are skipped, and fail where CI is set."""
    source = demo_model()
    if source is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("the real model is not here: run `make model` or set TENBIN_TEST_MODEL")
    return source


@cache
def _encoder(name):
    from tenbin.models.encode import Encoder
    from tenbin.models.tokenizer import load_tokenizer

    if name == "gemma-3":
        return Encoder(load_tokenizer(real_model().tokenizer))
    return Encoder(load_tokenizer(SHARED / "tokenizers" / name))


def encoders():
    """One parameter a real tokenizer: Llama-2's, LLM-jp's, Gemma's. What is missing is a visible skip."""
    there = {name: (SHARED / "tokenizers" / name).is_dir() for name in ("llama-2", "llm-jp-v2.1")}
    found = []
    for name, is_there in there.items():
        missing = pytest.mark.skipif(not is_there, reason=f"../shared/tokenizers/{name} is not here")
        found.append(pytest.param(_Lazy(name), id=name, marks=missing))
    return [*found, pytest.param(_Lazy("gemma-3"), id="gemma-3", marks=pytest.mark.model)]


class _Lazy:
    """An encoder that is loaded when the first test uses it."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(_encoder(self._name), attribute)
