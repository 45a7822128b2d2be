"""The page of `tenbin inspect`: self-contained, every text escaped, nothing that is all zero."""

import re

import pytest

from tenbin.data import Dataset, Splits
from tenbin.data.inspection import inspect_splits
from tenbin.report import inspection_html
from tenbin.terminal import inspection_lines, inspection_tables
from tenbin.types import Example

HOSTILE = "</pre><script>alert(1)</script>"


def example(i, length, category):
    return Example(
        id=str(i), inputs={"text": f"{i}" + "あ" * length}, references=(category,), source=f"a:{i}"
    )


def inspection(length, tokens=True):
    train = [example(i, length + i, HOSTILE if i % 2 else "良い") for i in range(20)]
    splits = Splits(
        train=Dataset.of("train", train), test=Dataset.of("test", [*train[:2], example(99, 3, "良い")])
    )
    counters = {"a-model": lambda texts: [len(text) for text in texts]} if tokens else {}
    return inspect_splits(splits, "classification", counters)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_is_one_safe_file(language):
    page = inspection_html(inspection(600), "口コミ<b>", language=language)
    assert f'<html lang="{language}">' in page
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r"""(?:src|href)=["'](?!#)""", page)
    assert not re.search(r"url\((?!#)", page)
    assert page.count("<svg") == 3  # balance, lengths of train and of test
    assert "口コミ&lt;b&gt;" in page


def test_what_is_doubtful_stands_there_with_numbers_and_places():
    page = inspection_html(inspection(600), "s")
    assert "examples that the first set gives away (same text)" in page
    assert "a:0 = a:0" in page


def test_only_lengths_that_cut_something_are_shown():
    cutting = inspection(600)
    page = inspection_html(cutting, "s")
    assert "&gt; 512" in page
    assert "&gt; 1,024" not in page
    (table,) = [t for t in inspection_tables(cutting) if "Rows longer" in str(t.title)]
    assert [list(column.cells) for column in table.columns][2] == ["256", "512", "256", "512"]
    assert "a-model: no row is longer than 1,024 tokens" in inspection_lines(cutting)


def test_where_nothing_is_cut_one_line_says_so():
    short = inspection(30)
    assert not [t for t in inspection_tables(short) if "Rows longer" in str(t.title)]
    assert "a-model: no row is longer than 256 tokens" in inspection_lines(short)
    page = inspection_html(short, "s")
    assert "a-model: no example of the training set is longer than 256 tokens." in page
    assert 'id="too-long"' not in page


def test_without_tokenizers_there_are_characters_only():
    page = inspection_html(inspection(30, tokens=False), "s")
    assert 'id="lengths"' in page
    assert 'id="tokens"' not in page


def test_two_writings_differ_in_nothing_but_the_date():
    strip = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d")
    first, second = (strip.sub("", inspection_html(inspection(600), "s")) for _ in range(2))
    assert first == second
