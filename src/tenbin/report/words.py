"""Words: the report's texts in English or Japanese, from templates/report_words.toml."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "ja")


@dataclass(frozen=True, slots=True)
class Words:
    """The catalogue in one language; call it with a key and the values to put in."""

    language: Language

    def __call__(self, key: str, **values: object) -> str:
        """The text of `section.key`, or of `section.key_one` where there is one and the value `n` is 1.

        Raises:
            KeyError: if the catalogue does not have it, or a value is missing: a mistake of ours.
        """
        section, name = key.split(".")
        texts = catalogue()[section]
        one = f"{name}_one"
        text: str = texts[one if str(values.get("n")) == "1" and one in texts else name][self.language]
        return text.format(**values)

    def split(self, name: str) -> str:
        """A set's name in words."""
        return self(f"split.{name}") if name in catalogue()["split"] else name

    def baseline(self, name: str) -> str:
        """A baseline's name in words; its own where the catalogue does not know it."""
        key = name.replace(" ", "_")
        return self(f"baseline.{key}") if key in catalogue()["baseline"] else name

    def listed(self, names: list[str], most: int = 4) -> str:
        """Names with commas; only the first few and the number of the others where there are many."""
        comma = ", " if self.language == "en" else "、"
        shown = comma.join(names[:most])
        more = len(names) - most
        if more <= 0:
            return shown
        return f"{shown}, +{more}" if self.language == "en" else f"{shown}、ほか {more} 件"

    def joined(self, sentences: list[str]) -> str:
        """Sentences as one paragraph."""
        return (" " if self.language == "en" else "").join(sentences)


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """All texts: section -> key -> language -> text."""
    path = files("tenbin") / "templates" / "report_words.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))
