"""The list of answers on which raters differ, as a workbook to talk them over."""

from collections.abc import Sequence
from pathlib import Path

from openpyxl import Workbook
from openpyxl.cell.cell import Cell
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter

from tenbin.grading.agreement import Disagreement
from tenbin.report.text import visible
from tenbin.report.words import Words
from tenbin.sheets.columns import Column, cell_texts, heading
from tenbin.sheets.export import grade_text, save

SHOWN: tuple[Column, ...] = ("question_id", "question", "references", "marking_note", "answer")


def write_disagreements(
    path: Path, disagreements: Sequence[Disagreement], raters: Sequence[str], words: Words
) -> Path:
    """Write them, the widest apart first, with each rater's grade and comment, and what they count as.

    Raises:
        StorageError: where the file cannot be written.
    """
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = words("sheet.disagreements")
    names = [heading(column, words) for column in SHOWN]
    names += [*raters, *(f"{rater}: {words('sheet.comment')}" for rater in raters)]
    names += [words("sheet.counts_as"), words("sheet.code")]
    widths = [9, 42, 32, 36, 56, *([10] * len(raters)), *([28] * len(raters)), 18, 13]
    lines = [names, *(_line(found, raters, words) for found in disagreements)]
    for row, line in enumerate(lines, start=1):
        for place, text in enumerate(line, start=1):
            cell = sheet.cell(row, place)
            assert isinstance(cell, Cell), "no cells are merged"
            cell.value = visible(text)
            cell.data_type = "s"
            cell.alignment = Alignment(wrap_text=True, vertical="top")
            if row == 1:
                cell.font = Font(bold=True)
    for place, width in enumerate(widths, start=1):
        sheet.column_dimensions[get_column_letter(place)].width = width
    sheet.freeze_panes = "B2"
    return save(book, path)


def _line(found: Disagreement, raters: Sequence[str], words: Words) -> list[str]:
    texts = cell_texts(found.item, words)
    grades = [found.grades.get(rater) for rater in raters]
    settled = found.settled
    share = words("sheet.open") if settled.share is None else f"{settled.share:.3g}"
    return [
        *(texts[column] for column in SHOWN),
        *("" if grade is None or grade.grade is None else grade_text(grade.grade) for grade in grades),
        *(grade.reason if grade else "" for grade in grades),
        share,
        found.item.code,
    ]
