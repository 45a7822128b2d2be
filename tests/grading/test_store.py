"""The store: appended, locked, whole after a crash; nothing is changed in place."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from tenbin.errors import DataError
from tenbin.grading.store import Grade, append_grades, latest, now, read_grades

GRADE = Grade(
    question="q1",
    version="v",
    answer="雨\ud83d\u2028",
    extracted=None,
    grade=0.5,
    scale=(0.0, 0.5, 1.0),
    kind="person",
    grader="佐藤",
    reason="半分",
    time="2026-01-31T09:30:00+00:00",
    details={"order": [1, 2]},
)


def test_what_is_written_is_read(tmp_path):
    assert read_grades(tmp_path) == ()
    assert append_grades(tmp_path, []) == 0
    assert not (tmp_path / "grades.jsonl").exists()
    assert append_grades(tmp_path, [GRADE, replace(GRADE, grade=None)]) == 2
    assert append_grades(tmp_path, [replace(GRADE, kind="judge", repeat=1)]) == 1
    assert read_grades(tmp_path) == (
        GRADE,
        replace(GRADE, grade=None),
        replace(GRADE, kind="judge", repeat=1),
    )
    assert GRADE.share == 0.5
    assert replace(GRADE, grade=None).share is None


def test_the_last_word_of_each_grader_counts():
    again = replace(GRADE, grade=1.0, time="2026-02-01T00:00:00+00:00")
    other = replace(GRADE, grader="鈴木")
    repeat = replace(GRADE, kind="judge", repeat=1)
    assert latest([GRADE, other, repeat, again]) == (again, other, repeat)
    assert latest([GRADE, replace(GRADE, grade=None)]) == (replace(GRADE, grade=None),)


def test_a_line_that_a_crash_cut_off_is_left_out_and_written_over(tmp_path):
    append_grades(tmp_path, [GRADE, GRADE])
    path = tmp_path / "grades.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert read_grades(tmp_path) == (GRADE,)
    append_grades(tmp_path, [replace(GRADE, grade=1.0)])
    assert read_grades(tmp_path) == (GRADE, replace(GRADE, grade=1.0))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not a grade"),
        ("[]", "not a grade"),
        ("{}", "'scale'"),
        (None, "unexpected keyword argument 'more'"),
        ({"grade": 2}, "not on the scale"),
        ({"grade": 0.4}, "not on the scale"),
        ({"grader": " "}, "nobody gave it"),
        ({"kind": "cat"}, "'cat' is not one of rule, judge, person"),
        ({"scale": [1.0]}, "is no scale"),
        ({"answer": 3}, "are texts"),
    ],
)
def test_every_line_that_is_no_grade_is_named(tmp_path, line, said):
    append_grades(tmp_path, [GRADE])
    path = tmp_path / "grades.jsonl"
    whole = json.loads(path.read_text(encoding="utf-8"))
    broken = {**whole, "more": 1} if line is None else {**whole, **line} if isinstance(line, dict) else line
    text = broken if isinstance(broken, str) else json.dumps(broken)
    path.write_text(path.read_text(encoding="utf-8") + (text + "\n") * 2, encoding="utf-8")
    with pytest.raises(DataError, match=said) as caught:
        read_grades(tmp_path)
    assert [p.where.rsplit(":", 1)[1] for p in caught.value.problems] == ["2", "3"]


def test_a_grade_off_its_scale_is_the_callers_mistake(tmp_path):
    with pytest.raises(ValueError, match="not on the scale"):
        append_grades(tmp_path, [GRADE, replace(GRADE, grade=0.3)])
    assert read_grades(tmp_path) == ()  # all or none
    append_grades(tmp_path, [replace(GRADE, kind="judge", grade=0.3)])
    with pytest.raises(ValueError, match="outside the scale"):
        append_grades(tmp_path, [replace(GRADE, kind="judge", grade=1.3)])


WRITER = """
import sys
from pathlib import Path
from tenbin.grading.store import Grade, append_grades
for number in range(25):
    append_grades(Path(sys.argv[1]), [Grade(
        question="q", version="v", answer="a", extracted=None, grade=1.0, scale=(0.0, 1.0), kind="judge",
        grader=sys.argv[2], reason="", time="", repeat=number)])
"""


def test_several_writers_lose_nothing(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "ab"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    found = read_grades(tmp_path)
    assert sorted((g.grader, g.repeat) for g in found) == [(n, i) for n in "ab" for i in range(25)]


def test_the_time_is_utc():
    assert now().endswith("+00:00")
