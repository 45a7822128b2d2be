"""From a data file of any kind to Examples, with every row that is not right named in one pass.

The kind is told by the name's ending (CSV, TSV, XLSX, JSON Lines, JSON, SQuAD form, Parquet; `.gz` and
`.xz` of each); a folder is one example a text file; `hf:NAME` is a data set of the Hugging Face hub.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenbin.config import DataConfig
from tenbin.data.columnar import folder_rows, hub_rows, parquet_rows
from tenbin.data.documents import json_rows, line_rows
from tenbin.data.examples import ExampleMaker
from tenbin.data.fields import HUB, Check, Fields, plan_fields
from tenbin.data.files import MAX_EXPANDED_BYTES, Rows, Source
from tenbin.data.sheets import sheet_rows
from tenbin.data.tables import table_rows
from tenbin.errors import DataError, Problem
from tenbin.types import Example

READERS: Mapping[str, Callable[[Source], Rows]] = {
    ".csv": table_rows,
    ".tsv": table_rows,
    ".tab": table_rows,
    ".txt": table_rows,
    ".jsonl": line_rows,
    ".ndjson": line_rows,
    ".json": json_rows,
    ".xlsx": sheet_rows,
    ".xlsm": sheet_rows,
    ".parquet": parquet_rows,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult:
    """What one file gave. Every row of it is in `examples`, in `left_out` or has an error."""

    examples: tuple[Example, ...]
    columns: tuple[str, ...]
    """Columns that the file has (of JSON rows: of the first one)."""
    notes: tuple[str, ...] = ()
    """What a person should know: the encoding that was detected, what was left out."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of rows left out on purpose."""
    file_errors: tuple[Problem, ...] = ()
    """The file cannot be used, or not to its end."""
    row_errors: tuple[Problem, ...] = ()
    """Rows that are not right; `data.skip_bad_rows` leaves them out."""
    num_bad_rows: int = 0
    """Rows with errors; one row may have several."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Everything that is wrong with the file."""
        return self.file_errors + self.row_errors


def read_examples(
    path: Path | str,
    *,
    input_fields: Sequence[str],
    target_field: str,
    config: DataConfig,
    optional_fields: Sequence[str] = (),
    target_required: bool = True,
    group_field: str | None = None,
    group_required: bool = True,
    marking_fields: Sequence[str] = (),
    check: Check | None = None,
    categories: Sequence[str] | None = None,
    name: str | None = None,
    max_bytes: int = MAX_EXPANDED_BYTES,
) -> ReadResult:
    """Read one file. Nothing is raised for what is wrong in it: see `ReadResult.errors`.

    Args:
        path: a file or folder, or `hf:NAME[:CONFIG][#SPLIT]`.
        input_fields: what every example must have, with text.
        target_field: field of the references. `category` is mapped by `config.labels` and checked.
        config: columns, labels, sheet and encoding.
        optional_fields: fields that become "" where the file has none.
        target_required: False: an example without a reference is unlabeled, not an error.
        group_field: what makes a group where the study names no column: an input (equal texts) or a column.
        group_required: whether it is an error that the file lacks the group column that the study names.
        marking_fields: what goes into `Example.marking` where the file has it.
        check: what else is a mistake in an example that is right so far.
        categories: allowed categories; `config.categories` without it.
        name: the file's name in messages.
        max_bytes: most bytes that are expanded and read.

    Raises:
        MissingExtra: `hf:` without the package `datasets`.
    """
    fields = plan_fields(
        config,
        input_fields=input_fields,
        target_field=target_field,
        optional_fields=optional_fields,
        target_required=target_required,
        group_field=group_field,
        marking_fields=marking_fields,
        check=check,
    )
    source = _source(path, name, config, fields, max_bytes)
    try:
        rows = open_rows(source)
    except DataError as error:
        return ReadResult(examples=(), columns=(), file_errors=error.problems)
    except OSError as error:
        problem = source.problem(f"cannot be read: {error.strerror or error}", "check the right to read it")
        return ReadResult(examples=(), columns=(), file_errors=(problem,))
    allowed = categories if categories is not None else config.categories
    maker = ExampleMaker(source, rows, fields, config.labels, allowed, group_required)
    maker.read()
    return _result(maker, rows)


def _result(maker: ExampleMaker, rows: Rows) -> ReadResult:
    return ReadResult(
        examples=tuple(maker.examples),
        columns=maker.columns or (),
        notes=tuple(rows.notes + maker.notes()),
        left_out=dict(rows.left_out) | maker.left_out(),
        file_errors=tuple(maker.file_errors),
        row_errors=tuple(rows.problems + maker.row_errors),
        num_bad_rows=len(rows.problems) - rows.num_same_row + maker.num_bad_rows,
    )


def _source(path: Path | str, name: str | None, config: DataConfig, fields: Fields, max_bytes: int) -> Source:
    is_hub = isinstance(path, str) and path.startswith(HUB)
    return Source(
        path=Path(path),
        name=name or (str(path) if is_hub else Path(path).name),
        wanted=fields.columns,
        hub_name=str(path) if is_hub else None,
        encoding=config.encoding,
        sheet=config.sheet,
        headerless=all(column.isdecimal() for column in fields.required),
        max_bytes=max_bytes,
    )


def open_rows(source: Source) -> Rows:
    """The rows of a file or folder, by the kind that its name says.

    Raises:
        DataError: no such file, no such kind, or it cannot be read at all.
        MissingExtra: see `hub_rows`.
    """
    if source.hub_name is not None:
        return hub_rows(source, source.hub_name)
    if source.path.is_dir():
        return folder_rows(source)
    if not source.path.exists():
        near: list[str] = []
        if source.path.parent.is_dir():
            names = sorted(entry.name for entry in source.path.parent.iterdir())
            near = difflib.get_close_matches(source.path.name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "check the path; it is relative to the study file"
        raise source.error(f"there is no such file: {source.path}", hint)
    kind = source.suffixes[0]
    if kind not in READERS:
        excel = "open it in Excel and save it as .xlsx; or " if kind in (".xls", ".xlsb") else ""
        raise source.error(
            f"files ending in {kind or 'nothing'!r} are not known",
            f"{excel}use one of {', '.join(READERS)}, with or without .gz or .xz",
        )
    return READERS[kind](source)
