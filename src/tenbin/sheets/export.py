"""A blind grading sheet: answers in an order of their own, models behind codes, a drop-down of the grades."""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Literal

from openpyxl import Workbook
from openpyxl.cell.cell import Cell
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.properties import PageSetupProperties
from openpyxl.worksheet.worksheet import Worksheet

from tenbin.errors import DataError, Problem
from tenbin.grading.items import Item
from tenbin.grading.settle import grades_by_answer
from tenbin.grading.store import Grade
from tenbin.report.text import visible
from tenbin.report.words import Words
from tenbin.runs import storage
from tenbin.sheets.columns import COLUMNS, OPTIONAL, WIDTHS, Column, cell_texts, heading

Wanted = Literal["people", "judge", "all"]

FORMAT = "tenbin-grades/1"
MOST_CHARACTERS = 32_767
"""Of a cell, by the format."""
LINE_POINTS, MOST_POINTS = 15, 400
"""Height of a line, and of a row: Excel allows 409."""
GREY, YELLOW = PatternFill("solid", fgColor="E8ECF2"), PatternFill("solid", fgColor="FFF6D6")
THIN = Side(style="thin", color="C9D0DA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What one rater is asked to grade."""

    items: tuple[Item, ...]
    num_done: int
    """Left out because this rater has graded them already."""


def choose_items(
    items: Sequence[Item],
    grades: Sequence[Grade],
    rater: str,
    *,
    wanted: Wanted = "people",
    disputed: bool = False,
    again: bool = False,
) -> Chosen:
    """The answers for one rater's sheet.

    Args:
        wanted: those to questions that people grade, that a judge grades (to check it), or all.
        disputed: only those to which other raters gave different grades: for who settles them.
        again: also those that this rater has graded already.

    Raises:
        DataError: where none is left.
    """
    given = grades_by_answer(grades)
    asked = [item for item in items if wanted == "all" or item.fields["grade"] == wanted]
    if disputed:
        asked = [item for item in asked if _disputed(given.get(item.key, ()), rater)]
    done = {key for key, found in given.items() if any(_by(grade, rater) for grade in found)}
    left = [item for item in asked if again or item.key not in done]
    if not left:
        found, remedy = "all of them are graded by this rater already", "--again asks for them once more"
        if not asked:
            found = "no answer is disputed" if disputed else f"no question of the bank has grade = {wanted}"
            remedy = (
                "import the sheets of two raters first"
                if disputed
                else "--questions all takes every question"
            )
        raise DataError(Problem(where=f"grade export, rater {rater}", found=found, remedy=remedy))
    return Chosen(items=tuple(left), num_done=len(asked) - len(left))


def _by(grade: Grade, rater: str) -> bool:
    return grade.kind == "person" and grade.grader == rater and grade.grade is not None


def _disputed(grades: Sequence[Grade], rater: str) -> bool:
    people = [g for g in grades if g.kind == "person" and g.share is not None and g.grader != rater]
    return len({grade.share for grade in people}) > 1


def in_blind_order(items: Sequence[Item], rater: str, seed: int) -> list[Item]:
    """The questions in the order of the bank, the answers to each shuffled: in another order for each
    question, rater and seed, and the same whenever these are the same."""
    ordered: list[Item] = []
    for question, answers in groupby(items, key=lambda item: item.question):
        shuffled = sorted(answers, key=lambda item: item.code)
        random.Random(f"{seed}\0{rater}\0{question}").shuffle(shuffled)
        ordered += shuffled
    return ordered


def write_sheet(
    path: Path, items: Sequence[Item], *, rater: str, scale: Sequence[float], seed: int, words: Words
) -> Path:
    """Write one rater's sheet.

    Args:
        scale: the allowed grades, any order.

    Raises:
        DataError: a text that is longer than a cell can be, or two answers with one code: nothing is cut.
        StorageError: where the file cannot be written.
    """
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = words("sheet.title")
    ordered = in_blind_order(items, rater, seed)
    _check(ordered, words)
    columns = [
        c for c in COLUMNS if c not in OPTIONAL or any(cell_texts(i, words)[c].strip() for i in ordered)
    ]
    _head(sheet, columns, words)
    for row, item in enumerate(ordered, start=2):
        _row(sheet, row, item, columns, words)
    _drop_down(sheet, columns, len(ordered), scale, words)
    _about(book.create_sheet(words("sheet.about")), rater, scale, seed, words)
    return save(book, path)


def save(book: Workbook, path: Path) -> Path:
    """Write a workbook, whole or not at all.

    Raises:
        StorageError: where the file cannot be written.
    """
    book.properties.creator = "tenbin"
    data = BytesIO()
    book.save(data)
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.getvalue())
    return path


