"""What a value of a file is as text: numbers, dates and lists as a person would write them."""

import datetime
import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal

BAD = re.compile("[\0\ud800-\udfff]")


def cell_text(value: object) -> str:
    """The text of one value: 3.0 is "3", a date is ISO, a list has an item a line, nothing is "".

    >>> cell_text(3.0), cell_text(datetime.datetime(2024, 1, 31)), cell_text(["a", "b"]), cell_text(None)
    ('3', '2024-01-31', 'a\\nb', '')

    Raises:
        ValueError: it is an object, or bytes that are not UTF-8; the message says so.
    """
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            return str(value)
        case float():
            return _number(value)
        case datetime.datetime():
            midnight = value.time() == datetime.time() and value.tzinfo is None
            return value.date().isoformat() if midnight else value.isoformat(sep=" ")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return str(value)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise ValueError("holds bytes, not text") from None
        case list() | tuple():
            return "\n".join(cell_text(item) for item in value)
        case dict():
            raise ValueError(
                f"holds an object with the keys {', '.join(map(str, list(value)[:5]))}, not text"
            )
    raise ValueError(f"holds a {type(value).__name__}, not text")


def _number(value: float) -> str:
    if math.isnan(value):
        return ""  # how tables written by pandas say "nothing"
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return format(value, ".15g")  # the digits Excel shows; more are noise of the binary form


def reference_texts(value: object) -> list[str]:
    """The answers of one value: a text, a list, a JSON list in a text, or SQuAD's {"text": [...]}.

    >>> reference_texts('["東京", "東京都"]'), reference_texts("東京"), reference_texts({"text": ["東京"]})
    (['東京', '東京都'], ['東京'], ['東京'])

    Raises:
        ValueError: see `cell_text`.
    """
    if isinstance(value, str):
        if value.startswith("[") and value.rstrip().endswith("]"):
            try:
                items = json.loads(value)
            except (ValueError, RecursionError):
                return [value]
            if items and all(isinstance(item, str) for item in items):
                return list(items)
        return [value]
    if isinstance(value, dict) and isinstance(value.get("text"), list | str):
        return reference_texts(value["text"])
    if isinstance(value, list | tuple):
        return [cell_text(item) for item in value]
    return [cell_text(value)]


def storable(text: str) -> bool:
    """Whether a text has neither NUL nor half a surrogate pair. Encoding is the quickest way to find out."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def bad_characters(texts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(field, what is wrong) of those (field, text) pairs that hold what cannot be stored."""
    return [(name, wrong) for name, text in texts if (wrong := bad_character(text)) is not None]


def bad_character(text: str) -> str | None:
    """What is wrong with a text that cannot be stored or tokenized; None if nothing is.

    >>> bad_character("a\\0b")
    'a NUL byte (character 2)'
    """
    match = BAD.search(text)
    if match is None:
        return None
    code, position = ord(match[0]), match.start() + 1
    if code == 0:
        return f"a NUL byte (character {position})"
    if 0xDC00 <= code <= 0xDCFF:  # as `files.open_text` marks bytes
        return f"the byte 0x{code - 0xDC00:02X} (character {position}), which is not of the file's encoding"
    return f"half of a surrogate pair, U+{code:04X} (character {position})"
