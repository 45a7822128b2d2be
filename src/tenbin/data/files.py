"""Opening data files: compression, caps on the expanded size, encodings and their detection."""

import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tenbin.errors import DataError, Problem

MIB = 2**20
MAX_EXPANDED_BYTES = 4096 * MIB
"""Most bytes of one file after decompression."""
MAX_LINE_BYTES = 16 * MIB
"""Longest line, and longest cell, of a text file."""
BOMB_BYTES = 64 * MIB
BOMB_RATIO = 300
"""A file that has grown past BOMB_BYTES and more than BOMB_RATIO times its size is refused: Japanese text
shrinks about 5 to 20 times, a decompression bomb 1,000 times and more."""

COMPRESSIONS = (".gz", ".xz")
ENCODINGS = {"shift_jis": "cp932", "ms932": "cp932", "windows_31j": "cp932", "sjis": "cp932"}
"""Shift_JIS files in the wild hold the CP932 extensions (①, ㈱), as browsers also assume."""
NAMES = {"utf-8-sig": "UTF-8 with a byte order mark", "cp932": "CP932 (Shift_JIS)", "euc_jp": "EUC-JP"}
BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

MARK_BYTES = "tenbin.mark_bytes"
"""Error handler of decoding: see `open_text`. Python's own "surrogateescape" refuses bytes below 0x80."""


