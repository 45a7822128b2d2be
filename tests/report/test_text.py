import pytest

from tenbin.report.text import Scale, p_text, rate_text, scale_of, seconds_text, shorten, visible
from tenbin.types import Estimate


@pytest.mark.parametrize(
    ("rate", "text"), [(2e-4, "2e-4"), (5e-05, "5e-5"), (1.5e-5, "1.5e-5"), (0.1, "1e-1"), (3e-10, "3e-10")]
)
def test_rates_are_written_as_in_the_paper(rate, text):
    assert rate_text(rate) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("平文\n\t改行", "平文\n\t改行"),
        ("\x00\x07\x1b\x7f\x85", r"\x00\x07\x1b\x7f\x85"),
        ("\ud83d", r"\ud83d"),
        ("\u202etxt", r"\u202etxt"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u200b\ufeff", r"\u200b\ufeff"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("\U000e0041", r"\U000e0041"),
        ("\ue000", r"\ue000"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text, shown):
    assert visible(text) == shown
    visible(text).encode()  # a lone surrogate would raise


def test_shortening_says_how_much_is_left_out():
    short = shorten("あ" * 100 + "い" * 200 + "う" * 50, 150)
    assert (short.head, short.left_out, short.tail) == ("あ" * 100, 200, "う" * 50)
    assert shorten("あ" * 150, 150).left_out == 0


def test_scales():
    assert scale_of("accuracy").text(0.96839) == "96.84"
    assert scale_of("rouge1").text(0.373) == "0.3730"
    assert scale_of("mcc").signed(-0.25) == "-0.2500"
    assert Scale(percent=True).text(None) == "–"
    assert Scale(percent=True).text(float("nan")) == "–"
    assert Scale(percent=True).interval(Estimate(0.5, 0.4, 0.6, 0.95, 9, "")) == "40.00 – 60.00"


def test_p_values_and_durations():
    assert (p_text(0.0004), p_text(0.0321), p_text(1.0)) == ("< 0.001", "= 0.032", "= 1")
    durations = [seconds_text(s) for s in (0.04, 9.94, 119, 725, 11_220)]
    assert durations == ["0.0 s", "9.9 s", "119 s", "12 min 05 s", "3 h 07 min"]
