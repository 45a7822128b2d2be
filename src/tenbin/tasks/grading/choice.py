"""Choices of a question, and which one a completion chooses: by letter, number, kana or its text."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tenbin.tasks.grading.reading import CIRCLED, Reading, plain, scopes
from tenbin.tasks.normalize import nfkc

ALPHABETS = (
    "ABCDEFGHIJKLMNOPQRST",
    tuple(str(i) for i in range(1, 21)),
    "アイウエオカキクケコサシスセソ",
    "イロハニホヘト",
)
KANJI_DIGITS = dict(zip("一二三四五六七八九", range(1, 10), strict=True))
LABEL = r"(?:[A-Za-z]|\d{1,2}|[ア-ソイロハニホヘト])"
LABELLED = re.compile(
    rf"^[(\[「『【〔<]*({LABEL})(?:[)\]」』】〕>]+\s*[.:、,]?|\s*[.:、,)]|\s+)\s*(\S.*)$", re.DOTALL
)
OPEN, CLOSE = r"[(\[「『【〔<]", r"[)\]」』】〕>]"
LEADING = re.compile(
    rf"^{OPEN}*({LABEL}){CLOSE}*(?!(?<=[a-z])\s)(?=$|[\s.:、,。!]|番|です|だ|である|が|を|と|は|の)"
)
LISTED = re.compile(
    rf"^{OPEN}*{LABEL}{CLOSE}*(?:\s*(?:[、,/・]|と|や|または|か)\s*{OPEN}*{LABEL}(?![A-Za-z0-9ァ-ン]){CLOSE}*)+"
)
"""Several labels at the beginning: 「AとC」."""
MENTIONED = (
    re.compile(rf"{OPEN}\s*({LABEL})\s*{CLOSE}"),
    re.compile(rf"(?:選択肢|記号|番号)\s*({LABEL})(?![A-Za-z0-9ァ-ン])"),
    re.compile(rf"(?<![A-Za-z0-9ァ-ン])({LABEL})\s*(?:番(?!目)|が正解|が正しい|が最も|が適切|を選)"),
)
ORDINAL = re.compile(r"(\d{1,2}|[一二三四五六七八九])\s*(?:番目|つ目)")
NEGATED = re.compile(r"[)\]」』】〕>\s]*(?:では?な|じゃな|は誤|は間違|は正しくな|は不適|は適切でな|以外)")
"""Directly after a choice: it is named to be refused."""
SEPARATORS = re.compile(r"[\s、。,.・:;()\[\]「」『』【】〔〕<>!?→]+")


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice: its label as printed, and its text."""

    label: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of one question, in order, and the labels by which one can be named."""

    items: tuple[Choice, ...]
    positions: Mapping[str, int]
    """Label -> position from 0: the printed labels, or A, 1, ア of choices without any."""

    def shown(self, position: int) -> str:
        """A choice as it is kept: its text."""
        return self.items[position].text


@lru_cache(maxsize=1 << 12)
def parse_choices(text: str) -> Choices:
    """Choices from a cell or a list: one a line, with or without labels (A. / (1) / ① / ア ...).

    >>> [c.label for c in parse_choices("ア 東京\\nイ 大阪").items]
    ['ア', 'イ']
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    matches = [_label(line) for line in lines]
    labels = tuple(m.group(1).upper() for m in matches if m)
    for alphabet in ALPHABETS:
        if lines and labels == tuple(alphabet[: len(lines)]):
            texts = [m.group(2) for m in matches if m]
            items = tuple(Choice(label, text) for label, text in zip(labels, texts, strict=True))
            return Choices(items, {label: i for i, label in enumerate(labels)})
    items = tuple(Choice(None, line) for line in lines)
    return Choices(items, _silent_labels(lines))


def _label(line: str) -> re.Match[str] | None:
    """A line that begins with a label; marks of emphasis may be all that follows it: `A. **`."""
    return LABELLED.match(plain(line)) or LABELLED.match(nfkc(line.translate(CIRCLED)))


def _silent_labels(texts: Sequence[str]) -> dict[str, int]:
    """Labels that choices without printed ones answer to; not those that their texts begin with."""
    found: dict[str, int] = {}
    for alphabet in ALPHABETS[:3]:
        taken = any(
            m and m.group(1).upper() in alphabet for text in texts for m in [LEADING.match(plain(text))]
        )
        if not taken and len(texts) <= len(alphabet):
            found |= {label: i for i, label in enumerate(alphabet[: len(texts)])}
    return found


