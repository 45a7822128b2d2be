import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenbin.errors import MissingExtra
from tenbin.tasks import normalize


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Tokyo　Tower。。", "tokyo tower"), ("東京。 ", "東京。"), ("ＡＢ", "ａｂ"), ("。", "")],
)
def test_jglue(text, expected):
    assert normalize.jglue(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("富士山が", "富士山"),
        ("北海道<EOD|LLM-jp>の", "北海道"),
        ("、", "、"),
        ("のに", "の"),
        ("  名古屋からは。 ", "名古屋"),
        ("いろは", "いろ"),
        ("から", "から"),
    ],
)
def test_paper_trim(text, expected):
    assert normalize.paper_trim(text) == expected


@given(st.text(alphabet="からはがにとでをへての、。東京 "))
def test_paper_trim_leaves_a_character_and_ends(text):
    trimmed = normalize.paper_trim(text)
    assert text.strip().startswith(trimmed)
    assert bool(trimmed) == bool(text.strip())
    assert (
        len(trimmed) == 1
        or not trimmed.endswith(normalize.PAPER_ENDINGS)
        or trimmed in normalize.PAPER_ENDINGS
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("「蛹化（ようか）」", "蛹化"),
        ("ジョン・スミス", "ジョンスミス"),
        ("A - B", "ab"),
        ("『「甲」』", "甲"),
    ],
)
def test_ai_king(text, expected):
    assert normalize.ai_king(text) == expected


def test_jpstable_width_emoji_and_long_vowels():
    assert normalize.jpstable("ﾃｽﾄ😀　ですーーー") == "テストですー"


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "neologdn", None)
    normalize._jpstable_packages.cache_clear()
    with pytest.raises(MissingExtra, match=r'pip install "tenbin\[jpstable\]"'):
        normalize.jpstable("あ")
    normalize._jpstable_packages.cache_clear()
