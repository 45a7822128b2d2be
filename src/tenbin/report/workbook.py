"""The report's tables as an XLSX workbook, one sheet a table; figures are numbers, texts never formulas."""

import re
from io import BytesIO
from pathlib import Path

from openpyxl import Workbook
from openpyxl.cell.cell import Cell as SheetCell
from openpyxl.cell.cell import MergedCell
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from tenbin.report.build import ReportData
from tenbin.report.table import Cell, Table
from tenbin.report.text import visible
from tenbin.runs import storage

MOST_CHARACTERS = 32_767
"""Of a cell, by the format; nothing in the tables comes near."""


def write_workbook(report: ReportData, path: Path) -> Path:
    """Write every table of the report.

    Raises:
        StorageError: where the file cannot be written.
    """
    book = Workbook()
    book.remove(book.worksheets[0])
    tables = [*report.paper, *([report.systems] if report.systems else []), *report.problems, *report.more]
    tables += [table for part in report.parts for table in part.tables]
    for table in [*tables, *report.data.tables, *report.settings]:
        _fill(book.create_sheet(sheet_name(table.id)), table)
    if not book.worksheets:
        book.create_sheet("empty").append([visible(report.advice.headline)])
    data = BytesIO()
    book.save(data)
    with storage(path):
        path.write_bytes(data.getvalue())
    return path


def sheet_name(table_id: str) -> str:
    """A name that the format allows: 31 characters, none of []:*?/ and the backslash."""
    return re.sub(r"[\[\]:*?/\\]", "-", table_id)[:31]


def _fill(sheet: Worksheet, table: Table) -> None:
    for column, name in enumerate(table.columns, start=1):
        _put(sheet.cell(1, column), Cell(name), bold=True)
        width = max([len(name), *(len(row[column - 1].text) for row in table.rows)])
        sheet.column_dimensions[get_column_letter(column)].width = min(60, width + 3)
    for position, row in enumerate(table.rows, start=2):
        for column, cell in enumerate(row, start=1):
            _put(sheet.cell(position, column), cell, bold=cell.best)
    for position, note in enumerate(table.notes, start=len(table.rows) + 3):
        _put(sheet.cell(position, 1), Cell(note))
    sheet.freeze_panes = "B2"


def _put(target: SheetCell | MergedCell, cell: Cell, bold: bool = False) -> None:
    assert isinstance(target, SheetCell), "no cells are merged"
    if cell.number is not None:
        target.value = cell.number
    else:
        target.value = visible(cell.text)[:MOST_CHARACTERS]
        target.data_type = "s"  # a text that begins with = is not a formula
    if bold:
        target.font = Font(bold=True)
