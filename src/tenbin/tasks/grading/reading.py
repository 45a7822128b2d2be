"""Reading: what a rule took from a completion, and where in a completion an answer is announced."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tenbin.tasks.normalize import nfkc

CIRCLED = {0x2460 + i: f"({i + 1})" for i in range(20)}
"""NFKC would make a bare digit of a circled one, and 「①東京」 one word of label and text."""
EMPHASIS = re.compile(r"\*\*|__|`")
ANNOUNCED = re.compile(
    r"(?:(?:最終的な|最終)?(?:答え|答|正解|解答|回答|正答|結論)|final answer|answer|ans)[^\S\n]*"
    r"(?:(?:としては|は|が|:|=|->|→|⇒|is|、|,|\n)\s*)+",
    re.IGNORECASE,
)
CONCLUDED = re.compile(
    r"(?:よって|したがって|従って|ゆえに|以上より|以上から|∴|therefore|hence)\s*[、,:]?\s*", re.IGNORECASE
)
SENTENCE_END = re.compile(r"[。\n]|\.\s|\.$")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule could read from a completion."""

    extracted: str | None
    """The answer in the words of the completion or of the choice; None = unparsed."""
    why: str
    """What was read and how, or why nothing was."""


def plain(completion: str) -> str:
    """The completion in NFKC without emphasis marks, circled digits in brackets."""
    return EMPHASIS.sub("", nfkc(completion.translate(CIRCLED))).strip()


def announced(text: str) -> list[str]:
    """What follows 「答えは」 and its like, up to the end of each sentence."""
    return [_sentence(text[m.end() :]) for m in ANNOUNCED.finditer(text)]


def concluded(text: str) -> str | None:
    """What follows the last 「よって」 or its like, up to the end of the sentence; None without one."""
    marks = list(CONCLUDED.finditer(text))
    return _sentence(text[marks[-1].end() :]) if marks else None


def first_line(text: str) -> str:
    """The first line; `plain` leaves no blank ones before it."""
    return text.split("\n", 1)[0].strip()


def scopes(text: str) -> Iterator[tuple[str, list[str]]]:
    """Where to look for an answer, most telling place first: (name of the place, its texts)."""
    if parts := announced(text):
        yield "announced answer", parts
    yield "first line", [first_line(text)]
    if (part := concluded(text)) is not None:
        yield "conclusion", [part]
    yield "whole answer", [text]


def _sentence(text: str) -> str:
    text = text.lstrip()
    end = SENTENCE_END.search(text)
    return (text[: end.start()] if end else text).strip()
