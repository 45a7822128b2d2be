"""The same questions as other tools get them: padded, or packed whole into rows."""

import importlib.util
import json
from pathlib import Path

import pytest

from tenbin.bench_works import questions, rows
from tenbin.device import Device

PATH = Path(__file__).parents[2] / "bench/peers/batches.py"
SPEC = importlib.util.spec_from_file_location("batches", PATH)
batches = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(batches)
CPU = Device("cpu", "a processor", None)


@pytest.fixture
def work(tmp_path):
    path = tmp_path / "lengths.json"
    path.write_text(json.dumps([[100 + n, [[10, 3], [20, 5]]] for n in range(80)]), encoding="utf-8")
    return questions(path, most_tokens=4096, batch_size=16, vocabulary=512)


def test_rows_are_one_batch_with_every_token_but_the_first_a_target():
    ((inputs, tokens, targets, examples),), note = batches.batches(rows("3x10", 512), "peft", CPU)
    assert inputs["input_ids"].shape == (3, 10)
    assert (tokens, targets, examples, note) == (30, 27, 3, None)


def test_padded_batches_hold_every_question_once(work):
    made, note = batches.batches(work, "peft", CPU)
    assert [examples for *_, examples in made] == [16] * 10
    assert "padded" in note
    assert sum(tokens for _, tokens, *_ in made) == sum(map(len, work.examples))
    for inputs, tokens, targets, _ in made:
        assert inputs["attention_mask"].sum() == tokens
        assert (inputs["labels"] != batches.IGNORED).sum() == targets
        assert inputs["attention_mask"].any(0).all(), "no column of padding alone"


def test_packed_rows_have_one_shape_and_labels_on_answers_only(work):
    made, note = batches.batches(work, "unsloth", CPU)
    assert "attention may cross" in note
    lengths = sorted(len(e) for e in work.examples)
    for inputs, tokens, targets, examples in made:
        assert inputs["input_ids"].shape == (1, batches.PACKED_TOKENS)
        assert (inputs["labels"] != batches.IGNORED).sum() == targets
        assert 3 * examples <= targets <= 5 * examples
        assert batches.PACKED_TOKENS - lengths[-1] < tokens <= batches.PACKED_TOKENS, "filled"


def test_examples_stay_whole_in_random_order(work):
    laid = batches.packed(list(work.examples))
    assert [e for row in laid for e in row] == list(work.examples[: sum(map(len, laid))])
    first = batches.batches(work, "unsloth", CPU)[0][0][0]["input_ids"][0, : len(work.examples[0])].tolist()
    assert first != [*work.examples[0].prompt_ids, *work.examples[0].target_ids]