def grade_text(grade: float) -> str:
    """A grade as in the drop-down: `1`, `0.5`."""
    return f"{grade:g}"


def _check(items: Sequence[Item], words: Words) -> None:
    problems = [
        Problem(
            where=f"question {item.question}",
            field=column,
            found=f"has {len(text):,} characters; a cell of a sheet holds {MOST_CHARACTERS:,}",
            remedy="grade this answer in another way, or shorten the limit of the answers",
        )
        for item in items
        for column, text in cell_texts(item, words).items()
        if len(visible(text)) > MOST_CHARACTERS
    ]
    if problems:
        raise DataError(problems)
    assert len({item.code for item in items}) == len(items), "two answers have one code"


def _head(sheet: Worksheet, columns: Sequence[Column], words: Words) -> None:
    for place, column in enumerate(columns, start=1):
        cell = sheet.cell(1, place, heading(column, words))
        cell.font, cell.fill = Font(bold=True), GREY
        cell.alignment = Alignment(wrap_text=True, vertical="center")
        cell.border = Border(bottom=THIN)
        sheet.column_dimensions[get_column_letter(place)].width = WIDTHS[column]
    sheet.freeze_panes = "C2"
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(columns))}1"
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight = 1, 0
    sheet.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
    sheet.print_title_rows = "1:1"


def _row(sheet: Worksheet, row: int, item: Item, columns: Sequence[Column], words: Words) -> None:
    texts = cell_texts(item, words)
    lines = 1
    for place, column in enumerate(columns, start=1):
        cell = sheet.cell(row, place)
        assert isinstance(cell, Cell), "no cells are merged"
        cell.alignment = Alignment(wrap_text=True, vertical="top")
        cell.border = Border(bottom=THIN, right=THIN)
        if column == "number":
            cell.value = row - 1
        elif column == "points":
            cell.value = float(item.fields["points"])
        elif column in texts:
            text = visible(texts[column])
            cell.value = text
            cell.data_type = "s"  # an answer that begins with = is not a formula
            lines = max(lines, _lines(text, WIDTHS[column]))
        if column in ("grade", "comment"):
            cell.fill = YELLOW
    sheet.row_dimensions[row].height = min(MOST_POINTS, LINE_POINTS * lines + 4)


def _lines(text: str, width: int) -> int:
    """Lines of a text in a column: Japanese characters are two wide."""
    cells = (
        sum(2 if unicodedata.east_asian_width(c) in "WFA" else 1 for c in line) for line in text.split("\n")
    )
    return sum(max(1, ceil(count / (width - 1))) for count in cells)


def _drop_down(
    sheet: Worksheet, columns: Sequence[Column], num_rows: int, scale: Sequence[float], words: Words
) -> None:
    allowed = [grade_text(grade) for grade in sorted(scale, reverse=True)]
    rule = DataValidation(
        type="list", formula1=f'"{",".join(allowed)}"', allow_blank=True, showErrorMessage=True
    )
    rule.errorTitle, rule.error = words("sheet.grade"), words("sheet.allowed", grades=" / ".join(allowed))
    letter = get_column_letter(columns.index("grade") + 1)
    rule.add(f"{letter}2:{letter}{num_rows + 1}")
    sheet.add_data_validation(rule)


def _about(sheet: Worksheet, rater: str, scale: Sequence[float], seed: int, words: Words) -> None:
    allowed = " / ".join(grade_text(grade) for grade in sorted(scale, reverse=True))
    lines = [
        (words("sheet.rater"), rater),
        (words("sheet.grades"), allowed),
        (words("sheet.how"), words("sheet.how_text", grades=allowed)),
        (words("sheet.seed"), str(seed)),
        (words("sheet.format"), FORMAT),
    ]
    for row, (name, text) in enumerate(lines, start=1):
        sheet.cell(row, 1, name).font = Font(bold=True)
        value = sheet.cell(row, 2, text)
        value.data_type = "s"
        value.alignment = Alignment(wrap_text=True, vertical="top")
    sheet.column_dimensions["A"].width, sheet.column_dimensions["B"].width = 16, 90
