"""Works of a bench: as many examples and tokens as their names say, passages shared by their questions."""

import json

import pytest

from tenbin.bench_works import questions, rows
from tenbin.errors import DataError
from tenbin.train.packing import bundles, num_tokens

LENGTHS = [[20, [[5, 2], [6, 3]]], [30, [[4, 1]]], [25, [[5, 2], [5, 2], [7, 4]]]]


def lengths_file(folder, content=LENGTHS):
    path = folder / "lengths.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_rows_have_the_size_of_their_name_and_nothing_in_common():
    work = rows("4x32", 512)
    assert [len(e) for e in work.examples] == [32] * 4
    assert (work.batch_size, work.most_tokens, work.loss_on) == (4, 128, "all")
    assert all(max(e.prompt_ids + e.target_ids) < 512 for e in work.examples)
    assert len({e.prompt_ids + e.target_ids for e in work.examples}) == 4
    assert rows("4x32", 512) == work


def test_questions_share_their_passage(tmp_path):
    work = questions(lengths_file(tmp_path), most_tokens=100, batch_size=6, vocabulary=512)
    assert [len(e) for e in work.examples] == [27, 29, 35, 32, 32, 36]
    assert [len(e.target_ids) for e in work.examples] == [2, 3, 1, 2, 2, 4]
    assert len({e.group for e in work.examples}) == 3
    laid = sum(num_tokens(work.examples, bundle) for bundle in bundles(work.examples))
    assert laid == 20 + 7 + 9 + 35 + 25 + 7 + 7 + 11


def test_only_whole_batches_are_taken(tmp_path):
    work = questions(lengths_file(tmp_path), most_tokens=100, batch_size=4)
    assert len(work.examples) == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": 1}, "valid array"),
        ([[3, [[0, 2]]]], r"\[0\]\[1\]\[0\]\[0\]: .*greater than or equal to 1"),
        ([[3, [["x", 2]]]], "integer"),
        ([[3, [[4]]]], "required"),
    ],
)
def test_lengths_that_are_none_are_refused(tmp_path, content, said):
    with pytest.raises(DataError, match=said) as caught:
        questions(lengths_file(tmp_path, content), most_tokens=100, batch_size=1)
    assert "bench/question_lengths.py" in str(caught.value)


def test_missing_and_too_few_lengths(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        questions(tmp_path / "none.json", most_tokens=100, batch_size=1)
    with pytest.raises(DataError, match="6 questions; a step takes 7"):
        questions(lengths_file(tmp_path), most_tokens=100, batch_size=7)
