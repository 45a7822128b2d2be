"""How a row says that it is marked, and every mistake in saying so, by row and field."""

import json

import pytest
from tests.grading.banks import ROWS, study_file

from tenbin.errors import DataError
from tenbin.study.prepare import prepare
from tenbin.study.screen import SilentScreen
from tenbin.tasks.grading.marking import BY, marking_of, marking_problems
from tenbin.types import Example


def example(marking=None, references=("東京",), **inputs):
    return Example(id="q", inputs={"question": "?", **inputs}, references=references, marking=marking or {})


@pytest.mark.parametrize(
    ("row", "by"),
    [
        (example(), "exact"),
        (example({"marking_note": "1点: ..."}), "people"),
        (example(choices="大阪\n東京"), "choice"),
        (example({"marking_note": "x"}, choices="大阪\n東京"), "choice"),
        (example(choices="大阪\n京都"), "exact"),
        (example({"grade": "people"}, choices="大阪\n東京"), "people"),
        (example({"grade": "exact"}, ("D",), choices="大阪\n東京"), "exact"),
        (example({"grade": " Judge "}), "judge"),
        (example({"grade": "選択"}, choices="大阪\n東京"), "choice"),
        (example({"grade": "ｃｏｎｔａｉｎｓ"}), "contains"),
    ],
)
def test_who_grades(row, by):
    assert marking_problems(row) == []
    assert marking_of(row).by == by


def test_points_category_and_note():
    found = marking_of(example({"points": "２.5", "category": " 知識 ", "marking_note": "1点"}))
    assert (found.points, found.category, found.note) == (2.5, "知識", "1点")
    assert marking_of(example()).points == 1


def test_a_cell_of_several_lines_holds_an_answer_a_line():
    assert marking_of(example(references=("東京\n東京都",))).references == ("東京", "東京都")
    note = {"grade": "people"}
    assert marking_of(example(note, references=("東京\n東京都",))).references == ("東京\n東京都",)


@pytest.mark.parametrize(
    ("row", "field", "found", "remedy"),
    [
        (example({"grade": "chioce"}), "grade", "'chioce' is no way to grade", "did you mean 'choice'?"),
        (example({"grade": "魚"}), "grade", "'魚'", "use one of choice, number"),
        (example({"points": "0"}), "points", "'0' is not a number above 0", "2.5"),
        (example({"points": "三"}), "points", "'三'", "2.5"),
        (example({"points": "nan"}), "points", "'nan'", "2.5"),
        (example({"grade": "number", "tolerance": "±1"}, ("3",)), "tolerance", "'±1'", "1%"),
        (example({"unit": "円"}), "unit", "graded by exact", "set grade to number"),
        (example({"grade": "choice"}), "choices", "has 0 choices", "one choice a line"),
        (example({"grade": "choice"}, choices="大阪\n京都"), "reference", "'東京' is none", "label"),
        (example(None, ("D",), choices="A. 大阪\nB. 京都"), "reference", "'D' is none of the 2", "`grade`"),
        (example(None, ("B\n③",), choices="大阪\n京都"), "reference", "'③' is none", "label"),
        (example({"grade": "choice"}, choices="東京\n大阪\n東京"), "choices", "the same", "differ"),
        (example({"grade": "number"}, ("3と4",)), "reference", "'3と4' is not one number", "unit"),
    ],
)
def test_what_is_wrong(row, field, found, remedy):
    ((at, what, how),) = marking_problems(row)
    assert at == field
    assert found in what
    assert remedy in how


def test_every_mistake_of_a_bank_is_named_at_once(tmp_path):
    rows = [*ROWS, *({"id": f"x{i}", "question": "?", "reference": "a", "grade": "number"} for i in range(2))]
    rows.append({"id": "y", "question": " ", "reference": "a", "points": -1})
    rows.append({"id": "z", "question": "?", "reference": "a", "points": -1, "grade": "x"})
    with pytest.raises(DataError) as caught:
        prepare(study_file(tmp_path, rows))
    found = {(p.where, p.field) for p in caught.value.problems}
    assert found == {
        ("bank.jsonl:5", "reference"),
        ("bank.jsonl:6", "reference"),
        ("bank.jsonl:7", "question"),
        ("bank.jsonl:8", "points"),
        ("bank.jsonl:8", "grade"),
    }


def test_a_workbook_names_the_cell_of_the_column(tmp_path):
    import openpyxl

    path = study_file(tmp_path)
    book = openpyxl.Workbook()
    book.active.append(["番号", "問題", "正解", "採点", "配点"])
    book.active.append([1, "値段は？", "300円\n三百円", "数値", 2])
    book.active.append([2, "値段は？", "不明", "数値", "多い"])
    book.save(tmp_path / "bank.xlsx")
    columns = (
        'columns = { question = "問題", reference = "正解", grade = "採点", points = "配点", id = "番号" }'
    )
    text = path.read_text(encoding="utf-8").replace("bank.jsonl", "bank.xlsx")
    path.write_text(text.replace("[data]\n", f"[data]\n{columns}\n"), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        prepare(path)
    assert {p.where.split("!")[1] for p in caught.value.problems} == {"C3", "E3"}
    path.write_text(path.read_text(encoding="utf-8") + "", encoding="utf-8")
    prepared = prepare(path, {"data.skip_bad_rows": True})
    (row,) = prepared.splits.test.examples
    assert marking_of(row).references == ("300円", "三百円")
    assert prepared.task.question(row)["points"] == "2"


def test_what_a_grader_sees_has_its_defaults(tmp_path):
    prepared = prepare(study_file(tmp_path))
    seen = {e.id: dict(prepared.task.question(e)) for e in prepared.splits.test.examples}
    assert seen["q1"]["choices"] == "大阪\n東京\n京都"
    assert "context" not in seen["q1"]
    assert seen["q3"] == {
        "question": "理由は？",
        "context": "雨が降ったので、試合は中止になった。",
        "category": "記述",
        "marking_note": "1点:雨に触れている。",
        "points": "3",
        "grade": "people",
    }
    assert json.dumps(seen)
    assert {row["grade"] for row in seen.values()} <= set(BY)


def test_marking_is_part_of_the_data(tmp_path):
    before = prepare(study_file(tmp_path)).splits.test.fingerprint
    changed = [{**ROWS[0], "points": 5}, *ROWS[1:]]
    assert prepare(study_file(tmp_path, changed)).splits.test.fingerprint != before


def test_it_is_said_how_many_questions_are_graded_how(tmp_path):
    from tenbin.study.inspecting import inspect_file

    said = []

    class Told(SilentScreen):
        def say(self, text):
            said.append(text)

    inspect_file(study_file(tmp_path), offline=True, screen=Told())
    assert "questions graded by: choice 1, number 1, people 2" in said
