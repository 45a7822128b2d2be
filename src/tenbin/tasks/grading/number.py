"""Numbers in Japanese text: 一億二千万, 1,234.5万円, 5割, 55/84, 5時間55分; read and compared."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tenbin.tasks.grading.reading import Reading, plain, scopes
from tenbin.tasks.grading.units import RATIO, unit_names, with_own
from tenbin.tasks.normalize import nfkc

Table = Mapping[str, tuple[str, Fraction]]

DIGITS = {c: i for i, c in enumerate("〇一二三四五六七八九")} | {"零": 0, "壱": 1, "弐": 2, "参": 3}
SMALL = {"十": 10, "拾": 10, "百": 100, "千": 1000}
BIG = {"万": 10**4, "億": 10**8, "兆": 10**12, "京": 10**16}
KANJI = "".join((*DIGITS, *SMALL, *BIG))
ARABIC = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e[-+]?\d{1,3}(?!\d))?|\.\d+"
TOKEN = re.compile(rf"{ARABIC}|[{KANJI}]", re.IGNORECASE)
RUN = rf"(?:(?>{ARABIC})|[{KANJI}])++"
"""Without a way back: a model that says 1000000000... for ever must not take for ever to read."""
NUMBER = re.compile(
    rf"(?P<sign>マイナス\s*|(?<![\w)）])[-−‐–▲△]\s*|\+)?"
    rf"(?:\\d?frac\{{(?P<texup>{RUN})\}}\{{(?P<texdown>{RUN})\}}"
    rf"|(?P<down>{RUN})\s*分の\s*(?P<up>{RUN})"
    rf"|(?P<first>{RUN})(?:\s*/\s*(?P<second>{ARABIC})(?![\d/]))?)",
    re.IGNORECASE,
)
MOST_CHARACTERS = 1000
"""Of a number that is read: Python itself refuses numbers of more than 4,300 digits."""
BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
CURRENCY_BEFORE = re.compile(r"[¥$€]\s*$")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit, as it stands in a text."""

    text: str
    value: Fraction
    """In the first unit of its dimension; the bare number where it has no unit."""
    dimension: str | None
    """What the unit measures; None without a unit."""
    factor: Fraction
    """Of its unit; of 5時間55分 that of the smaller one."""
    start: int
    end: int


def parse_number(text: str) -> Fraction:
    """The value of one run of digits and Japanese numerals.

    >>> int(parse_number("一億二千万")), int(parse_number("1億2,000万")), int(parse_number("二〇二一"))
    (120000000, 120000000, 2021)
    """
    total = section = Fraction(0)
    current: Fraction | None = None
    after_digit = False
    for token in TOKEN.findall(text):
        if token in BIG:
            part = section + (current or 0)
            total += (part if part or current is not None else Fraction(1)) * BIG[token]
            section, current, after_digit = Fraction(0), None, False
        elif token in SMALL:
            section += (Fraction(1) if current is None else current) * SMALL[token]
            current, after_digit = None, False
        elif token in DIGITS:
            before = current if after_digit and current is not None else Fraction(0)
            current = before * 10 + DIGITS[token]
            after_digit = True
        else:
            current, after_digit = Fraction(token.replace(",", "")), False
    return total + section + (current or 0)


def quantities(text: str, table: Table) -> list[Quantity]:
    """Every number of a text in NFKC with its unit; 5時間55分 is one, a bare 一 of a word is none."""
    units = sorted(table, key=len, reverse=True)
    found: list[Quantity] = []
    lower = text.lower()
    for match in NUMBER.finditer(text):
        value = _value(match)
        if value is None:
            continue
        start = match.start()
        unit, end = _unit_at(lower, match.end(), units)
        if unit is None and (before := CURRENCY_BEFORE.search(text[:start])):
            unit, start = before.group().strip(), before.start()
        if unit is None and _is_word(match.group(), text, match):
            continue
        dimension, factor = table[unit] if unit is not None else (None, Fraction(1))
        if unit == "分" and found and (found[-1].end, found[-1].text[-1]) == (start, "割"):
            dimension, factor = RATIO, Fraction(1, 100)  # 3割5分 is 35 %
        quantity = Quantity(text[start:end], value * factor, dimension, factor, start, end)
        joined = _joined(found[-1], quantity, text) if found else None
        found[-1:] = [joined] if joined else [*found[-1:], quantity]
    return found


def read_number(completion: str, units: str) -> Reading:
    """The one number that a completion gives; none or several different ones is unparsed.

    Numbers with the question's unit count before bare ones, those before numbers with another unit.
    """
    table = with_own(units)
    text = plain(completion)
    boxed = [m.group(1) for m in BOXED.finditer(text)]
    places: Iterator[tuple[str, list[str]]] = scopes(text)
    if boxed:
        places = iter([("box", boxed)])
    own = _first_unit(units, table)
    wanted = own[0] if own else None
    for place, parts in places:
        numbers = [q for part in parts for q in _telling(quantities(part, table), wanted)]
        if place == "first line" and not (numbers and _is_answer(parts[0], numbers)):
            continue
        values = {(q.value, q.dimension) for q in numbers}
        if len(values) == 1:
            return Reading(numbers[0].text, f"{numbers[0].text}, from the {place}")
        if values and place != "conclusion":
            shown = ", ".join(dict.fromkeys(q.text for q in numbers))
            return Reading(None, f"names more than one number in the {place}: {shown}")
    return Reading(None, "names no number" if text else "the answer is empty")


