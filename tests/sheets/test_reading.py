"""Sheets as people and Excel leave them: read where the meaning is plain, every other cell named at once."""

import datetime

import openpyxl
import pytest
from tests.grading.banks import answered

from tenbin.errors import DataError
from tenbin.grading.items import collect_items, finished_runs
from tenbin.report.words import Words
from tenbin.sheets.export import write_sheet
from tenbin.sheets.reading import read_grade, read_sheet

SCALE = [0.0, 0.5, 1.0]


@pytest.fixture
def items(tmp_path):
    found = collect_items(finished_runs(answered(tmp_path / "study")))
    return {item.code: item for item in found}


@pytest.fixture
def path(tmp_path, items):
    return write_sheet(
        tmp_path / "佐藤.xlsx", list(items.values()), rater="佐藤", scale=SCALE, seed=0, words=Words("ja")
    )


class Sheet:
    """A sheet in the hands of a rater."""

    def __init__(self, path):
        self.path = path
        self.book = openpyxl.load_workbook(path)
        self.sheet = self.book.worksheets[0]
        self.columns = {cell.value: cell.column for cell in self.sheet[1]}

    def cell(self, row, heading):
        return self.sheet.cell(row, self.columns[heading])

    def fill(self, *grades):
        for row, grade in enumerate(grades, start=2):
            self.cell(row, "採点").value = grade
        return self

    def name(self, row, heading):
        return f"佐藤.xlsx[採点]!{self.cell(row, heading).coordinate}"

    def save(self):
        self.book.save(self.path)
        return self.path


def problems(path, items, **options):
    with pytest.raises(DataError) as caught:
        read_sheet(path, items, SCALE, **options)
    return {(p.where, p.found) for p in caught.value.problems}


def test_grades_and_comments_come_back(path, items):
    sheet = Sheet(path).fill(1, 0.5, 0)
    sheet.cell(2, "コメント").value = " 正しい\n"
    found = read_sheet(sheet.save(), items, SCALE)
    assert (found.rater, found.num_rows, len(found.ungraded)) == ("佐藤", len(items), len(items) - 3)
    assert [g.grade for g in found.grades] == [1.0, 0.5, 0.0]
    first = found.grades[0]
    item = items[sheet.cell(2, "コード").value]
    assert (first.key, first.extracted) == (item.key, item.extracted)
    assert (first.kind, first.grader, first.reason) == ("person", "佐藤", "正しい")
    assert first.source == sheet.name(2, "採点")
    assert first.scale == (0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("value", "grade"),
    [
        (None, None),
        ("", None),
        (" 　", None),
        ("-", None),
        (1, 1.0),
        (0, 0.0),
        (0.5, 0.5),
        (0.50000000001, 0.5),
        ("1", 1.0),
        ("0.5", 0.5),
        ("０．５", 0.5),
        ("．５", 0.5),
        ("0,5", 0.5),
        ("1/2", 0.5),
        ("１", 1.0),
        (" 1 ", 1.0),
        ("1点", 1.0),
        ("０．５点", 0.5),
        ("1.0", 1.0),
        ("○", 1.0),
        ("〇", 1.0),
        ("◯", 1.0),
        ("△", 0.5),
        ("×", 0.0),
    ],
)
def test_a_grade_however_it_is_written(value, grade):
    assert read_grade(value, SCALE) == grade


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (2, "not on the scale"),
        (0.75, "not on the scale"),
        (-1, "not on the scale"),
        ("よい", "not a grade"),
        ("50%", "not a grade"),
        ("1か0", "not a grade"),
        ("TRUE", "not a grade"),
        (float("nan"), "not a grade"),
        (datetime.datetime(2026, 1, 2), "made a date of the grade: 2026-01-02"),
        (datetime.time(0, 30), "made a date"),
    ],
)
def test_what_is_no_grade(value, said):
    with pytest.raises(ValueError, match=said):
        read_grade(value, SCALE)


def test_marks_are_shares_of_any_scale():
    assert read_grade("○", [0, 2, 4]) == 4
    assert read_grade("△", [0, 2, 4]) == 2
    with pytest.raises(ValueError, match="not on the scale"):
        read_grade("△", [0, 1])


def test_every_wrong_cell_is_named_at_once_and_nothing_counts(path, items):
    sheet = Sheet(path).fill(1, 2, "よい", datetime.datetime(2026, 1, 2), "=1/2", 1)
    sheet.cell(7, "コード").value = "QQQQQQQQ"
    found = problems(sheet.save(), items)
    assert found == {
        (sheet.name(3, "採点"), "2 is not on the scale"),
        (sheet.name(4, "採点"), "'よい' is not a grade"),
        (sheet.name(5, "採点"), "Excel has made a date of the grade: 2026-01-02 00:00:00"),
        (sheet.name(6, "採点"), "the formula has no stored value"),
        (sheet.name(7, "コード"), "'QQQQQQQQ' is the code of no answer in this study folder"),
    }


