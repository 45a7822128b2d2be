"""Inspection: counts that can be checked by hand."""

import json

import numpy as np

from tenbin.data import Dataset, Splits
from tenbin.data.inspection import Inspection, histogram, inspect_splits
from tenbin.types import Example


def example(i: int, text: str, category: str) -> Example:
    return Example(id=str(i), inputs={"text": text}, references=(category,), source=f"a.csv:{i}")


TRAIN = [
    example(1, "とても広い部屋で快適に過ごすことができました。", "良い"),
    example(2, "とても広い部屋で快適に過ごすことができました。", "悪い"),
    example(3, "とても広い部屋で快適に過ごすことができました！", "良い"),
    example(4, "電話は09012345678です", "悪い"),
]
TEST = [
    example(11, "狭い", "悪い"),
    example(12, "とても広い部屋で快適に過ごすことができました。", "良い"),
    example(13, "あ" * 300, "良い"),
]


def inspection() -> Inspection:
    splits = Splits(train=Dataset.of("train", TRAIN), test=Dataset.of("test", TEST))
    return inspect_splits(splits, "classification", {"bytes": lambda texts: [len(t.encode()) for t in texts]})


def test_turns_to_json() -> None:
    value = json.loads(json.dumps(inspection().to_json()))
    assert value["num_examples"] == {"train": 4, "test": 3}
    assert value["categories"]["test"] == {"良い": 2, "悪い": 1}
    assert set(value["fingerprints"]) == {"train", "test"}


def test_lengths() -> None:
    lengths = {(x.split, x.field, x.unit): x for x in inspection().lengths}
    text = lengths["test", "text", "characters"]
    assert (text.num, text.mean, text.median, text.max) == (3, (2 + 23 + 300) / 3, 23.0, 300)
    assert sum(text.counts) == 3
    assert len(text.edges) == len(text.counts) + 1
    assert lengths["test", "whole example", "bytes"].max == 300 * 3 + 2 * 3
    assert lengths["train", "reference", "characters"].max == 2


def test_tokens_per_character_and_cuts() -> None:
    result = inspection()
    ascii_digits = 11
    characters = sum(len(e.inputs["text"]) + 2 for e in TRAIN + TEST)
    assert result.tokens_per_character == {"bytes": (characters * 3 - 2 * ascii_digits) / characters}
    cuts = {(cut.split, cut.max_length): cut for cut in result.cuts}
    assert (cuts["test", 256].rows, cuts["test", 256].answers) == (1 / 3, 1 / 3)
    assert cuts["test", 1024].rows == 0


def test_an_answer_is_lost_only_where_the_prompt_fills_the_length() -> None:
    splits = Splits(train=Dataset.of("train", [example(1, "x" * 250, "y" * 50), example(2, "x" * 256, "y")]))
    cut = inspect_splits(splits, "summarization", {"m": lambda texts: [len(t) for t in texts]}).cuts[0]
    assert (cut.max_length, cut.rows, cut.answers) == (256, 1.0, 0.5)


def test_a_renderer_gives_the_lengths_of_whole_examples() -> None:
    splits = Splits(train=Dataset.of("train", [example(1, "x" * 10, "y")]))
    lengths = inspect_splits(
        splits, "classification", {}, render=lambda e: ("指示:" + e.inputs["text"], e.references[0] + "。")
    ).lengths
    assert [x.max for x in lengths if x.field == "whole example"] == [15]


def test_findings() -> None:
    result = inspection()
    found = {(finding.kind, finding.split): finding for finding in result.findings}
    assert found["duplicates", "train"].num == 1
    assert found["conflicting categories", "train"].places == ("a.csv:1: 良い, a.csv:2: 悪い",)
    assert found["telephone number", "train"].places == ("a.csv:4: 09*******78",)
    assert "09012345678" not in json.dumps(result.to_json())
    assert found["near duplicates", "train"].num == 2
    assert [(leak.kind, leak.num_examples) for leak in result.leaks] == [("text", 1)]


def test_near_duplicates_across_sets() -> None:
    text = "この宿は駅から近く、朝食も温かくて美味しいので、また泊まりたいと思います。"
    splits = Splits(
        train=Dataset.of("train", [example(1, text, "a"), example(2, "別の文", "b")]),
        test=Dataset.of("test", [example(3, text.replace("また", ""), "a")]),
    )
    found = inspect_splits(splits, "classification").findings
    (finding,) = [f for f in found if f.kind.startswith("near")]
    assert (finding.kind, finding.split, finding.num) == ("near duplicates across sets", None, 1)
    assert finding.places[0].startswith("a.csv:1 ~ a.csv:3 (0.84)")


def test_answers_not_in_their_passage() -> None:
    rows = [
        Example(id=str(i), inputs={"passage": "東京都です", "question": f"{i}"}, references=references)
        for i, references in enumerate([("東京",), ("京都", "大阪"), ("名古屋",)])
    ]
    (finding,) = inspect_splits(Splits(train=Dataset.of("train", rows)), "reading").findings
    assert (finding.kind, finding.num, finding.places) == ("answers not in the passage", 2, ("1", "2"))


def test_histogram_counts_everything_once_and_keeps_long_texts_in_one_bin() -> None:
    values = np.array([1] * 500 + [5] * 499 + [100_000])
    edges, counts = histogram(values)
    assert sum(counts) == 1000
    assert edges[-1] == 100_001
    assert counts[-1] == 1
    assert histogram(np.array([], np.int64)) == ((0, 1), (0,))
    assert histogram(np.array([0])) == ((0, 1), (1,))
