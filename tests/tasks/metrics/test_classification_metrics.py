import time

import numpy as np
import pytest

from tenbin.errors import ConfigError
from tenbin.stats import bootstrap
from tenbin.tasks.base import Scored
from tenbin.tasks.metrics import METRICS, first_word, resample_table, resample_tables
from tenbin.types import Example


def scored(references: list[str], answers: list[str | None]) -> list[Scored]:
    examples = [Example(id=str(i), inputs={}, references=(r,)) for i, r in enumerate(references)]
    score = METRICS["accuracy"].score
    return [Scored(a, e, score(a, e)) for a, e in zip(answers, examples, strict=True)]


def value(metric: str, references: str, answers: str) -> float | None:
    return METRICS[metric].aggregate(scored(list(references), [None if a == "?" else a for a in answers]))


@pytest.mark.parametrize(
    ("metric", "references", "answers", "expected"),
    [
        ("accuracy", "++--", "+---", 0.75),
        ("balanced_accuracy", "+++--", "-++-+", (2 / 3 + 1 / 2) / 2),
        ("balanced_accuracy", "+++", "++0", 2 / 3),
        ("macro_f1", "+++++++++-", "++++++++++", 9 / 19),
        ("macro_f1", "++-", "+?-", (2 / 3 + 1) / 2),
        ("mcc", "++--", "+---", 4 / 48**0.5),
        ("mcc", "++--", "++++", 0.0),
        ("mcc", "++--", "--++", -1.0),
    ],
)
def test_by_hand(metric, references, answers, expected):
    assert value(metric, references, answers) == pytest.approx(expected)


def test_nothing_is_undefined_and_not_0():
    assert METRICS["macro_f1"].aggregate([]) is None


def test_unparsed_costs_the_category_it_belongs_to():
    assert value("balanced_accuracy", "++--", "+?--") == pytest.approx(0.75)
    assert value("accuracy", "++--", "????") == 0.0


def test_macro_f1_interval_of_5650_rows_is_fast():
    rng = np.random.default_rng(0)
    references = rng.choice(["a", "b", "c"], size=5650)
    answers = np.where(rng.random(5650) < 0.8, references, "a")
    rows = scored(references.tolist(), answers.tolist())
    started = time.perf_counter()
    table = resample_table("macro_f1", rows)
    assert table is not None
    found = bootstrap(table.codes, table.statistic, bounds=table.bounds)
    assert time.perf_counter() - started < 1
    assert found.value == pytest.approx(METRICS["macro_f1"].aggregate(rows))
    assert found.low < found.value < found.high


def test_the_table_resamples_as_the_rows_would():
    rows = scored(list("aabbc" * 4), list("abbbc" * 3 + "aaaaa"))
    table = resample_table("macro_f1", rows)
    assert table is not None
    rng = np.random.default_rng(1)
    for _ in range(20):
        drawn = rng.integers(len(rows), size=len(rows))
        counts = np.bincount(table.codes[drawn], minlength=int(table.codes.max()) + 1)[None].astype(float)
        assert table.statistic(counts)[0] == pytest.approx(
            METRICS["macro_f1"].aggregate([rows[i] for i in drawn])
        )


def test_tables_of_two_systems_share_their_codes():
    first, second = scored(list("ab"), list("ab")), scored(list("ab"), list("aa"))
    tables = resample_tables("accuracy", [first, second])
    assert tables is not None
    assert tables[0].codes[0] == tables[1].codes[0]
    assert tables[0].codes[1] != tables[1].codes[1]
    assert resample_tables("rouge1", [first]) is None


def test_first_word_strict():
    read = first_word(("positive", "negative"), strict=True)
    assert read("\n negative　理由") == "negative"
    assert [read(text) for text in ("negative.", "NEGATIVE", "", "  ")] == [None] * 4


def test_first_word_lenient():
    read = first_word(("良い", "良い点もある", "OK"))
    assert read("良い点もあるが") == "良い点もある"
    assert read(" ｏｋ。") == "OK"
    assert read("okay") is None
    assert read("悪い") is None


@pytest.mark.parametrize("categories", [("A", "ａ"), ("", "b"), ()])
def test_categories_that_cannot_be_told_apart(categories):
    with pytest.raises(ConfigError):
        first_word(categories)


def test_strict_categories_are_one_word():
    with pytest.raises(ConfigError, match="one word"):
        first_word(("very good", "bad"), strict=True)
