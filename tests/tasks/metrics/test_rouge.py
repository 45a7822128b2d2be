import pytest

from tenbin.tasks.metrics.rouge import (
    flexeval_sentences,
    rouge,
    rouge_flexeval,
    rouge_l,
    rouge_n,
    rouge_tokens,
)


def test_by_hand():
    answer, reference = ["犬", "が", "公園", "を", "走っ", "た"], ["犬", "は", "公園", "で", "走っ", "た"]
    assert rouge_n(answer, reference, 1) == pytest.approx(4 / 6)
    assert rouge_n(answer, reference, 2) == pytest.approx(1 / 5)
    assert rouge_l(answer, reference) == pytest.approx(4 / 6)


def test_clipped_counts_against_sets():
    answer, reference = "会社は会社は会社は赤字だ", "会社は赤字だ"
    assert rouge(answer, reference, "ipadic")["rouge1"] == pytest.approx(2 / 3)
    assert rouge_flexeval("1", answer, reference) == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("雨、雨が降る。", ("雨", "雨", "が", "降る")),
        ("A$B\tC", ("a", "b", "c")),
        ("あ\u0007い\ufffd", ("あい",)),
        ("", ()),
        ("。、", ()),
    ],
)
def test_cleaning(text, expected):
    assert rouge_tokens(text, "ipadic") == expected


def test_characters():
    assert rouge_tokens("雨 が、降る", "characters") == tuple("雨が降る")


def test_flexeval_splits_at_ascii_points():
    assert flexeval_sentences("犬.猫") == (("犬",), ("猫",))
    assert rouge_flexeval("L", "...", "犬") == 0.0
    assert rouge_flexeval("1", "", "犬") == 0.0


def test_dictionaries_give_other_values_so_they_are_other_metrics():
    pair = ("東京都知事選挙が行われた", "都知事選は東京で行われる")
    assert rouge(*pair, "ipadic") != rouge(*pair, "characters")