def test_rows_may_be_moved_and_blank_rows_and_own_columns_put_in(path, items):
    sheet = Sheet(path).fill(*[1] * len(items))
    rows = [[cell.value for cell in row] for row in sheet.sheet.iter_rows(min_row=2)]
    sheet.sheet.delete_rows(2, len(rows))
    rows.reverse()
    grade = sheet.columns["採点"] - 1
    rows[0][grade] = 0
    for number, row in enumerate(rows):
        sheet.sheet.append([None] * 3)
        sheet.sheet.append([*row, "あとで見る", number])
        for cell in sheet.sheet[sheet.sheet.max_row]:
            cell.data_type = "s" if isinstance(cell.value, str) else cell.data_type  # not a formula
    sheet.sheet.append(["メモ：難しかった"])
    sheet.sheet.cell(1, len(rows[0]) + 1).value = "メモ"
    found = read_sheet(sheet.save(), items, SCALE)
    assert sorted(g.grade for g in found.grades) == [0.0] + [1.0] * (len(items) - 1)
    assert {g.key for g in found.grades} == {item.key for item in items.values()}


def test_columns_may_be_moved_and_left_out(path, items, tmp_path):
    sheet = Sheet(path).fill(0.5)
    code = sheet.cell(2, "コード").value
    book = openpyxl.Workbook()
    book.active.append(["コード", "採点"])
    book.active.append([f" {code.lower()} ", "０．５"])
    book.save(tmp_path / "a.xlsx")
    found = read_sheet(tmp_path / "a.xlsx", items, SCALE, rater=" 鈴木 ")
    assert [(g.key, g.grade, g.grader, g.reason) for g in found.grades] == [
        (items[code].key, 0.5, "鈴木", "")
    ]
    assert problems(tmp_path / "a.xlsx", items) == {("a.xlsx", "the sheet does not say who graded")}


def test_a_csv_of_the_sheet_is_read_too(path, items, tmp_path):
    code = Sheet(path).cell(2, "コード").value
    (tmp_path / "a.csv").write_bytes(f"コード,採点\r\n{code},○\r\n".encode("cp932"))
    (grade,) = read_sheet(tmp_path / "a.csv", items, SCALE, rater="鈴木").grades
    assert (grade.grade, grade.source) == (1.0, "a.csv:2")


def test_a_column_sorted_alone_is_found_out(path, items):
    sheet = Sheet(path).fill(*[1] * len(items))
    first, last = sheet.cell(2, "解答"), sheet.cell(len(items) + 1, "解答")
    first.value, last.value = last.value, first.value
    assert {where for where, _ in problems(sheet.save(), items)} == {
        sheet.name(2, "解答"),
        sheet.name(len(items) + 1, "解答"),
    }


def test_spaces_and_line_ends_that_excel_changes_are_no_other_answer(path, items):
    sheet = Sheet(path).fill(1)
    cell = sheet.cell(2, "解答")
    cell.value = f" {cell.value}_x000D_\n"
    assert len(read_sheet(sheet.save(), items, SCALE).grades) == 1


def test_one_answer_twice(path, items):
    sheet = Sheet(path).fill(1)
    sheet.sheet.append([cell.value for cell in sheet.sheet[2]])
    assert len(read_sheet(sheet.save(), items, SCALE).grades) == 1
    last = sheet.sheet.max_row
    sheet.cell(last, "採点").value = 0
    assert problems(sheet.save(), items) == {
        (sheet.name(last, "採点"), f"0, and 1 for the same answer at {sheet.name(2, '採点')}")
    }


def test_a_grade_without_a_code(path, items):
    sheet = Sheet(path).fill(1, 1)
    sheet.cell(3, "コード").value = None
    assert problems(sheet.save(), items) == {(sheet.name(3, "コード"), "the row has a grade and no code")}


def test_sheets_that_cannot_be_read_back(path, items, tmp_path):
    assert problems(path, items) == {("佐藤.xlsx", "no answer is graded")}
    sheet = Sheet(path).fill(1)
    sheet.cell(1, "採点").value = "点数"
    sheet.cell(1, "番号").value = "コメント"
    assert problems(sheet.save(), items) == {
        ("佐藤.xlsx", "the header has no column '採点'"),
        ("佐藤.xlsx", "the header has the column 'コメント' twice"),
    }
    (tmp_path / "b.xlsx").write_text("not a workbook", encoding="utf-8")
    ((where, found),) = problems(tmp_path / "b.xlsx", items)
    assert where == "b.xlsx"
    assert "not an Excel workbook" in found
    ((where, found),) = problems(tmp_path / "佐籐.xlsx", items)
    assert "no such file" in found


def test_the_sheet_may_be_renamed_and_moved(path, items):
    sheet = Sheet(path).fill(1)
    sheet.book.move_sheet("採点", offset=1)
    assert len(read_sheet(sheet.save(), items, SCALE).grades) == 1
    sheet.book.move_sheet("採点", offset=-1)
    sheet.sheet.title = "完了"
    assert len(read_sheet(sheet.save(), items, SCALE).grades) == 1
