"""Passages from a study and from files."""

import json

import pytest
from tests.rag.questions import EXAMPLES

from tenbin.errors import DataError
from tenbin.rag.passages import read_corpus, sentences, study_passages
from tenbin.types import Example


def test_each_passage_of_a_study_once():
    twice = Example(id="d", inputs=EXAMPLES[0].inputs, references=("x",))
    without = Example(id="e", inputs={"question": "?"}, references=("x",))
    assert len(study_passages((*EXAMPLES, twice, without), "passage")) == 3


def test_a_text_file_is_divided_at_empty_lines(tmp_path):
    path = tmp_path / "manual.txt"
    path.write_text("一章。\n続き。\n\n　\n二章。\n\n二章。\n", encoding="utf-8")
    assert [p.text for p in read_corpus(path, "text")] == ["一章。\n続き。", "二章。", "二章。"][:2]


def test_a_folder_of_texts_and_a_table(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("甲。", encoding="utf-8")
    (folder / "b.txt").write_bytes("乙である。これはシフトJISの文章です。".encode("cp932"))
    assert [p.text for p in read_corpus(folder, "本文")] == ["甲。", "乙である。これはシフトJISの文章です。"]
    table = tmp_path / "rows.jsonl"
    table.write_text(json.dumps({"本文": "丙。\n\n丁。"}) + "\n", encoding="utf-8")
    assert [p.text for p in read_corpus(table, "本文")] == ["丙。", "丁。"]


@pytest.mark.parametrize(
    ("name", "content"), [("none.txt", None), ("empty.txt", b" \n\n"), ("sjis.txt", "甲。".encode("cp932"))]
)
def test_a_corpus_that_cannot_be_used_is_an_error(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError):
        read_corpus(tmp_path / name, "text")


@pytest.mark.parametrize(
    "text", ["晴れ。風も弱い。午後は", "「はい。」と言った。\n\n次。", "。。", "", "abc"]
)
def test_sentences_together_are_the_text(text):
    assert "".join(sentences(text)) == text
