"""Japanese words by MeCab: IPADIC (core) and unidic-lite (extra), loaded at first use, cached by text."""

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from tenbin.errors import MissingExtra, Problem

Dictionary = Literal["ipadic", "unidic-lite"]

CACHED_TEXTS = 1 << 16
"""References come back for every system and epoch; about 50 MB at the length of summaries."""
EXTRA = {"ipadic": "tenbin", "unidic-lite": "tenbin[xlsum]"}


def dictionary_version(dictionary: Dictionary) -> str:
    """As it stands in a metric's definition: `fugashi 1.5.2, ipadic 1.0.0`. Loads nothing."""
    return ", ".join(f"{name} {package_version(name)}" for name in ("fugashi", dictionary))


def package_version(name: str) -> str:
    """Version of an installed package, or `not installed`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@lru_cache(maxsize=2)
def segmenter(dictionary: Dictionary) -> Callable[[str], str]:
    """MeCab's wakati output: text -> words with a space between. Loading takes about 0.1 s.

    Raises:
        MissingExtra: if the dictionary is not installed.
    """
    try:
        fugashi: Any = import_module("fugashi")
        package: Any = import_module(dictionary.replace("-", "_"))
    except ImportError as error:
        raise MissingExtra(
            Problem(
                where="metrics",
                found=f"the dictionary {dictionary} is not installed",
                remedy=f'pip install "{EXTRA[dictionary]}"',
            )
        ) from error
    # Without -r MeCab would read the machine's own mecabrc, or fail where there is none.
    arguments = (
        package.MECAB_ARGS
        if dictionary == "ipadic"
        else f'-r "{package.DICDIR}/mecabrc" -d "{package.DICDIR}"'
    )
    tagger = fugashi.GenericTagger(f"-O wakati {arguments}")
    parse: Callable[[str], str] = tagger.parse
    return parse


@lru_cache(maxsize=CACHED_TEXTS)
def words(text: str, dictionary: Dictionary) -> tuple[str, ...]:
    """The words of a text as it stands; punctuation is a word."""
    return tuple(segmenter(dictionary)(text).split())
