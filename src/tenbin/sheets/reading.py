"""Graded sheets read back, as Excel and its users leave them: every mistake by its cell, all at once."""

import datetime
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from math import isclose, isfinite
from pathlib import Path

from tenbin.data.cells import cell_text
from tenbin.data.files import Rows, Source
from tenbin.data.readers import open_rows
from tenbin.errors import DataError, Problem
from tenbin.grading.items import Item
from tenbin.grading.store import Grade
from tenbin.report.text import visible
from tenbin.report.words import LANGUAGES, Words
from tenbin.sheets.columns import NEEDED, Column, cell_texts, heading, known_headings
from tenbin.sheets.export import grade_text
from tenbin.tasks.normalize import nfkc

SYMBOLS: Mapping[str, float] = (
    dict.fromkeys("○◯〇◎⭕", 1.0) | {"△": 0.5, "▲": 0.5} | dict.fromkeys("×✕✖✗╳", 0.0)
)
"""Marks of Japanese teachers, as shares of the highest grade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetGrades:
    """What one sheet holds."""

    path: Path
    rater: str
    grades: tuple[Grade, ...]
    """One a graded answer, without a time."""
    num_rows: int
    """Answers on the sheet."""
    ungraded: tuple[str, ...]
    """Cells that are still empty."""
    notes: tuple[str, ...] = ()


def read_sheet(
    path: Path, items: Mapping[str, Item], scale: Sequence[float], *, rater: str | None = None
) -> SheetGrades:
    """Read one sheet that a person has filled in.

    Args:
        items: by code, the answers that can be graded.
        scale: the allowed grades, from low to high.
        rater: instead of the name that the sheet says.

    Raises:
        DataError: with every cell that is wrong; then none of its grades count.
    """
    name, told = _about(path)
    rows, columns = _open(path, name)
    who = rater or told
    problems: list[Problem] = []
    if who is None or not who.strip():
        found = "the sheet does not say who graded"
        problems.append(Problem(where=path.name, found=found, remedy="name the rater with --rater NAME"))
    reader = _Reader(path, rows, columns, items, tuple(scale), who or "")
    reader.read()
    problems += [*rows.problems, *reader.problems]
    if problems:
        raise DataError(problems)
    if not reader.grades:
        found = "no answer is graded" if reader.num_rows else "the sheet has no answers"
        remedy = f"fill in the column {heading('grade', Words('ja'))} and save"
        raise DataError(Problem(where=path.name, found=found, remedy=remedy))
    return SheetGrades(
        path=path,
        rater=(who or "").strip(),
        grades=tuple(grade for grade, _ in reader.grades.values()),
        num_rows=reader.num_rows,
        ungraded=tuple(reader.ungraded),
        notes=tuple(rows.notes),
    )


class _Reader:
    """Goes through the rows of one sheet and keeps what is right and what is wrong."""

    def __init__(
        self,
        path: Path,
        rows: Rows,
        columns: Mapping[Column, str],
        items: Mapping[str, Item],
        scale: tuple[float, ...],
        rater: str,
    ) -> None:
        self.path, self.rows, self.columns, self.items = path, rows, columns, items
        self.scale, self.rater = scale, rater
        self.problems: list[Problem] = []
        self.grades: dict[str, tuple[Grade, str]] = {}
        """Code -> the grade and its cell."""
        self.ungraded: list[str] = []
        self.num_rows = 0

    def read(self) -> None:
        try:
            with closing(self.rows.records) as records:
                for number, values in records:
                    self._row(number, values)
        except DataError as error:
            self.problems += error.problems

    def _cell(self, number: int, column: Column) -> str:
        return self.rows.place(number, self.columns[column])

    def _wrong(self, number: int, column: Column, found: str, remedy: str) -> None:
        where = self._cell(number, column)
        self.problems.append(Problem(where=where, field=self.columns[column], found=found, remedy=remedy))

    def _row(self, number: int, values: Mapping[str, object]) -> None:
        code = "".join(nfkc(_text(values.get(self.columns["code"]))).upper().split())
        written = values.get(self.columns["grade"])
        if not code:
            if not _blank(written):
                remedy = "copy the code of the row from the sheet as it was exported"
                self._wrong(number, "code", "the row has a grade and no code", remedy)
            return  # a line of the rater's own
        self.num_rows += 1
        item = self.items.get(code)
        if item is None:
            found = f"{code!r} is the code of no answer in this study folder"
            remedy = "the question or its marking may have changed since: export the sheet again"
            self._wrong(number, "code", found, remedy)
            return
        if self._moved(number, values, item):
            return
        try:
            grade = read_grade(written, self.scale)
        except ValueError as error:
            allowed = " / ".join(grade_text(g) for g in reversed(self.scale))
            self._wrong(number, "grade", str(error), f"choose one of {allowed}, or leave it empty")
            return
        if grade is None:
            self.ungraded.append(self._cell(number, "grade"))
            return
        self._keep(number, values, item, grade)

    def _moved(self, number: int, values: Mapping[str, object], item: Item) -> bool:
        """Whether the texts of a row are of another answer than its code: then a column was sorted alone."""
        expected = cell_texts(item, Words("ja"))
        for column in ("question_id", "answer"):
            if column not in self.columns:
                continue
            own = {_joined(cell_texts(item, Words(language))[column]) for language in LANGUAGES}
            found = _joined(_text(values.get(self.columns[column])))
            if found and found not in own:
                what = f"this is not the {column.replace('_', ' ')} that belongs to the code {item.code}"
                remedy = f"it should read {expected[column][:40]!r}: sort and paste whole rows only"
                self._wrong(number, column, what, remedy)
                return True
        return False

    def _keep(self, number: int, values: Mapping[str, object], item: Item, grade: float) -> None:
        place = self._cell(number, "grade")
        known = self.grades.get(item.code)
        if known is not None and known[0].grade != grade:
            other = grade_text(known[0].grade or 0.0)
            found = f"{grade_text(grade)}, and {other} for the same answer at {known[1]}"
            self._wrong(number, "grade", found, "keep one of the two rows")
            return
        comment = _text(values.get(self.columns["comment"])) if "comment" in self.columns else ""
        made = Grade(
            question=item.question,
            version=item.version,
            answer=item.answer,
            extracted=item.extracted,
            grade=grade,
            scale=self.scale,
            kind="person",
            grader=self.rater.strip(),
            reason=comment.strip(),
            time="",
            source=place,
        )
        self.grades[item.code] = (made, place)


def read_grade(value: object, scale: Sequence[float]) -> float | None:
    """A grade as people write it: 0.5, "０．５", "0,5", "1/2", "1点", ○ △ ×; None of an empty cell.

    Raises:
        ValueError: it is not one of the scale; the message says what it is.
    """
    if _blank(value):
        return None
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        raise ValueError(f"Excel has made a date of the grade: {value}")
    number = _number(value, max(scale))
    if number is None:
        raise ValueError(f"{value!r} is not a grade")
    for grade in scale:
        if isclose(number, grade, abs_tol=1e-9):
            return grade
    raise ValueError(f"{value!r} is not on the scale")


def _number(value: object, highest: float) -> float | None:
    if isinstance(value, int | float):
        return float(value) if isfinite(value) else None
    raw = _text(value).strip()
    if raw in SYMBOLS:
        return SYMBOLS[raw] * highest
    text = nfkc(raw).strip().removesuffix("点").strip().replace(",", ".")
    if text.endswith("%"):
        return None
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        return None


def _open(path: Path, name: str | None) -> tuple[Rows, dict[Column, str]]:
    """The rows of the grading sheet, and the heading of each column that it has.

    Raises:
        DataError: it cannot be read, or lacks a column that is needed, or has one twice.
    """
    known = known_headings()
    source = Source(path=path, name=path.name, wanted=frozenset(known), sheet=name)
    rows = open_rows(source)
    present = [text for text in rows.columns or () if text in known]
    columns: dict[Column, str] = {known[text]: text for text in reversed(present)}
    problems = [
        source.problem(f"the header has the column {text!r} twice", "delete the one that is not the grades'")
        for text in dict.fromkeys(present)
        if present.count(text) > 1
    ]
    problems += [
        source.problem(
            f"the header has no column {heading(column, Words('ja'))!r}",
            f"put the header back as it was exported; it has {', '.join(filter(None, rows.columns or ()))}",
        )
        for column in NEEDED
        if column not in columns
    ]
    if problems:
        raise DataError(problems)
    return rows, columns


def _about(path: Path) -> tuple[str | None, str | None]:
    """(name of the sheet with the grades, rater) of a workbook; (None, None) of other files."""
    if path.suffix.lower() not in (".xlsx", ".xlsm") or not path.exists():
        return None, None
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception:  # the reader of the rows says what is wrong with it
        return None, None
    titles = {Words(language)("sheet.title") for language in LANGUAGES}
    names = [Words(language)("sheet.rater") for language in LANGUAGES]
    title = next((sheet.title for sheet in book.worksheets if sheet.title in titles), None)
    rater = None
    for sheet in book.worksheets:
        if sheet.title == title:
            continue
        for row in sheet.iter_rows(max_row=20, max_col=2, values_only=True):
            if len(row) > 1 and row[0] in names and row[1] is not None:
                rater = str(row[1])
    book.close()
    return title, rater


def _text(value: object) -> str:
    return "" if value is None else cell_text(value)


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and nfkc(value).strip() in ("", "-", "—", "―"))


def _joined(text: str) -> str:
    """A text without white space, as it is shown: Excel changes line ends, people add spaces."""
    return "".join(nfkc(visible(text)).split())
