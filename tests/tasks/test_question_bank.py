"""The question bank: context and choices stand in the prompt of the rows that have them, and only there."""

import json
from importlib.resources import files

import pytest

from tenbin.errors import ConfigError, DataError
from tenbin.study.prepare import prepare
from tenbin.tasks.base import PromptTemplate
from tenbin.tasks.question_bank import PLAIN

ROWS = [
    {"id": "a", "question": "首都は？", "reference": "東京"},
    {"id": "b", "question": "休館日は？", "context": "休館日は水曜。", "reference": "水曜"},
    {"id": "c", "question": "色は？", "choices": ["赤", "青"], "reference": ["青", "あお"]},
    {"id": "d", "question": "開館は？", "context": "休館日は水曜。", "choices": [], "reference": "9時"},
]


@pytest.fixture
def folder(tmp_path):
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    (tmp_path / "bank.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "study.toml").write_text(
        'name = "bank"\ntask = "question_bank"\n[data]\ntrain = "bank.jsonl"\ntest = "bank.jsonl"\n'
        'split = { validation = 0, test = 0 }\n[[model]]\nsource = "m"\n',
        encoding="utf-8",
    )
    return tmp_path


def test_headings_go_with_their_text(folder):
    prepared = prepare(folder / "study.toml")
    prompts = {e.id: prepared.rendered(e)[0] for e in prepared.splits.train}
    assert prompts["a"] == "次の質問に簡潔に答えてください。\n\n### 質問\n首都は？\n\n### 答え\n"
    assert prompts["b"] == (
        "次の質問に簡潔に答えてください。\n\n### 資料\n休館日は水曜。\n\n### 質問\n休館日は？\n\n### 答え\n"
    )
    assert "### 選択肢\n赤\n青\n\n### 答え" in prompts["c"]
    assert "選択肢" not in prompts["d"]


def test_rows_about_one_context_are_one_group_and_others_their_own(folder):
    groups = {e.id: e.group for e in prepare(folder / "study.toml").splits.train}
    assert groups["b"] == groups["d"]
    assert len(set(groups.values())) == 3


def test_a_question_is_needed(folder):
    with (folder / "bank.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('\n{"id": "e", "question": " ", "reference": "x"}')
    with pytest.raises(DataError, match="is empty"):
        prepare(folder / "study.toml")


def test_the_bank_of_the_samples_is_read(folder):
    text = (files("tenbin") / "samples" / "question_bank.jsonl").read_text(encoding="utf-8")
    (folder / "bank.jsonl").write_text(text, encoding="utf-8")
    prepared = prepare(folder / "study.toml")
    prompts = [prepared.rendered(e)[0] for e in prepared.splits.train]
    assert len(prompts) == 13
    assert sum("### 資料" in prompt for prompt in prompts) == 6
    assert sum("### 選択肢" in prompt for prompt in prompts) == 5


def test_the_parts_of_a_template():
    assert PLAIN.fields == ("context", "question", "choices")
    assert PLAIN.optional_fields == ("context", "choices")
    both = PromptTemplate("$[a]($a)$[/a] $a $b $$[a]x$$[/a] $response")
    assert both.optional_fields == ()
    assert both.prompt({"a": "", "b": "$[a]z$[/a]"}) == "  $[a]z$[/a] $[a]x$[/a] "
    both.check(("a", "b"), "t")
    PromptTemplate("$[a]$b$[/a]$a$response").check(("a", "b"), "t")
    assert PromptTemplate("$[a]$b $a$[/a]$response").optional_fields == ("a",)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("$[a]$a $response", r"\$\[a\]"),
        ("$a$[/a] $response", r"\$\[/a\]"),
        ("$[a]$a$[/b] $response", r"\$\[a\]"),
        ("$a $[a]x $response y$[/a]", r"\$\[a\]"),
        ("$a $response $[a]x$[/a]", r"\$\[a\]"),
    ],
)
def test_marks_without_a_partner_are_refused(text, mark):
    with pytest.raises(ConfigError, match=mark):
        PromptTemplate(text).check(("a",), "study.toml: prompt.template")


LETTERED = {
    "id": "e",
    "question": "フランス革命が始まった年は？",
    "choices": "A. 1776年\nB. 1789年\nC. 1848年",
    "reference": "B",
}


@pytest.mark.parametrize(
    ("completion", "expected"),
    [("B", 1.0), ("答えはB", 1.0), ("1789年", 1.0), ("B. 1789年です。", 1.0), ("C", 0.0), ("AとB", 0.0)],
    ids=["letter", "announced", "text", "both", "wrong", "two"],
)
def test_a_right_letter_is_an_exact_match(folder, completion, expected):
    """Banks name the right choice by its letter, and what is taken from an answer is the choice's text."""
    with (folder / "bank.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("\n" + json.dumps(LETTERED, ensure_ascii=False))
    prepared = prepare(folder / "study.toml")
    (example,) = [e for e in prepared.splits.train if e.id == "e"]
    task = prepared.task
    answer = task.answer(completion, example)
    scores = {metric.id: metric.score(answer, example) for metric in task.metrics}
    assert scores["exact_match_nfkc"] == scores["points"] == expected
    assert (scores["similarity_flexeval"] == 1.0) == (expected == 1.0)


def test_every_reference_of_the_samples_matches_itself(folder):
    text = (files("tenbin") / "samples" / "question_bank.jsonl").read_text(encoding="utf-8")
    (folder / "bank.jsonl").write_text(text, encoding="utf-8")
    prepared = prepare(folder / "study.toml")
    exact = next(metric for metric in prepared.task.metrics if metric.id == "exact_match_nfkc")
    for example in prepared.splits.train:
        answer = prepared.task.answer(example.references[0], example)
        expected = 1.0 if prepared.task.question(example)["grade"] != "number" else None
        assert expected is None or exact.score(answer, example) == expected
