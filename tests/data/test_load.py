"""load_dataset: all files, one list of problems, the right sets."""

from pathlib import Path

import pytest

from tenbin.config import DataConfig
from tenbin.data import Splits, load_dataset
from tenbin.errors import DataError


def load(base: Path, **options: object) -> Splits:
    config = DataConfig.model_validate({"train": "train.csv", **options})
    return load_dataset(config, base=base, input_fields=("text",), target_field="category")


def write(path: Path, num: int, extra: str = "", first: int = 0) -> None:
    rows = "".join(f"文{i},{'良い' if i % 2 else '悪い'}\n" for i in range(first, first + num))
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"text,category\n{rows}{extra}", encoding="utf-8")


def sizes(splits: Splits) -> dict[str, int]:
    return {name: len(dataset) for name, dataset in splits.sets()}


def test_default_shares_where_there_is_only_a_training_file(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", 100)
    splits = load(tmp_path)
    assert sizes(splits) == {"train": 80, "validation": 10, "test": 10}
    assert splits.categories == ("悪い", "良い")
    assert splits.columns == ("text", "category")
    assert splits.notes == (
        "split from train with seed 0 (default shares): train 80, validation 10, test 10",
    )


def test_a_validation_file_alone_chooses_and_reports(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", 100)
    write(tmp_path / "valid.csv", 20, first=100)
    splits = load(tmp_path, validation="valid.csv")
    assert sizes(splits) == {"train": 100, "validation": 20}
    assert splits.notes == ("there is no test set: the validation set both chooses and reports",)
    assert sizes(load(tmp_path, validation="valid.csv", split={"test": 0.2})) == {
        "train": 80,
        "validation": 20,
        "test": 20,
    }


def test_a_test_file_alone_has_validation_taken_from_train(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", 100)
    write(tmp_path / "test.csv", 20, first=100)
    assert sizes(load(tmp_path, test="test.csv")) == {"train": 90, "validation": 10, "test": 20}
    assert sizes(load(tmp_path, test="test.csv", split={"validation": 0, "test": 0})) == {
        "train": 100,
        "test": 20,
    }


def test_problems_of_all_files_come_together(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", 10, ",良い\n")
    write(tmp_path / "test.csv", 10, "x,良i\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path, test="test.csv", validation="vaild.csv", columns={"catgory": "評価"})
    places = [problem.where for problem in caught.value.problems]
    assert places == ["data.columns.catgory", "train.csv:12", "vaild.csv", "test.csv:12"]
    assert "did you mean 'category'?" in caught.value.problems[0].remedy
    assert "did you mean '良い'?" in caught.value.problems[3].remedy


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "a" / "data.csv", 10, ",良い\n")
    write(tmp_path / "b" / "data.csv", 10, ",良い\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path, train="a/data.csv", test="b/data.csv")
    assert [problem.where for problem in caught.value.problems] == ["a/data.csv:12", "b/data.csv:12"]


def test_bad_rows_are_skipped_only_when_asked_and_listed(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", 100, ",良い\n 　,\n,\n")
    splits = load(tmp_path, skip_bad_rows=True)
    assert sum(sizes(splits).values()) == 100
    assert splits.num_bad_rows == 2
    assert splits.left_out == {"train.csv": {"blank lines": 1}}
    assert [problem.where for problem in splits.bad_rows] == [
        "train.csv:102",
        "train.csv:103",
        "train.csv:103",
    ]
    assert "train.csv: 2 rows with errors left out by data.skip_bad_rows" in splits.notes


def test_skipping_bad_rows_does_not_hide_a_broken_file(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", 100, '"')
    with pytest.raises(DataError, match="never closed"):
        load(tmp_path, skip_bad_rows=True)
    (tmp_path / "train.csv").write_text("text,category\n,a\n,b\n")
    with pytest.raises(DataError, match="is empty"):
        load(tmp_path, skip_bad_rows=True)


def test_limits_are_drawn_and_said(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", 100)
    splits = load(tmp_path, limit={"train": 20, "test": 500})
    assert sizes(splits) == {"train": 20, "validation": 10, "test": 10}
    assert splits.train.category_counts == {"悪い": 10, "良い": 10}
    assert splits.notes[-1] == "train: 20 of 80 examples, drawn with seed 0 (data.limit)"


def test_categories_of_the_study_rule_every_file(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", 10)
    assert load(tmp_path, categories=["良い", "悪い", "普通"]).categories == ("良い", "悪い", "普通")
    with pytest.raises(DataError, match="'悪い' is not a category"):
        load(tmp_path, categories=["良い", "普通"])
    with pytest.raises(DataError, match=r"is not one of data\.categories"):
        load(tmp_path, categories=["良い", "普通"], labels={"良い": "良い", "悪い": "不通"})


def test_labels_give_the_order_of_the_categories(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", 100)
    splits = load(tmp_path, labels={"良い": "positive", "悪い": "negative", "最悪": "negative"})
    assert splits.categories == ("positive", "negative")


def test_groups_stay_in_one_set(tmp_path: Path) -> None:
    rows = "".join(f"文{i},{'良い' if i % 2 else '悪い'},宿{i // 4}\n" for i in range(200))
    (tmp_path / "train.csv").write_text(f"text,category,hotel\n{rows}", encoding="utf-8")
    splits = load(tmp_path, split={"group_by": "hotel"})
    groups = [{example.group for example in dataset} for _, dataset in splits.sets()]
    assert sum(map(len, groups)) == 50
    assert splits.groups_together
    with pytest.raises(DataError, match="there is no column 'hotle'"):
        load(tmp_path, split={"group_by": "hotle"})
