"""Parquet files, Hugging Face datasets and folders of text files as rows."""

import io
from typing import Any

from tenbin.data.files import (
    COMPRESSIONS,
    MARK_BYTES,
    Records,
    Rows,
    Source,
    detect_encoding,
    named_encoding,
    open_bytes,
)
from tenbin.errors import DataError, MissingExtra, Problem


def parquet_rows(source: Source) -> Rows:
    """Rows of a Parquet file; only the wanted columns are read.

    Raises:
        DataError: it is not a Parquet file.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        if source.suffixes[1]:
            with open_bytes(source) as stream:
                file = pyarrow.parquet.ParquetFile(io.BytesIO(stream.read()))
        else:
            file = pyarrow.parquet.ParquetFile(source.path)
        columns = tuple(str(name) for name in file.schema_arrow.names)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise source.error(f"is not a Parquet file: {_first_line(error)}", "write it again") from None

    def records() -> Records:
        wanted = [name for name in columns if name in source.wanted]
        number = 0
        with file:
            try:
                for batch in file.iter_batches(batch_size=4096, columns=wanted):
                    for values in batch.to_pylist():
                        number += 1
                        yield number, values
            except (OSError, ValueError, OverflowError, pyarrow.ArrowException) as error:
                raise source.error(
                    f"cannot be read: {_first_line(error)}", "write it again", f":row {number + 1}"
                ) from None

    return Rows(
        records=records(), place=lambda number, _column: f"{source.name}:row {number}", columns=columns
    )


def hub_rows(source: Source, name: str) -> Rows:
    """Rows of a data set of the Hugging Face hub: `hf:NAME`, `hf:NAME:CONFIG`, with `#SPLIT` (else `train`).

    Raises:
        MissingExtra: `datasets` is not installed.
        DataError: it cannot be loaded.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtra(
            Problem(
                where=source.name,
                found="Hugging Face data needs the package `datasets`",
                remedy="pip install 'tenbin[hub]'",
            )
        ) from None
    path, _, split = name.removeprefix("hf:").partition("#")
    path, _, config = path.partition(":")
    try:
        data: Any = datasets.load_dataset(path, config or None, split=split or "train")
    except Exception as error:  # the hub's errors have no common base
        raise source.error(
            f"cannot be loaded: {type(error).__name__}: {_first_line(error)}",
            "check the name, or download the data and name its file",
        ) from None
    return Rows(
        records=((number, row) for number, row in enumerate(data, start=1)),
        place=lambda number, _column: f"{source.name}:row {number}",
        columns=tuple(data.column_names),
    )


def folder_rows(source: Source) -> Rows:
    """One row a text file (.txt, also .gz and .xz), in order of their paths.

    Columns: `text` (all of it), `file` (path in the folder), `folder` (the folder it lies in), which is also
    `category`, so that a folder for each category needs no more words.

    Raises:
        DataError: there is no text file.
    """
    files = [
        path for path in sorted(source.path.rglob("*")) if path.is_file() and not path.name.startswith(".")
    ]
    texts = [
        path for path in files if path.name.lower().removesuffix(".gz").removesuffix(".xz").endswith(".txt")
    ]
    if not texts:
        raise source.error("the folder has no .txt file", "name a data file, or a folder of text files")
    names = [path.relative_to(source.path).as_posix() for path in texts]
    problems: list[Problem] = []
    left_out = {"other files": len(files) - len(texts)} if len(files) > len(texts) else {}

    def records() -> Records:
        for number, (path, name) in enumerate(zip(texts, names, strict=True), start=1):
            item = Source(path=path, name=f"{source.name}/{name}", encoding=source.encoding)
            try:
                text = _text(item)
            except DataError as error:
                problems.extend(error.problems)
                continue
            stem = name
            for ending in (*COMPRESSIONS, ".txt"):
                stem = stem.removesuffix(ending)
            folder = path.parent.name
            yield number, {"id": stem, "text": text, "file": name, "folder": folder, "category": folder}

    return Rows(
        records=records(),
        place=lambda number, _column: f"{source.name}/{names[number - 1]}",
        columns=("id", "text", "file", "folder", "category"),
        problems=problems,
        left_out=left_out,
    )


def _text(source: Source) -> str:
    encoding = named_encoding(source) if source.encoding else detect_encoding(source)
    with open_bytes(source) as stream:
        data = stream.read()
    return data.decode(encoding, errors=MARK_BYTES).replace("\r\n", "\n").replace("\r", "\n")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