def read_choice(completion: str, choices: Choices) -> Reading:
    """The one choice that a completion names; none or more than one is unparsed.

    What follows 「答えは」 counts before the rest, then a first line that is an answer by itself, then a
    conclusion (「よって」), then the whole text. A choice is named by its text or by its label.
    """
    text = plain(completion)
    if not text:
        return Reading(None, "the answer is empty")
    for place, parts in scopes(text):
        if place == "first line" and not _is_answer(parts[0], choices):
            continue
        found = sorted({p for part in parts for p in _mentions(part, choices)})
        if len(found) == 1:
            return Reading(choices.shown(found[0]), f"choice {found[0] + 1}, from the {place}")
        if found:
            named = ", ".join(str(p + 1) for p in found)
            return Reading(None, f"names more than one choice in the {place}: {named}")
    return Reading(None, "names no choice")


def find_choice(text: str, choices: Choices) -> int | None:
    """The position of the choice that a short text is: its label or its text; None where it is neither."""
    squeezed = _squeeze(text)[0]
    for position, choice in enumerate(choices.items):
        own = _squeeze(f"{choice.label or ''}{choice.text}")[0]
        if squeezed and squeezed in (_squeeze(choice.text)[0], own):
            return position
    return choices.positions.get(squeezed.upper())


def is_label(text: str) -> bool:
    """Whether a text is nothing but what could be a label: `D`, `(3)`, `ウ.`."""
    return re.fullmatch(rf"{OPEN}*{LABEL}{CLOSE}*[.:、,)]?", plain(text)) is not None


def _is_answer(line: str, choices: Choices) -> bool:
    """Whether a line is nothing but a choice: its label, its text, or both, with です or a full stop."""
    line = re.sub(r"(?:です|である|だ)?\s*[。.]?$", "", line)
    if find_choice(line, choices) is not None:
        return True
    match = LABELLED.match(line)
    if match is None or match.group(1).upper() not in choices.positions:
        return False
    position = choices.positions[match.group(1).upper()]
    return _squeeze(match.group(2))[0] == _squeeze(choices.shown(position))[0]


def _mentions(text: str, choices: Choices) -> set[int]:
    """Positions of the choices that a text names."""
    found, rest = _by_text(text, choices)
    found |= {choices.positions[label] for label in _labels(rest) if label in choices.positions}
    for match in ORDINAL.finditer(rest):
        number = KANJI_DIGITS.get(match.group(1)) or int(match.group(1))
        if 1 <= number <= len(choices.items):
            found.add(number - 1)
    return found


def _labels(text: str) -> Iterator[str]:
    lines = [line.strip() for line in text.split("\n")]
    for line in lines:
        if listed := LISTED.match(line):
            yield from (label.upper() for label in re.findall(LABEL, listed.group()))
        # Every line: a numbered list is no choice of its first number.
        if (match := LEADING.match(line)) and not NEGATED.match(line, match.end(1)):
            yield match.group(1).upper()
    for match in (m for pattern in MENTIONED for m in pattern.finditer(text)):
        if not NEGATED.match(text, match.end(1)):
            yield match.group(1).upper()


def _by_text(text: str, choices: Choices) -> tuple[set[int], str]:
    """The choices whose whole text stands in a text, longest first, and the text without them."""
    squeezed, places = _squeeze(text)
    left, found = list(text), set()
    for position in sorted(range(len(choices.items)), key=lambda p: -len(choices.items[p].text)):
        wanted = _squeeze(choices.items[position].text)[0]
        start = squeezed.find(wanted) if wanted else -1
        while start >= 0:
            end = start + len(wanted)
            if _apart(squeezed, start, end):
                if not NEGATED.match(text, places[end - 1] + 1):
                    found.add(position)
                for i in range(places[start], places[end - 1] + 1):
                    left[i] = " "
                squeezed = squeezed[:start] + "\0" * len(wanted) + squeezed[end:]
            start = squeezed.find(wanted, end)
    return found, "".join(left).strip()


def _apart(text: str, start: int, end: int) -> bool:
    """Whether a match does not cut a number or a Latin word in two: 10 is not in 100."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (_latin(before) and _latin(text[start])) and not (_latin(after) and _latin(text[end - 1]))


def _latin(character: str) -> bool:
    return character.isascii() and character.isalnum()


@lru_cache(maxsize=1 << 14)
def _squeeze(text: str) -> tuple[str, tuple[int, ...]]:
    """Lower-case text without white space and punctuation, and where each character stood."""
    kept: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for c in nfkc(character).lower():
            if not SEPARATORS.fullmatch(c):
                kept.append(c)
                places.append(place)
    return "".join(kept), tuple(places)