def _mark_bytes(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(MARK_BYTES, _mark_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file to read, and what the study says about reading it."""

    path: Path
    name: str
    """As shown in messages: `reviews.csv`."""
    hub_name: str | None = None
    """`hf:NAME` where it is no file but a data set of the Hugging Face hub."""
    wanted: frozenset[str] = frozenset()
    """Columns that will be asked for; readers may skip the others."""
    encoding: str | None = None
    sheet: str | None = None
    headerless: bool = False
    """Columns are asked for by 1-based position: the first row is data."""
    max_bytes: int = MAX_EXPANDED_BYTES

    @property
    def suffixes(self) -> tuple[str, str]:
        """(Kind, compression) by the file's name, in lower case: `a.jsonl.gz` -> (".jsonl", ".gz")."""
        endings = [suffix.lower() for suffix in self.path.suffixes]
        compression = endings.pop() if endings and endings[-1] in COMPRESSIONS else ""
        return (endings[-1] if endings else ""), compression

    def problem(self, found: str, remedy: str, place: str = "") -> Problem:
        """A problem of this file, `place` being what follows its name (`:17`)."""
        return Problem(where=self.name + place, found=found, remedy=remedy)

    def error(self, found: str, remedy: str, place: str = "") -> DataError:
        """As `problem`, to be raised: nothing after it can be read."""
        return DataError(self.problem(found, remedy, place))


Records = Generator[tuple[int, Mapping[str, object]], None, None]


@dataclass(slots=True)
class Rows:
    """The rows of one file as they are read. `notes`, `problems` and `left_out` fill while it is read."""

    records: Records
    """(Number, values by column): the number is the line, the sheet's row or the position, from 1."""
    place: Callable[[int, str | None], str]
    """(Number, column) -> where that is: `reviews.csv:17`, `book.xlsx[Sheet1]!B17`."""
    columns: tuple[str, ...] | None = None
    """Names of the header; None where every row names its own."""
    group_column: str | None = None
    """Column that says which rows belong together, where the format itself knows (SQuAD: the passage)."""
    extractive: bool = False
    """Answers are copied from their passages (SQuAD)."""
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """Rows that could not be read; the others are unharmed."""
    num_same_row: int = 0
    """Problems beyond the first of their row."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of rows left out on purpose."""


class _Capped(io.RawIOBase):
    """Bytes of a file after decompression; refuses bombs, and says so in our own errors."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._size = source.path.stat().st_size
        self._total = 0
        self._inner = _open(source)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        source = self._source
        try:
            data = self._inner.read(len(view))
        except EOFError:
            raise source.error("the compressed file ends too early", "copy or compress it again") from None
        except (OSError, zlib.error, lzma.LZMAError) as error:
            raise source.error(f"cannot be read: {error}", "copy or compress it again") from None
        self._total += len(data)
        check_expanded(source, self._size, self._total)
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()


def check_expanded(source: Source, size: int, total: int) -> None:
    """Refuse a file of `size` bytes that grew to `total` bytes.

    Raises:
        DataError: over the cap, or the growth of a decompression bomb.
    """
    if total > source.max_bytes:
        raise source.error(
            f"holds more than {source.max_bytes / MIB:,.0f} MiB once expanded", "divide it into smaller files"
        )
    if total > BOMB_BYTES and total > BOMB_RATIO * max(size, 1):
        raise source.error(
            f"{size:,} bytes grow more than {BOMB_RATIO} times: not data, but a decompression bomb",
            "use the original file, uncompressed",
        )


def _open(source: Source) -> io.BufferedIOBase | IO[bytes]:
    match source.suffixes[1]:
        case ".gz":
            return gzip.open(source.path)
        case ".xz":
            return lzma.open(source.path)
        case _:
            return source.path.open("rb")


def open_bytes(source: Source) -> io.BufferedReader:
    """The expanded bytes of a file."""
    return io.BufferedReader(_Capped(source), buffer_size=MIB // 4)


def open_text(source: Source, encoding: str) -> io.TextIOWrapper:
    """The text of a file, line ends untouched. A byte that is not of the encoding becomes U+DC00 + byte,
    which no text holds, so that the row that has it can be named."""
    return io.TextIOWrapper(open_bytes(source), encoding=encoding, errors=MARK_BYTES, newline="")


def text_encoding(source: Source) -> tuple[str, str | None]:
    """The encoding of a text file, and a note that says so unless it is plain UTF-8.

    Raises:
        DataError: the study names an encoding that does not exist.
    """
    if source.encoding is not None:
        return named_encoding(source), None
    encoding = detect_encoding(source)
    if encoding == "utf-8":
        return encoding, None
    return encoding, f"{source.name}: read as {NAMES.get(encoding, encoding)} (data.encoding overrides it)"


def named_encoding(source: Source) -> str:
    """The encoding that the study names, as Python calls it.

    Raises:
        DataError: there is no such text encoding.
    """
    asked = source.encoding or "utf-8"
    try:
        found = codecs.lookup(asked.strip())
        b"    ".decode(found.name)  # of no length, even base64 passes
    except (LookupError, ValueError):
        raise source.error(
            f"data.encoding = {asked!r} is not a text encoding that is known here",
            "use utf-8, cp932, euc-jp or utf-16, or leave it out to have it detected",
        ) from None
    if found.name == "utf-8":
        return "utf-8-sig"  # reads files with and without the mark
    return ENCODINGS.get(found.name.replace("-", "_"), found.name)


def detect_encoding(source: Source) -> str:
    """The encoding of a whole file: a byte order mark, else UTF-8 if every byte fits, else whichever of
    UTF-8, CP932 and EUC-JP leaves the fewest lines unreadable."""
    with open_bytes(source) as stream:
        head = stream.read(MIB)
        for mark, encoding in BOMS:
            if head.startswith(mark):
                return encoding
        if b"\x1b$" in head and not any(byte >= 0x80 for byte in head[:4096]):
            return "iso2022_jp"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while head:
                decoder.decode(head)
                head = stream.read(MIB)
            decoder.decode(b"", final=True)
            return "utf-8"
        except UnicodeDecodeError:
            pass
    return _fewest_errors(source)


def _fewest_errors(source: Source) -> str:
    candidates = ("utf-8", "cp932", "euc_jp")
    errors = dict.fromkeys(candidates, 0)
    kana = dict.fromkeys(candidates, 0)
    with open_bytes(source) as stream:
        while line := stream.readline(MIB):
            if line.isascii():
                continue
            for candidate in candidates:
                try:
                    text = line.decode(candidate)
                except UnicodeDecodeError:
                    errors[candidate] += 1
                else:
                    kana[candidate] += _likeness(text)
    return min(candidates, key=lambda name: (errors[name], -kana[name]))


def _likeness(text: str) -> int:
    """Kana less half-width kana: EUC-JP bytes are often valid CP932, but read as half-width kana."""
    return sum((0x3040 <= ord(c) < 0x3100) - 2 * (0xFF61 <= ord(c) < 0xFFA0) for c in text)
