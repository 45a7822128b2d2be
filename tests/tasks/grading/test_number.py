"""Numbers as Japanese texts write them, and when two are equal."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenbin.tasks.grading.number import equal_numbers, is_number, is_tolerance, parse_number, read_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("一億二千万", 120_000_000),
        ("1億2,000万", 120_000_000),
        ("120百万", 120_000_000),
        ("二〇二一", 2021),
        ("二千二十一", 2021),
        ("千二百", 1200),
        ("十二", 12),
        ("百", 100),
        ("万", 10_000),
        ("3.5万", 35_000),
        ("2千", 2000),
        ("一兆五百億", 1_050_000_000_000),
        ("壱弐参", 123),
        ("1,234,567", 1_234_567),
        (".5", Fraction(1, 2)),
        ("1.5e3", 1500),
    ],
)
def test_numerals(text, value):
    assert parse_number(text) == value


DIGITS = "〇一二三四五六七八九"


def kanji(number):
    """A number below 10^12 in Japanese numerals, written the other way round from how it is read."""
    if number == 0:
        return "〇"
    out = ""
    for unit, name in ((10**8, "億"), (10**4, "万"), (1, "")):
        part = number // unit % 10**4
        if part:
            for small, mark in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
                digit = part // small % 10
                if digit:
                    out += ("" if digit == 1 and mark else DIGITS[digit]) + mark
            out += name
    return out


@given(st.integers(min_value=0, max_value=10**12 - 1))
def test_numerals_are_read_as_they_are_written(number):
    assert parse_number(kanji(number)) == number
    assert parse_number(f"{number:,}") == number


@pytest.mark.parametrize(
    ("answer", "unit", "expected"),
    [
        ("300円", "円", "300円"),
        ("３００円です。", "円", "300円"),
        ("三百円", "円", "三百円"),
        ("¥300", "円", "¥300"),
        ("300 yen", "円", "300 yen"),
        ("300", "円", "300"),
        ("答えは300円。", "円", "300円"),
        ("正解：300", "円", "300"),
        ("Answer: 300", "円", "300"),
        ("**300円**", "円", "300円"),
        (r"\boxed{300}", "円", "300"),
        ("1個300円", "円", "300円"),
        ("x = 300", "", "300"),
        ("1.4倍して2,370円になり、7.9で割る。よって、1個の仕入れ値は300円", "円", "300円"),
        ("55/84", "", "55/84"),
        ("84分の55", "", "84分の55"),
        (r"\frac{55}{84}", "", r"\frac{55}{84}"),
        ("5時間55分", "時間", "5時間55分"),
        ("5時間と55分です", "時間", "5時間と55分"),
        ("マイナス3℃", "℃", "マイナス3°C"),
        ("人口は約1億2,000万人です。", "人", "1億2,000万人"),
        ("一般に300円です", "円", "300円"),
        ("十分に考えて、300円", "円", "300円"),
        ("300円、つまり300円", "円", "300円"),
    ],
)
def test_the_one_number_of_an_answer(answer, unit, expected):
    assert read_number(answer, unit).extracted == expected


@pytest.mark.parametrize(
    ("answer", "unit", "why"),
    [
        ("", "円", "empty"),
        ("わからない", "円", "no number"),
        ("半分", "%", "no number"),
        ("2,370円と300円", "円", "2,370円, 300円"),
        ("答えは300円。いや、答えは200円", "円", "announced answer: 300円, 200円"),
        ("3:2", "", "3, 2"),
        ("一般に千代田区で", "", "no number"),
        ("1/0", "", "no number"),
    ],
)
def test_none_or_several_are_unparsed(answer, unit, why):
    found = read_number(answer, unit)
    assert found.extracted is None
    assert why in found.why


RIGHT = [
    ("300円", "300", "円", ""),
    ("300", "300円", "", ""),
    ("0.3千円", "300円", "", ""),
    ("3百円", "300", "円", ""),
    ("300.0", "300", "", ""),
    ("50%", "50%", "", ""),
    ("50％", "50", "%", ""),
    ("0.5", "50%", "", ""),
    ("50", "50", "%", ""),
    ("5割", "50", "%", ""),
    ("3割5分", "35%", "", ""),
    ("50パーセント", "0.5", "", ""),
    ("355分", "5時間55分", "", ""),
    ("71/12時間", "5時間55分", "", ""),
    ("5時間55分", "355", "分", ""),
    ("1.5km", "1500", "m", ""),
    ("9名", "9人", "", ""),
    ("9人", "9", "名", ""),
    ("2年", "24か月", "", ""),
    ("1.2L", "1200ml", "", ""),
    ("12ポイント", "12", "ポイント", ""),
    ("12pt", "12", "ポイント", ""),
    ("7匹", "7", "匹|頭", ""),
    ("7頭", "7", "匹|頭", ""),
    ("3.14", "3.14159", "", "0.01"),
    ("101", "100", "", "1%"),
    ("99", "100", "", "1%"),
    ("1.51km", "1500", "m", "10"),
    ("55/84", "55/84", "", ""),
    ("110/168", "55/84", "", ""),
    ("0.6548", "55/84", "", "0.0001"),
    ("-3", "-3", "", ""),
    ("▲3", "-3", "", ""),
]
WRONG = [
    ("300ドル", "300円", "", ""),
    ("$300", "300", "円", ""),
    ("1500", "1.5km", "", ""),
    ("1.5", "1500", "m", ""),
    ("0.5%", "50%", "", ""),
    ("3.2", "3.14159", "", "0.01"),
    ("102", "100", "", "1%"),
    ("0.6548", "55/84", "", ""),
    ("3", "-3", "", ""),
    ("300人", "300", "円", ""),
    ("12万", "12", "", ""),
    ("7人", "7", "匹", ""),
]


@pytest.mark.parametrize(("answer", "reference", "unit", "tolerance"), RIGHT)
def test_equal(answer, reference, unit, tolerance):
    right, why = equal_numbers(answer, reference, units=unit, tolerance=tolerance)
    assert right, why


@pytest.mark.parametrize(("answer", "reference", "unit", "tolerance"), WRONG)
def test_not_equal(answer, reference, unit, tolerance):
    right, why = equal_numbers(answer, reference, units=unit, tolerance=tolerance)
    assert not right
    assert "unit" in why or "is not" in why


@pytest.mark.parametrize(("answer", "reference", "unit", "tolerance"), RIGHT + WRONG)
def test_what_was_extracted_is_read_again_as_the_same(answer, reference, unit, tolerance):
    first = read_number(answer, unit).extracted
    assert first is not None
    assert read_number(first, unit).extracted == first


@pytest.mark.parametrize("text", ["300円", "55/84", "5時間55分", "一億", "-3"])
def test_one_number_is_a_reference(text):
    assert is_number(text, "")


@pytest.mark.parametrize("text", ["約束", "3と4", "", "全部"])
def test_anything_else_is_not(text):
    assert not is_number(text, "")


def test_tolerances():
    assert all(map(is_tolerance, ["", "0.5", "1%", "１％", ".5"]))
    assert not any(map(is_tolerance, ["-1", "±1", "1 m", "a%"]))


@pytest.mark.parametrize(
    "text",
    [
        "1時間あたり（1" + "0" * 80,
        "10ガロンは、" + "10" * 2000,
        "一" * 5000,
        "1," * 500 + "x",
        "1e999999999",
        "1分の" * 300,
    ],
    ids=["one and zeros", "thousands of digits", "kanji", "commas", "exponent", "fractions"],
)
def test_a_model_that_does_not_stop_is_read_in_no_time(text):
    """What small models really say; once, one such answer took longer than anyone waited."""
    started = time.process_time()
    read_number(text, "円")
    assert time.process_time() - started < 2
