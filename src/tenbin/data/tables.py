"""CSV and TSV files: rows with their line numbers, quoting, and headers."""

import csv
import io
from collections.abc import Iterator
from typing import Literal

from tenbin.data.files import MAX_LINE_BYTES, MIB, Records, Rows, Source, open_text, text_encoding
from tenbin.errors import DataError, Problem


def table_rows(source: Source) -> Rows:
    """Rows of a CSV file (commas), or of a TSV or text file (tabs).

    Quotes are read as RFC 4180 has them. In tab-separated files, which often hold quotes that mean nothing,
    they are read so only where the whole file fits that reading.

    Raises:
        DataError: the file has no rows, or is not text.
    """
    delimiter = "," if source.suffixes[0] == ".csv" else "\t"
    _refuse_workbook(source)
    encoding, note = text_encoding(source)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
    notes = [note] if note else []
    if delimiter == "\t":
        quoting, quote_note = _tab_quoting(source, encoding)
        notes += [f"{source.name}: {quote_note}"] if quote_note else []
    problems: list[Problem] = []
    left_out: dict[str, int] = {}
    cells = _numbered_cells(source, encoding, delimiter, quoting, problems, left_out)
    first = next(cells, None)
    if first is None:
        raise DataError([*problems, source.problem("the file has no rows", "name a file with data")])
    if source.headerless:
        columns = tuple(str(position) for position in range(1, len(first[1]) + 1))
        notes.append(f"{source.name}: columns are named by position, so the first row was read as data")
    else:
        columns = tuple(name.strip().lstrip("\ufeff") for name in first[1])
    pending = [first] if source.headerless else []
    return Rows(
        records=_records(source, columns, pending, cells, problems),
        place=lambda number, _column: f"{source.name}:{number}",
        columns=columns,
        notes=notes,
        problems=problems,
        left_out=left_out,
    )


def _refuse_workbook(source: Source) -> None:
    if source.suffixes[1]:
        return
    with source.path.open("rb") as stream:
        head = stream.read(4)
    if head == b"PK\x03\x04":
        raise source.error("is a zip file, perhaps an Excel workbook, not text", "rename it to .xlsx")
    if head == b"PAR1":
        raise source.error("is a Parquet file, not text", "rename it to .parquet")


def _lines(source: Source, stream: io.TextIOWrapper, problems: list[Problem] | None = None) -> Iterator[str]:
    """Lines with their ends; a line that is too long is reported and stands as an empty one."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) < MAX_LINE_BYTES:
            yield line
            continue
        length = len(line)
        while not line.endswith(("\n", "\r")) and (line := stream.readline(MAX_LINE_BYTES)):
            length += len(line)
        if problems is not None:
            found = f"the line has {length:,} characters; at most {MAX_LINE_BYTES // MIB} Mi are read"
            problems.append(source.problem(found, "shorten or remove it", f":{number}"))
        yield "\n"


def _numbered_cells(
    source: Source,
    encoding: str,
    delimiter: str,
    quoting: Literal[0, 3],
    problems: list[Problem],
    left_out: dict[str, int],
) -> Iterator[tuple[int, list[str]]]:
    """(Line on which it begins, cells) of every row that is not blank."""
    csv.field_size_limit(MAX_LINE_BYTES)  # of the whole process; the default refuses cells over 128 KiB
    with open_text(source, encoding) as stream:
        reader = csv.reader(
            _lines(source, stream, problems), delimiter=delimiter, quoting=quoting, strict=True
        )
        while True:
            begin = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error) or "field limit" in str(error):
                    lost = reader.line_num - begin
                    raise source.error(
                        f"a quote opens in this row and is never closed; {lost:,} lines after it are lost",
                        'close it; a quote inside a quoted cell is written ""',
                        f":{begin}",
                    ) from None
                found = f"not readable as {'CSV' if delimiter == ',' else 'TSV'}: {error}"
                problems.append(source.problem(found, 'write a quote inside a cell as ""', f":{begin}"))
                continue
            if not any(cells):
                left_out["blank lines"] = left_out.get("blank lines", 0) + 1
                continue
            yield begin, cells


def _records(
    source: Source,
    columns: tuple[str, ...],
    pending: list[tuple[int, list[str]]],
    cells: Iterator[tuple[int, list[str]]],
    problems: list[Problem],
) -> Records:
    width = len(columns)
    for rows in (pending, cells):
        for number, values in rows:
            if len(values) != width and (len(values) < width or any(values[width:])):
                found = f"the row has {len(values)} cells; the {_first(source)} has {width}"
                problems.append(
                    source.problem(found, "quote cells that hold separators or line breaks", f":{number}")
                )
                continue
            yield (
                number,
                {
                    column: text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
                    for column, text in zip(columns, values, strict=False)
                },
            )


def _first(source: Source) -> str:
    return "first row" if source.headerless else "header"


def _tab_quoting(source: Source, encoding: str) -> tuple[Literal[0, 3], str | None]:
    """Whether quotes group cells (0, QUOTE_MINIMAL) or are plain characters (3, QUOTE_NONE)."""
    with open_text(source, encoding) as stream:
        if not any(line.startswith('"') or '\t"' in line for line in _lines(source, stream)):
            return csv.QUOTE_NONE, None
    csv.field_size_limit(MAX_LINE_BYTES)
    with open_text(source, encoding) as stream:
        reader = csv.reader(_lines(source, stream), delimiter="\t", strict=True)
        try:
            widths = {len(cells) for cells in reader if cells}
        except csv.Error:
            widths = set()
    if len(widths) == 1:
        return csv.QUOTE_MINIMAL, None
    return csv.QUOTE_NONE, "quotes are read as plain characters, since they do not pair up as quoted cells"
