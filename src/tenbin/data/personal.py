"""Personal data in texts: e-mail addresses, Japanese telephone numbers, card numbers and My Numbers."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

PersonalKind = Literal["e-mail address", "telephone number", "card number", "My Number"]

MAYBE = re.compile(r"[@＠]|\d(?:[^\w\s]|[\s\d]){8,}\d|[（(]0\d")
"""What any of them needs: most texts have none of it and are not looked at further."""
EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}", re.ASCII)
DIGITS = re.compile(
    r"(?<![\d.,-])(?:\d{12,19}|(?:\d{4}[ -]){2,3}\d{4}|\d{4}[ -]\d{6}[ -]\d{5})(?![\d-])", re.ASCII
)
"""In one piece, in fours, or 4-6-5 (American Express)."""
MOBILE = re.compile(r"(?<!\d)(?:0[5789]0[- ]?\d{4}[- ]?\d{4}|0120[- ]?\d{3}[- ]?\d{3})(?![\d-])", re.ASCII)
LANDLINE = re.compile(r"(?<![\d-])(?:\(0\d{1,4}\) ?|0\d{1,4}[-(])\d{1,4}[-)]\d{3,4}(?![\d-])", re.ASCII)
ABROAD = re.compile(r"(?<!\d)\+81[- ]?\d{1,4}[- ]?\d{1,4}[- ]?\d{3,4}(?!\d)", re.ASCII)
HYPHENS = str.maketrans(dict.fromkeys("‐‑‒–—―−ー－", "-"))


@dataclass(frozen=True, slots=True)
class Personal:
    """One find, never whole."""

    kind: PersonalKind
    masked: str
    """First two and last two characters; the rest are `*`."""


def find_personal(text: str) -> Iterator[Personal]:
    """What looks like personal data in a text. Full-width forms count; check digits are checked."""
    if MAYBE.search(text) is None:
        return
    plain = unicodedata.normalize("NFKC", text)
    for match in EMAIL.finditer(plain):
        yield Personal("e-mail address", mask(match[0]))
    plain = plain.translate(HYPHENS)
    for match in DIGITS.finditer(plain):
        digits = re.sub(r"\D", "", match[0])
        if len(digits) == 12 and is_my_number(digits):
            yield Personal("My Number", mask(match[0]))
        elif is_card_number(digits):
            yield Personal("card number", mask(match[0]))
    seen: set[int] = set()
    for pattern in (MOBILE, LANDLINE, ABROAD):
        for match in pattern.finditer(plain):
            num_digits = sum(c.isdigit() for c in match[0])
            if match.start() not in seen and (pattern is not LANDLINE or num_digits in (10, 11)):
                seen.add(match.start())
                yield Personal("telephone number", mask(match[0]))


def mask(text: str) -> str:
    """The ends of a text with the middle hidden.

    >>> mask("090-1234-5678")
    '09*********78'
    """
    if len(text) <= 6:
        return "*" * len(text)
    return text[:2] + "*" * (len(text) - 4) + text[-2:]


def is_card_number(digits: str) -> bool:
    """Whether 13 to 19 digits begin as payment cards do (3 to 6, or 2221 to 2720) and pass the Luhn check.

    ISO/IEC 7812-1, annex B.

    >>> is_card_number("4111111111111111"), is_card_number("4111111111111112")
    (True, False)
    """
    if not 13 <= len(digits) <= 19 or not ("3" <= digits[0] <= "6" or "2221" <= digits[:4] <= "2720"):
        return False
    if len(set(digits)) == 1:
        return False
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_my_number(digits: str) -> bool:
    """Whether the last of 12 digits is the check digit of the others.

    Ministry of Internal Affairs ordinance no. 85 of 2014, article 5: with P_n the n-th digit of the eleven
    from the right and Q_n = n + 1 for n <= 6, n - 5 above, the check digit is 11 - (sum of P_n Q_n mod 11),
    or 0 where that remainder is 0 or 1. About one in ten numbers of 12 digits passes by chance.

    >>> is_my_number("123456789018"), is_my_number("123456789012")
    (True, False)
    """
    if len(digits) != 12 or len(set(digits)) == 1:
        return False
    weights = (n + 1 if n <= 6 else n - 5 for n in range(1, 12))
    remainder = sum(int(p) * q for p, q in zip(reversed(digits[:-1]), weights, strict=True)) % 11
    return int(digits[-1]) == (0 if remainder <= 1 else 11 - remainder)
