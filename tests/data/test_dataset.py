"""Fingerprints name content, and nothing but content."""

import random
from dataclasses import replace

import pytest

from tenbin.data import Dataset
from tenbin.types import Example

EXAMPLES = [
    Example(
        id=f"e{i}",
        inputs={"passage": f"文{i}", "question": "何"},
        references=(f"答{i}", "答"),
        group=f"g{i // 2}",
    )
    for i in range(5000)
]


def test_the_order_of_examples_and_fields_and_the_source_do_not_matter() -> None:
    shuffled = [
        replace(e, inputs=dict(reversed(e.inputs.items())), source=f"b.csv:{e.id}")
        for e in random.Random(0).sample(EXAMPLES, len(EXAMPLES))
    ]
    first, second = Dataset.of("train", EXAMPLES), Dataset.of("test", shuffled)
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 16
    assert first.num_groups == 2500


@pytest.mark.parametrize(
    "change",
    [
        {"id": "e9999"},
        {"inputs": {"passage": "文0", "question": "何時"}},
        {"inputs": {"passage": "文0", "context": "何"}},
        {"references": ("答", "答0")},
        {"references": ("答0",)},
        {"group": None},
        {"group": "g9999"},
    ],
)
@pytest.mark.parametrize("position", [0, 1, 4999])
def test_any_change_of_content_changes_it(change: dict[str, object], position: int) -> None:
    changed = list(EXAMPLES)
    changed[position] = replace(EXAMPLES[position], **change)
    assert Dataset.of("train", changed).fingerprint != Dataset.of("train", EXAMPLES).fingerprint


def test_texts_do_not_run_into_each_other() -> None:
    one = Example(id="a", inputs={"text": "bc"}, references=("d",))
    other = Example(id="a", inputs={"text": "b"}, references=("cd",))
    none = Example(id="a", inputs={"text": "bc", "d": ""}, references=())
    prints = {Dataset.of("train", [example]).fingerprint for example in (one, other, none)}
    assert len(prints) == 3


def test_counts() -> None:
    examples = [Example(id=str(i), inputs={"text": "x"}, references=(c,)) for i, c in enumerate("baaba")]
    unlabeled = Example(id="u", inputs={"text": "x"})
    dataset = Dataset.of("train", [*examples, unlabeled])
    assert dataset.category_counts == {"a": 3, "b": 2}
    assert list(dataset.category_counts) == ["a", "b"]
    assert (dataset.num_unlabeled, dataset.num_groups, len(dataset)) == (1, 0, 6)
