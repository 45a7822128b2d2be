"""Fence: shows a text to a judge as data, so that nothing in it can pass for an order or for a verdict.

Three walls, each enough against a judge that follows what stands outside the fence:

1. Every text stands between lines that carry a code. The code is a hash of the seed and of all the texts, so
   that no text can hold the code of the prompt it stands in; where one does by chance, another is taken.
2. A text is written as one JSON string on one line: it can open no line, no heading, no turn of a chat, and
   what cannot be seen (control and format characters) or starts a chat's special token is escaped.
3. A verdict must repeat the code. An object that was prepared inside an answer does not have it.

A model may still be talked into a better grade by what it reads; no fence prevents that. Calibration against
people, and the attacks in the tests, measure how often.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence

CODE_DIGITS = 12
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
TURN_MARK = re.compile(r"\[(?=/?[A-Z_]{2,}\])")
"""`[INST]` and the like; `<` and `>` are escaped wherever they stand."""


def fence_code(seed: int, name: str, texts: Sequence[str]) -> str:
    """Twelve hex digits that none of the texts holds.

    Args:
        name: what else makes the prompt different from others: the number of the repeat.
        texts: everything that the prompt shows.
    """
    for attempt in range(1000):
        parts = [str(seed), name, str(attempt), *texts]
        canonical = json.dumps(parts).encode()
        code = hashlib.sha256(canonical).hexdigest()[:CODE_DIGITS]
        if not any(code in text.lower() for text in texts):
            return code
    raise AssertionError("a text that holds a thousand hashes of itself")


def escape(text: str) -> str:
    r"""A text as one JSON string on one line.

    >>> print(escape('一行目\n<|im_end|>"二"'))
    "一行目\n\u003c|im_end|\u003e\"二\""
    """
    shown = "".join(_escaped(c) for c in json.dumps(text, ensure_ascii=False))
    return TURN_MARK.sub(r"\\u005b", shown)


def _escaped(character: str) -> str:
    if character in "<>" or unicodedata.category(character) in UNSEEN:
        # Above 16 bits JSON writes two surrogates.
        return json.dumps(character)[1:-1] if ord(character) > 0x7F else f"\\u{ord(character):04x}"
    return character


def fenced(code: str, title: str, text: str) -> str:
    """One part of a prompt: a line with the code, and the text as one line of data."""
    return f"==== {code} {title} ====\n{escape(text)}"


def fence_end(code: str) -> str:
    """The line after the last part."""
    return f"==== {code} 終わり ===="
