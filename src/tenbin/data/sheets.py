"""XLSX workbooks: the rows of one sheet, with merged cells, dates and formulas as a person sees them."""

import difflib
import io
import itertools
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tenbin.data.files import Records, Rows, Source, check_expanded, open_bytes
from tenbin.errors import DataError, Problem

MERGE = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]*?ref="\$?([A-Z]+)\$?(\d+):\$?([A-Z]+)\$?(\d+)"')
FORMULA = re.compile(rb"<(?:\w+:)?f[\s>/]")
TITLE_ROWS = 20
"""So many rows after the first are looked at for the names of the columns."""
OVERLAP = 200  # bytes carried from one block to the next, so that no tag is cut in two


@dataclass(frozen=True, slots=True)
class Merge:
    """A merged range; rows and columns from 1, both ends included."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Cell:
    """What a sheet holds in one place."""

    value: Any
    kind: str
    """openpyxl's data type: `e` an error, `f` a formula without a stored value."""


EMPTY = Cell(None, "n")


def sheet_rows(source: Source) -> Rows:
    """Rows of a sheet: the one that `data.sheet` names, else the first.

    Cells of a merged range all have its value. A formula has the value Excel stored; without one the row
    is an error. Dates are ISO, whole numbers have no ".0", empty cells are "".

    Raises:
        DataError: it is not a workbook, is protected, or has no such sheet or no rows.
    """
    data = _workbook_bytes(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of parts it does not need
            return _read(source, data)
    except DataError:
        raise
    except Exception as error:  # whatever the broken XML leads openpyxl to
        raise source.error(
            f"cannot be read as an Excel workbook: {type(error).__name__}: {error}",
            "open it in Excel and save it again as .xlsx",
        ) from None


def _workbook_bytes(source: Source) -> io.BytesIO:
    with open_bytes(source) as stream:
        data = stream.read()
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise source.error(
            "is an old .xls or a password-protected workbook", "save it as .xlsx without a password"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(item.file_size for item in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise source.error(f"is not an Excel workbook: {error}", "save it as .xlsx") from None
    # zipfile never hands out more than the declared size, so checking the declaration is enough.
    check_expanded(source, len(data), total)
    return io.BytesIO(data)


def _read(source: Source, data: io.BytesIO) -> Rows:
    import openpyxl
    from openpyxl.utils import get_column_letter

    book = openpyxl.load_workbook(data, read_only=True, data_only=True)
    sheet, note = _sheet(source, book)
    merges, has_formulas = _scan(data, str(getattr(sheet, "_worksheet_path")))  # noqa: B009  (not typed)
    formulas: Iterable[Any] | None = None
    if has_formulas:
        formulas = _cells(openpyxl.load_workbook(data, read_only=True)[sheet.title])
    title = sheet.title

    def place(number: int, column: str | None) -> str:
        at = letters.get(column or "", "")
        return f"{source.name}[{title}]!{at}{number}"

    rows = _filled(_cells(sheet), formulas, merges)
    first = next(((number, cells) for number, cells in rows if any(_shown(c) for c in cells)), None)
    if first is None:
        raise source.error(f"the sheet {title!r} has no rows", "name another with data.sheet")
    first, rows, notes = _named(source, title, first, rows)
    notes = [note, *notes] if note else notes
    width = len(first[1])
    if source.headerless:
        columns = tuple(str(i + 1) for i in range(width))
        by_position = "columns are named by position, so the first row was read as data"
        notes = [f"{note} {by_position}" if note else f"{source.name}: {by_position}"]
    else:
        columns = tuple(_shown(cell).strip() for cell in first[1])
    letters = {name: get_column_letter(i + 1) for i, name in reversed(list(enumerate(columns)))}
    wanted = [i for i, name in enumerate(columns) if name in source.wanted]
    nothing: list[tuple[int, Mapping[str, object]]] = []
    found = Rows(records=(row for row in nothing), place=place, columns=columns, notes=notes)
    records = list(_records(itertools.chain([first] if source.headerless else [], rows), found, wanted))
    found.records = (record for record in records)  # read at once: openpyxl warns while it reads
    return found


def _named(
    source: Source, title: str, first: tuple[int, list[Cell]], rows: Iterator[tuple[int, list[Cell]]]
) -> tuple[tuple[int, list[Cell]], Iterator[tuple[int, list[Cell]]], list[str]]:
    """The row that names the columns, those after it, and what to say of rows above it.

    Many tables begin with a title. A row further down names the columns if it holds two of the names that are
    looked for, and the first row none.
    """

    def num_wanted(cells: list[Cell]) -> int:
        return len({_shown(cell).strip() for cell in cells} & source.wanted)

    if source.headerless or num_wanted(first[1]):
        return first, rows, []
    ahead = list(itertools.islice(rows, TITLE_ROWS))
    at = next((i for i, (_, cells) in enumerate(ahead) if num_wanted(cells) > 1), None)
    if at is None:
        return first, itertools.chain(ahead, rows), []
    number = ahead[at][0]
    note = f"{source.name}: row {number} of sheet {title!r} names the columns; what is above it is left out"
    return ahead[at], itertools.chain(ahead[at + 1 :], rows), [note]


def _records(rows: Iterable[tuple[int, list[Cell]]], found: Rows, wanted: list[int]) -> Records:
    """The wanted values of every row; blank rows and rows with bad cells are counted in `found`."""
    columns = found.columns or ()
    blank = 0
    for number, cells in rows:
        if not any(_shown(cell) for cell in cells):
            blank += 1
            continue
        if blank:  # rows after the last one are nothing; rows between are counted
            found.left_out["blank rows"] = found.left_out.get("blank rows", 0) + blank
            blank = 0
        problems = [
            problem
            for i in wanted
            if i < len(cells)
            and (problem := _cell_problem(cells[i], found.place(number, columns[i]), columns[i]))
        ]
        if problems:
            found.problems += problems
            found.num_same_row += len(problems) - 1
            continue
        yield number, {columns[i]: _value(cells[i]) if i < len(cells) else None for i in wanted}


def _sheet(source: Source, book: Any) -> tuple[Any, str | None]:  # noqa: ANN401  (openpyxl's read-only kinds)
    names = [sheet.title for sheet in book.worksheets]
    if not names:
        raise source.error("the workbook has no sheet with cells", "name a workbook with data")
    if source.sheet is None:
        note = f"{source.name}: sheet {names[0]!r} of {', '.join(names)}" if len(names) > 1 else None
        return book[names[0]], note
    if source.sheet not in names:
        near = difflib.get_close_matches(source.sheet, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise source.error(
            f"there is no sheet {source.sheet!r}", f"{hint}data.sheet may be: {', '.join(names)}"
        )
    return book[source.sheet], None


def _cells(sheet: Any) -> Iterator[list[Cell]]:  # noqa: ANN401
    sheet.reset_dimensions()  # some programs write wrong ones
    for row in sheet.iter_rows():
        yield [EMPTY if cell.value is None else Cell(cell.value, cell.data_type) for cell in row]


def _filled(
    rows: Iterable[list[Cell]], formulas: Iterable[list[Cell]] | None, merges: list[Merge]
) -> Iterator[tuple[int, list[Cell]]]:
    """Numbered rows, with formulas that have no value marked and merged ranges filled."""
    pairs: Iterable[tuple[list[Cell], list[Cell] | None]]
    pairs = ((row, None) for row in rows) if formulas is None else zip(rows, formulas, strict=False)
    waiting = sorted(merges, key=lambda merge: merge.top, reverse=True)
    active: dict[Merge, Cell] = {}
    for number, (values, written) in enumerate(pairs, start=1):
        cells = list(values)
        for i, cell in enumerate(written or ()):
            if cell.kind == "f" and (i >= len(cells) or cells[i].value is None):
                cells += [EMPTY] * (i + 1 - len(cells))
                cells[i] = Cell(cell.value, "f")
        while waiting and waiting[-1].top <= number:
            merge = waiting.pop()
            active[merge] = cells[merge.left - 1] if merge.left <= len(cells) else EMPTY
        for merge in [merge for merge in active if merge.bottom < number]:
            del active[merge]
        for merge, cell in active.items():
            if cell is EMPTY:
                continue
            cells += [EMPTY] * (min(merge.right, 16384) - len(cells))
            for i in range(merge.left - 1, min(merge.right, len(cells))):
                cells[i] = cell
        yield number, cells


def _scan(data: io.BytesIO, path: str) -> tuple[list[Merge], bool]:
    """Merged ranges and whether there are formulas, which openpyxl's reading by rows does not tell."""
    from openpyxl.utils import column_index_from_string as index

    merges: dict[Merge, None] = {}
    has_formulas = False
    with zipfile.ZipFile(data) as archive, archive.open(path.lstrip("/")) as stream:
        tail = b""
        while block := stream.read(2**20):
            text = tail + block
            has_formulas = has_formulas or FORMULA.search(text) is not None
            for left, top, right, bottom in MERGE.findall(text):
                merge = Merge(int(top), int(bottom), index(left.decode()), index(right.decode()))
                merges[merge] = None
            tail = text[-OVERLAP:]
    return list(merges), has_formulas


def _shown(cell: Cell) -> str:
    value = _value(cell)
    return "" if value is None else str(value)


def _value(cell: Cell) -> object:
    if isinstance(cell.value, bool):
        return "TRUE" if cell.value else "FALSE"  # as Excel shows it
    if isinstance(cell.value, str):
        return cell.value.replace("_x000D_", "").replace("\r\n", "\n").replace("\r", "\n")
    return cell.value


def _cell_problem(cell: Cell, where: str, column: str) -> Problem | None:
    if cell.kind == "f":
        return Problem(
            where=where,
            field=column,
            found="the formula has no stored value",
            remedy="open the workbook in Excel and save it, or paste values",
        )
    if cell.kind == "e":
        return Problem(
            where=where,
            field=column,
            found=f"the cell shows the error {cell.value}",
            remedy="mend the formula",
        )
    return None
