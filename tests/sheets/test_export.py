"""The sheet a rater gets: blind, shuffled, with a drop-down, and nothing of who gave an answer."""

import html
import zipfile
from dataclasses import replace

import openpyxl
import pytest
from tests.grading.banks import ANSWERS, ROWS, answered, items_by_answer, person

from tenbin.errors import DataError
from tenbin.grading.items import collect_items, finished_runs
from tenbin.report.words import Words
from tenbin.sheets.export import choose_items, in_blind_order, write_sheet

JA = Words("ja")


@pytest.fixture
def items(tmp_path):
    return collect_items(finished_runs(answered(tmp_path / "study")))


def written(tmp_path, items, **changes):
    options = {"rater": "佐藤", "scale": [0, 0.5, 1], "seed": 0, "words": JA} | changes
    return write_sheet(tmp_path / "佐藤.xlsx", items, **options)


def cells(path, title="採点"):
    return [list(row) for row in openpyxl.load_workbook(path)[title].iter_rows(values_only=True)]


def test_what_a_rater_sees(tmp_path, items):
    asked = choose_items(items, [], "佐藤").items
    head, *rows = cells(written(tmp_path, asked))
    assert head == [
        "番号",
        "問題ID",
        "分類",
        "問題",
        "資料",
        "模範解答",
        "採点の目安",
        "配点",
        "解答",
        "採点",
        "コメント",
        "コード",
    ]
    seen = {(row[1], row[8]): row for row in rows}
    assert set(seen) == {("q3", "雨が降ったから"), ("q3", "わからない"), ("q4", "よい"), ("q4", "=1+1")}
    assert seen[("q3", "わからない")][2:8] == [
        "記述",
        "理由は？",
        "雨が降ったので、試合は中止になった。",
        "雨のため\n雨天",
        "1点:雨に触れている。",
        3,
    ]
    assert all(row[9] is None and row[10] is None for row in rows)


def test_nothing_in_the_file_tells_who_answered(tmp_path, items):
    path = written(tmp_path, items)
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if "theme" not in name]  # colours have an alpha, too
        everything = b"".join(archive.read(name) for name in names).decode("utf-8", "replace")
    everything = html.unescape(everything)
    assert "大阪か京都" in everything
    for name in ANSWERS:
        assert name not in everything


def test_the_drop_down_and_the_header(tmp_path, items):
    sheet = openpyxl.load_workbook(written(tmp_path, items, scale=[3, 0, 1.5]))["採点"]
    (rule,) = sheet.data_validations.dataValidation
    column = next(cell.column_letter for cell in sheet[1] if cell.value == "採点")
    assert str(rule.sqref) == f"{column}2:{column}{len(items) + 1}"
    assert (rule.type, rule.formula1, rule.showErrorMessage) == ("list", '"3,1.5,0"', True)
    assert sheet.freeze_panes == "C2"
    assert all(cell.alignment.wrap_text for row in sheet.iter_rows() for cell in row)
    about = dict(row[:2] for row in cells(tmp_path / "佐藤.xlsx", "説明"))
    assert about["採点者"] == "佐藤"
    assert about["採点の段階"] == "3 / 1.5 / 0"
    assert about["形式"] == "tenbin-grades/1"


def test_answers_are_texts_whatever_they_look_like(tmp_path, items):
    odd = [replace(items[0], answer=text) for text in ("=SUM(A1)", "+1", "1/2", "1E5", "a\x07b\ud83d", "  ")]
    sheet = openpyxl.load_workbook(written(tmp_path, odd))["採点"]
    column = next(cell.column for cell in sheet[1] if cell.value == "解答")
    found = {sheet.cell(row, column).value: sheet.cell(row, column).data_type for row in range(2, 8)}
    assert found == dict.fromkeys(["=SUM(A1)", "+1", "1/2", "1E5", "a\\x07b\\ud83d", "（解答なし）"], "s")


def test_codes_are_letters_that_excel_leaves_alone(items):
    assert all(item.code.isascii() and item.code.isalpha() and len(item.code) == 8 for item in items)


def test_the_order_is_by_question_then_shuffled_for_each_rater_and_seed(items):
    def order(rater, seed):
        return [(item.question, item.answer) for item in in_blind_order(many, rater, seed)]

    many = [
        replace(items[0], question=q, answer=str(i), systems=(str(i),)) for q in ("a", "b") for i in range(6)
    ]
    first = order("佐藤", 0)
    assert first == order("佐藤", 0)
    assert [q for q, _ in first] == ["a"] * 6 + ["b"] * 6
    assert first not in (order("鈴木", 0), order("佐藤", 1))
    assert [a for q, a in first if q == "a"] != [a for q, a in first if q == "b"]
    assert sorted(first) == [(item.question, item.answer) for item in many]


def test_the_order_does_not_follow_that_of_the_systems(items):
    """Over many questions each system stands first about as often."""
    many = [
        replace(items[0], question=f"q{q}", answer=f"{q}-{m}", systems=(f"m{m}",))
        for q in range(200)
        for m in range(4)
    ]
    ordered = in_blind_order(many, "佐藤", 0)
    first = [item.systems[0] for item in ordered[::4]]
    assert min(first.count(f"m{m}") for m in range(4)) > 30


def test_who_is_asked_what(tmp_path):
    study = answered(tmp_path)
    items = collect_items(finished_runs(study))
    by_answer = items_by_answer(study)
    grades = [
        person(by_answer[("q4", "よい")], 1.0),
        person(by_answer[("q4", "よい")], 0.0, "鈴木"),
        person(by_answer[("q4", "=1+1")], 0.0, "鈴木"),
    ]

    def asked(rater, **options):
        found = choose_items(items, grades, rater, **options)
        return [item.answer for item in found.items], found.num_done

    assert asked("佐藤") == (["雨が降ったから", "わからない", "=1+1"], 1)
    assert asked("佐藤", again=True) == (["雨が降ったから", "わからない", "よい", "=1+1"], 0)
    assert asked("長", disputed=True) == (["よい"], 0)
    assert len(asked("長", wanted="all")[0]) == len(items)
    with pytest.raises(DataError, match="no question of the bank has grade = judge"):
        asked("長", wanted="judge")
    with pytest.raises(DataError, match="no answer is disputed"):
        choose_items(items, [], "長", disputed=True)
    with pytest.raises(DataError, match="graded by this rater already"):
        choose_items([by_answer[("q4", "よい")]], grades, "佐藤")


def test_an_answer_that_no_cell_can_hold_is_refused_and_not_cut(tmp_path, items):
    with pytest.raises(DataError, match="32,767") as caught:
        written(tmp_path, [replace(items[0], answer="長" * 32_768), *items[1:]])
    assert caught.value.problems[0].field == "answer"
    assert not (tmp_path / "佐藤.xlsx").exists()


def test_columns_that_no_question_has_are_left_out(tmp_path):
    rows = [{"id": "a", "question": "?", "reference": "x", "grade": "people"}]
    study = answered(tmp_path / "s", rows, {"m": ["y"]})
    head, row = cells(written(tmp_path, collect_items(finished_runs(study))))
    assert head == ["番号", "問題ID", "問題", "模範解答", "配点", "解答", "採点", "コメント", "コード"]
    assert row[:6] == [1, "a", "?", "x", 1, "y"]


def test_in_english(tmp_path, items):
    path = written(tmp_path, items, words=Words("en"))
    assert cells(path, "Grading")[0][-3:] == ["Grade", "Comment", "Code"]
    assert len(ROWS) == 4
