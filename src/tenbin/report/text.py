"""Numbers and foreign text as the report shows them: scales, rates, shortened and visible text."""

import math
import unicodedata
from dataclasses import dataclass

from tenbin.types import Estimate

FRACTION_METRICS = ("rouge", "mcc", "bleu", "kappa")
"""Metrics that the literature prints as fractions; every other score is shown in percent."""

MISSING = "–"


def rate_text(rate: float) -> str:
    """A learning rate as the paper writes it.

    >>> rate_text(2e-4), rate_text(1.5e-5)
    ('2e-4', '1.5e-5')
    """
    mantissa, exponent = f"{rate:.9e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


@dataclass(frozen=True, slots=True)
class Scale:
    """How the values of one metric are written: percent with two digits or a fraction with four."""

    percent: bool

    def number(self, value: float) -> float:
        """The value on this scale."""
        return 100 * value if self.percent else value

    def text(self, value: float | None) -> str:
        """A value, or a dash where there is none."""
        if value is None or not math.isfinite(value):
            return MISSING
        return f"{self.number(value):.{2 if self.percent else 4}f}"

    def signed(self, value: float) -> str:
        """A difference with its sign."""
        return f"{self.number(value):+.{2 if self.percent else 4}f}"

    def interval(self, estimate: Estimate | None) -> str:
        """`low – high`, or a dash where there is none."""
        if estimate is None:
            return MISSING
        return f"{self.text(estimate.low)} – {self.text(estimate.high)}"


def scale_of(metric: str) -> Scale:
    """The scale of a metric id."""
    return Scale(percent=not any(part in metric.lower() for part in FRACTION_METRICS))


def p_text(p_value: float) -> str:
    """A p value after its sign of relation: `= 0.032`, `< 0.001`."""
    if p_value < 0.001:
        return "< 0.001"
    return f"= {p_value:.3f}" if p_value < 0.9995 else "= 1"


def share_text(share: float) -> str:
    """A share in percent; a small one never looks like none.

    >>> share_text(0.0004), share_text(0.0), share_text(0.125)
    ('< 0.1 %', '0.0 %', '12.5 %')
    """
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def seconds_text(seconds: float) -> str:
    """A duration: `45 s`, `12 min 05 s`, `3 h 07 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def gib_text(num_bytes: float) -> str:
    """Bytes in GiB (2^30)."""
    return f"{num_bytes / 2**30:.2f} GiB"


@dataclass(frozen=True, slots=True)
class Shortened:
    """A text with its middle left out, and how many characters that was."""

    head: str
    left_out: int
    tail: str


def shorten(text: str, limit: int = 240) -> Shortened:
    """Keep the first two thirds and the last third of `limit` characters: the end may hold the question."""
    if len(text) <= limit:
        return Shortened(text, 0, "")
    tail = limit // 3
    return Shortened(text[: limit - tail], len(text) - limit, text[len(text) - tail :])


def visible(text: str) -> str:
    r"""Text of a model or a user made safe to show: what cannot be seen or stored is written out.

    Control characters, lone surrogates, and the characters that turn the direction of writing become
    `\x07`, `\ud83d`, `\u202e`; line feeds and tabs stay. It does not escape markup: the template does.

    >>> visible("a\x07b\ud83d")
    'a\\x07b\\ud83d'
    """
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\n\t":
        return character
    code = ord(character)
    category = unicodedata.category(character)
    if category in {"Cc", "Cs", "Zl", "Zp", "Cn", "Co"} or (category == "Cf" and character != "\u200d"):
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character
