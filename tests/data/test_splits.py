"""Splits keep groups and shares, and depend on the content alone."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenbin.data import Dataset, Splits, find_leaks
from tenbin.data.splits import draw, split_examples
from tenbin.errors import DataError
from tenbin.types import Example

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def category(example: Example) -> str:
    return example.references[0]


def make(num: int, group_size: int = 0) -> list[Example]:
    return [
        Example(
            id=str(i),
            inputs={"text": f"文{i}"},
            references=("rare" if i % 10 == 0 else "common",),
            group=f"g{i // group_size}" if group_size else None,
        )
        for i in range(num)
    ]


def ids(examples: tuple[Example, ...]) -> list[str]:
    return [example.id for example in examples]


def test_every_category_has_its_share() -> None:
    parts = split_examples(make(1000), SHARES, seed=0, stratum=category)
    counts = {name: Counter(map(category, examples)) for name, examples in parts.items()}
    assert counts == {
        "train": {"common": 720, "rare": 80},
        "validation": {"common": 90, "rare": 10},
        "test": {"common": 90, "rare": 10},
    }


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does() -> None:
    examples = make(300)
    shuffled = random.Random(1).sample(examples, len(examples))
    first = split_examples(examples, SHARES, seed=3, stratum=category)
    again = split_examples(shuffled, SHARES, seed=3, stratum=category)
    other = split_examples(examples, SHARES, seed=4, stratum=category)
    assert {name: set(ids(part)) for name, part in first.items()} == {
        name: set(ids(part)) for name, part in again.items()
    }
    assert set(ids(first["test"])) != set(ids(other["test"]))
    assert ids(first["train"]) == sorted(ids(first["train"]), key=int)


def test_groups_stay_together_and_shares_hold() -> None:
    examples = make(2000, group_size=7)
    parts = split_examples(examples, SHARES, seed=0, stratum=category)
    groups = [{example.group for example in part} for part in parts.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert abs(len(parts["test"]) - 200) <= 14
    assert abs(sum(category(e) == "rare" for e in parts["test"]) - 20) <= 4


def test_groups_may_be_strata_instead() -> None:
    examples = make(100, group_size=50)
    parts = split_examples(examples, SHARES, seed=0, stratum=lambda e: e.group or "", keep_groups=False)
    assert Counter(example.group for example in parts["test"]) == {"g0": 5, "g1": 5}


def test_many_small_categories_do_not_all_go_to_one_set() -> None:
    examples = [Example(id=str(i), inputs={"text": str(i)}, references=(str(i // 5),)) for i in range(500)]
    parts = split_examples(examples, SHARES, seed=0, stratum=category)
    assert abs(len(parts["test"]) - len(parts["validation"])) <= 1


def test_equal_texts_are_never_on_both_sides() -> None:
    examples = [
        Example(id=str(i), inputs={"text": f"Ａ{i % 40}" if i % 2 else f"A{i % 40}"}) for i in range(400)
    ]
    parts = split_examples(examples, SHARES, seed=0)
    splits = Splits(**{name: Dataset.of(name, part) for name, part in parts.items()})
    assert find_leaks(splits) == ()


def test_a_set_that_would_be_empty_is_an_error() -> None:
    with pytest.raises(DataError, match="3 groups leave nothing for test"):
        split_examples(make(3, group_size=1), SHARES, seed=0)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=30, max_size=60),
    seed=st.integers(0, 1000),
    num_categories=st.integers(1, 4),
)
def test_no_row_is_lost_or_doubled(sizes: list[int], seed: int, num_categories: int) -> None:
    examples = [
        Example(
            id=f"{g}-{i}",
            inputs={"text": f"{g} {i}"},
            references=(str((g + i) % num_categories),),
            group=str(g),
        )
        for g, size in enumerate(sizes)
        for i in range(size)
    ]
    parts = split_examples(examples, SHARES, seed=seed, stratum=category)
    assert sorted(e.id for part in parts.values() for e in part) == sorted(e.id for e in examples)


def test_draw_keeps_shares_and_order() -> None:
    examples = make(1000)
    drawn = draw(examples, 55, seed=0, stratum=category)
    assert Counter(map(category, drawn)) in ({"common": 49, "rare": 6}, {"common": 50, "rare": 5})
    assert ids(drawn) == sorted(ids(drawn), key=int)
    assert ids(drawn) != ids(draw(examples, 55, seed=1, stratum=category))
    assert draw(examples, 2000, seed=0) == tuple(examples)


def test_leaks() -> None:
    def one(i: str, passage: str, question: str, group: str) -> Example:
        return Example(id=i, inputs={"passage": passage, "question": question}, group=group, source=f"f:{i}")

    train = Dataset.of("train", [one("1", "ＡＢＣ", "何", "a"), one("2", "え", "何", "b")])
    test = Dataset.of(
        "test", [one("3", "ABC", "何 ", "c"), one("4", "ABC", "誰", "b"), one("5", "お", "何", "e")]
    )
    leaks = find_leaks(Splits(train=train, test=test))
    assert [(leak.kind, leak.first, leak.second, leak.num_examples, leak.places) for leak in leaks] == [
        ("text", "train", "test", 1, (("f:1", "f:3"),)),
        ("passage", "train", "test", 2, (("f:1", "f:3"), ("f:1", "f:4"))),
        ("group", "train", "test", 1, (("f:2", "f:4"),)),
    ]
