"""Runs of characters shared with the training data."""

import pytest

from tenbin.data import overlap
from tenbin.data.dataset import Dataset
from tenbin.data.findings import find_doubts
from tenbin.data.overlap import COMMON, RUN, training_runs
from tenbin.data.splits import Splits
from tenbin.types import Example

SENTENCE = "昭和三十二年に建てられた旧本館は、いまは町の資料館として使われている。"


def find_overlap(training, examples):
    return overlap.find_overlap(training_runs(training), examples)


def example(name, text, reference="はい"):
    return Example(id=name, inputs={"text": text}, references=(reference,))


def test_a_shared_run_is_found_and_its_share_is_the_characters_in_it():
    run = SENTENCE[:RUN]
    found = find_overlap([example("t", "前文。" + SENTENCE)], [example("e", "あ" * 18 + run, "はい")])
    assert found.num_shared == 1
    assert found.places == (("e", pytest.approx(RUN / (18 + RUN + 2))),)
    assert found.num_half == 1


@pytest.mark.parametrize("length", [RUN - 1, RUN])
def test_a_run_has_a_least_length(length):
    found = find_overlap([example("t", SENTENCE)], [example("e", "ア" * 30 + SENTENCE[3 : 3 + length])])
    assert found.num_shared == (length == RUN)
    assert found.num_half == 0


def test_widths_and_spaces_do_not_hide_it():
    spaced = " ".join(SENTENCE.replace("、", "、\n"))
    assert find_overlap([example("t", SENTENCE)], [example("e", spaced)]).num_half == 1


def test_runs_do_not_reach_across_fields():
    split = Example(id="t", inputs={"a": SENTENCE[:15], "b": SENTENCE[15:30]}, references=("x",))
    assert find_overlap([split], [example("e", SENTENCE[:30])]).num_shared == 0


def test_references_count():
    training = [example("t", "要約せよ", SENTENCE)]
    assert find_overlap(training, [example("e", "別の文", SENTENCE)]).num_shared == 1


def test_a_set_phrase_is_no_overlap():
    training = [example(f"t{i}", f"{i}番の文書。{SENTENCE}") for i in range(COMMON + 1)]
    assert find_overlap(training, [example("e", SENTENCE)]).num_shared == 0
    assert find_overlap(training[:COMMON], [example("e", SENTENCE)]).num_shared == 1
    # the same text with many questions is one text
    same = [Example(id=str(i), inputs={"p": SENTENCE, "q": f"問{i}"}) for i in range(50)]
    assert find_overlap(same, [example("e", SENTENCE)]).num_shared == 1


def test_short_examples_are_counted_apart():
    found = find_overlap([example("t", SENTENCE)], [example("e", "短い"), example("f", SENTENCE)])
    assert (found.num_short, found.num_shared) == (1, 1)
    assert find_overlap([], [example("e", SENTENCE)]).num_shared == 0


def test_it_agrees_with_a_search_for_every_run():
    texts = [SENTENCE[i:] + str(i) * 5 for i in range(0, 20, 3)] + ["別の話である。" * 4]
    others = [SENTENCE[2:26] + "ん" * 9, "別の話である。" * 5, SENTENCE[::-1]]
    found = dict(
        find_overlap(
            [example(str(i), t) for i, t in enumerate(texts)], [example(t, t) for t in others]
        ).places
    )
    for text in others:
        inside = set()
        for start in range(len(text) - RUN + 1):
            if any(text[start : start + RUN] in training for training in texts):
                inside |= set(range(start, start + RUN))
        assert found.get(text, 0) == pytest.approx(len(inside) / (len(text) + 2))


def test_inspection_says_it():
    training = Dataset.of("train", [example("t", SENTENCE)])
    test = Dataset.of("test", [example("e", "新館。" + SENTENCE), example("f", "関係のない短い文")])
    found = [
        f for f in find_doubts(Splits(train=training, test=test), "classification") if "overlap" in f.kind
    ]
    assert [(f.split, f.num) for f in found] == [("test", 1)]
    assert found[0].text.startswith(
        "of 2 examples share 22 or more characters in a row with a training text, 1 of"
    )
    assert "1 are too short" in found[0].text
    assert found[0].places == ("e (88%)",)
