"""Table and Cell: a grid of figures that turns into Markdown, TSV, HTML and a worksheet."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tenbin.report.text import visible

MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#&!~$])")


@dataclass(frozen=True, slots=True)
class Cell:
    """One field: its text, its number where it has one, and whether it is the best."""

    text: str
    number: float | None = None
    """As shown (percent or fraction), for worksheets."""
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A titled grid; the first column names the row."""

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    text_columns: frozenset[int] = frozenset({0})
    """Positions of the columns that hold words: set left, the others right."""

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), (self.id, len(row), self.columns)

    def to_markdown(self) -> str:
        """A pipe table with its title as a heading; markup in texts is escaped."""
        rule = ["---" if i in self.text_columns else "---:" for i in range(len(self.columns))]
        lines = [
            f"### {escape_markdown(self.title)}",
            "",
            _pipes([escape_markdown(column) for column in self.columns]),
            _pipes(rule),
            *(_pipes([_markdown_cell(cell) for cell in row]) for row in self.rows),
        ]
        for note in self.notes:
            lines += ["", escape_markdown(note)]
        return "\n".join(lines) + "\n"

    def to_tsv(self) -> str:
        """Tab-separated lines, the columns' names first; tabs and line feeds in texts become spaces."""
        lines = [self.columns, *(tuple(cell.text for cell in row) for row in self.rows)]
        return "".join("\t".join(_one_line(text) for text in line) + "\n" for line in lines)

    def to_html(self) -> str:
        """A `<table>`, every text escaped."""
        head = "".join(f"<th>{html.escape(visible(column))}</th>" for column in self.columns)
        body = "".join(
            "<tr>"
            + "".join(_html_cell(cell, i in self.text_columns) for i, cell in enumerate(row))
            + "</tr>\n"
            for row in self.rows
        )
        caption = f"<caption>{html.escape(visible(self.title))}</caption>"
        notes = "".join(f"<p>{html.escape(visible(note))}</p>\n" for note in self.notes)
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>\n{notes}"


def words(*texts: str) -> tuple[Cell, ...]:
    """A row of texts."""
    return tuple(Cell(text) for text in texts)


def mark_best(
    rows: Sequence[Sequence[Cell]], keys: Sequence[Sequence[float | None]]
) -> list[tuple[Cell, ...]]:
    """The same rows with the cells of the highest key marked as best; all of them where several tie.

    Args:
        rows: cells.
        keys: what each cell is ranked by, same shape; None = not ranked.
    """
    known = [key for line in keys for key in line if key is not None]
    top = max(known) if known else None
    return [
        tuple(Cell(c.text, c.number, best=k is not None and k == top) for c, k in zip(row, line, strict=True))
        for row, line in zip(rows, keys, strict=True)
    ]


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return MARKDOWN_SPECIAL.sub(r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(visible(text).split())


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    return f"**{text}**" if cell.best and text else text


def _html_cell(cell: Cell, is_text: bool) -> str:
    text = html.escape(visible(cell.text))
    text = f"<strong>{text}</strong>" if cell.best else text
    return f"<td>{text}</td>" if is_text else f'<td class="n">{text}</td>'
