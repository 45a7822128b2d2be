"""Verdict: the judge's own object, read strictly; anything else is unparsed, with the reason."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

BLOCK = re.compile(r"^```(?:json)?[ \t]*\n(.*?)\n?```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was read from a judge's completion."""

    value: float | str | None
    """The grade, or which answer is better; None = unparsed."""
    reason: str
    """The judge's; of an unparsed one what is wrong with it."""


def read_grade(completion: str, code: str, scale: Sequence[float]) -> Verdict:
    """The grade in an object {"code", "reason", "grade"} at the beginning of the completion.

    The code must be the prompt's, the grade a number of the scale. White space and one code block around the
    object are allowed; text after it is left alone unless it holds the code again: a judge that says two
    things has said nothing.
    """
    found = _object(completion, code, "grade")
    if isinstance(found, str):
        return Verdict(None, found)
    grade = found["grade"]
    if isinstance(grade, bool) or not isinstance(grade, int | float) or not isfinite(grade):
        return Verdict(None, f"the grade is {grade!r}, no number")
    if grade not in scale:
        return Verdict(None, f"the grade {grade:g} is not one of {', '.join(f'{g:g}' for g in scale)}")
    return Verdict(float(grade), found["reason"])


def read_better(completion: str, code: str) -> Verdict:
    """`A`, `B` or `same` in an object {"code", "reason", "better"}; see `read_grade`."""
    found = _object(completion, code, "better")
    if isinstance(found, str):
        return Verdict(None, found)
    if found["better"] not in ("A", "B", "same"):
        return Verdict(None, f"better is {found['better']!r}, not A, B or same")
    return Verdict(found["better"], found["reason"])


def _object(completion: str, code: str, key: str) -> dict[str, Any] | str:
    """The judge's object, or what keeps it from being read."""
    text = completion.strip()
    block = BLOCK.match(text)
    rest = text[block.end() :] if block else ""
    text = block.group(1).strip() if block else text
    if not text.startswith("{"):
        return "there is no JSON object at the beginning"
    try:
        value, end = json.JSONDecoder(object_pairs_hook=_no_key_twice).raw_decode(text)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    rest = text[end:] + rest
    if set(value) != {"code", "reason", key}:
        return f"its keys are {', '.join(map(repr, value)) or 'none'}, not code, reason, {key}"
    if value["code"] != code:
        return "its code is not the prompt's"
    if not isinstance(value["reason"], str):
        return "its reason is no text"
    if code in rest:
        return "the code comes again after the object: more than one verdict"
    return dict(value)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found