def equal_numbers(answer: str, reference: str, *, units: str, tolerance: str) -> tuple[bool, str]:
    """Whether two numbers are equal within a tolerance, and why (not).

    A bare number has the question's unit. Where that is a share (%, 割), a bare number may also be the
    ratio itself: 0.5 and 50 both answer 50 %. Units of one kind are converted: 90分 is 1.5時間.

    Args:
        units: the question's unit, alternatives apart by `|`; "" = the reference's own, if it has one.
        tolerance: "" = exactly; `0.5` in the reference's unit; `1%` of the reference.
    """
    table = with_own(units)
    theirs = _only(reference, table)
    mine = _only(answer, table)
    assert theirs is not None, f"{reference!r} is no number: the bank was not checked"
    if mine is None:
        return False, f"{answer!r} is no number"
    dimension, factor = _own_unit(units, table, theirs)
    expected = theirs.value if theirs.dimension is not None else theirs.value * factor
    if mine.dimension is not None and dimension is not None and mine.dimension != dimension:
        return False, f"{mine.text} has another unit than {theirs.text}{units and ' ' + units}"
    if mine.dimension is not None and dimension is None and mine.dimension != RATIO:
        dimension, factor = mine.dimension, Fraction(1)
    values = [mine.value if mine.dimension is not None else mine.value * factor]
    if mine.dimension is None and dimension == RATIO:
        values.append(mine.value)
    allowed = _allowed(tolerance, expected, factor)
    right = any(abs(value - expected) <= allowed for value in values)
    within = f" within {tolerance}" if tolerance else ""
    return right, f"{mine.text} {'is' if right else 'is not'} {theirs.text}{within}"


def is_number(text: str, units: str) -> bool:
    """Whether a reference holds one number, and no other."""
    return _only(text, with_own(units)) is not None


def is_tolerance(text: str) -> bool:
    """`0.5` or `1%`, not negative; "" is none."""
    return re.fullmatch(r"(?:\d+(?:\.\d+)?|\.\d+)\s*%?", nfkc(text).strip()) is not None or not text.strip()


def _allowed(tolerance: str, expected: Fraction, factor: Fraction) -> Fraction:
    text = nfkc(tolerance).strip()
    if not text:
        return Fraction(0)
    if text.endswith("%"):
        return abs(expected) * Fraction(text[:-1].strip()) / 100
    return Fraction(text) * factor


def _own_unit(units: str, table: Table, theirs: Quantity) -> tuple[str | None, Fraction]:
    """The unit that bare numbers have: the question's, else the reference's."""
    return _first_unit(units, table) or (theirs.dimension, theirs.factor)


def _first_unit(units: str, table: Table) -> tuple[str, Fraction] | None:
    names = unit_names(units)
    return table[names[0]] if names else None


def _only(text: str, table: Table) -> Quantity | None:
    """The number that a short text is; None where it is none or several."""
    found = quantities(plain(text), table)
    return found[0] if len(found) == 1 else None


def _telling(found: list[Quantity], wanted: str | None) -> list[Quantity]:
    """The numbers that may be the answer: with the wanted unit, else without one, else any."""
    if wanted is None:
        return found
    return [q for q in found if q.dimension == wanted] or [q for q in found if q.dimension is None] or found


def _is_answer(line: str, numbers: list[Quantity]) -> bool:
    """Whether a line is little more than its one number."""
    rest = line.replace(numbers[0].text, "", 1)
    return len(numbers) == 1 and len(re.sub(r"[\s。.、,です約およそ=:→()「」]", "", rest)) <= 1


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match.group()) > MOST_CHARACTERS:
        return None
    up = match["up"] or match["texup"] or match["first"]
    down = match["down"] or match["texdown"] or match["second"]
    value = parse_number(up)
    if down is not None:
        bottom = parse_number(down)
        if bottom == 0:
            return None
        value /= bottom
    sign = (match["sign"] or "").strip()
    return value if sign in ("", "+") else -value


def _unit_at(lower: str, end: int, units: list[str]) -> tuple[str | None, int]:
    """The longest unit that stands at a place, and where it ends."""
    start = end
    while lower[start : start + 1] in (" ", "\u3000", "\\", "{"):
        start += 1
    for name in units:
        if lower.startswith(name, start) and not _cut_word(lower, start, start + len(name)):
            return name, start + len(name)
    return None, end


def _cut_word(text: str, start: int, end: int) -> bool:
    """Whether a Latin unit is only the beginning of a word: the m of `men`."""
    last, after = text[end - 1], text[end : end + 1]
    return last.isascii() and last.isalpha() and after.isascii() and after.isalnum()


def _is_word(run: str, text: str, match: re.Match[str]) -> bool:
    """Whether a run of kanji alone is part of a word (一般, 十分, 千代田) and not a number."""
    if any(c.isdigit() and c.isascii() for c in run):
        return False
    before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    alone = not _kanji(before) and not _kanji(after)
    return not alone or (
        len(run) == 1 and bool(text[: match.start()].strip() or text[match.end() :].strip("。 "))
    )


def _kanji(character: str) -> bool:
    return "一" <= character <= "龥"


def _joined(first: Quantity, second: Quantity, text: str) -> Quantity | None:
    """5時間 and 55分 as one quantity; None where the two do not belong together."""
    together = first.dimension == second.dimension and not text[first.end : second.start].strip("と 　")
    if not together or second.factor >= first.factor or not 0 <= second.value < first.factor:
        return None
    value = first.value + second.value if first.value >= 0 else first.value - second.value
    shown = text[first.start : second.end]
    return Quantity(shown, value, first.dimension, second.factor, first.start, second.end)
