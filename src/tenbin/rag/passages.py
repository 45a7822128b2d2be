"""Passages: texts that stand around the one a question needs, from the study itself or from a corpus."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenbin.config import DataConfig
from tenbin.data.readers import read_examples
from tenbin.errors import DataError, Problem
from tenbin.types import Example

PARAGRAPH = re.compile(r"\n\s*\n")
SENTENCE = re.compile(r"[^。！？!?\n]*[。！？!?\n]+[」』）)]*|[^。！？!?\n]+$")


@dataclass(frozen=True, slots=True)
class Passage:
    """One text of the corpus."""

    place: str
    """Where it was read."""
    text: str


def plain(text: str) -> str:
    """A text as it is searched: NFKC, lower case, letters and digits only.

    >>> plain("「３ 月、１日」")
    '3月1日'
    """
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with its mark; together they are the text.

    >>> sentences("晴れ。風も弱い。午後は")
    ['晴れ。', '風も弱い。', '午後は']
    """
    return SENTENCE.findall(text)


def study_passages(examples: Iterable[Example], field: str) -> tuple[Passage, ...]:
    """Every different passage of these examples, in order."""
    found: dict[str, Passage] = {}
    for example in examples:
        text = example.inputs.get(field, "").strip()
        if text:
            found.setdefault(text, Passage(example.source or example.id, text))
    return tuple(found.values())


def read_corpus(path: Path, column: str) -> tuple[Passage, ...]:
    """The paragraphs of a file or folder, divided at empty lines.

    A folder is read as text files, a `.txt` file as one text, any other file as rows with a column of texts.

    Raises:
        DataError: everything that is wrong with it, or nothing in it.
    """
    if path.is_file() and path.suffix == ".txt":
        rows = [(path.name, _text(path))]
    else:
        config = DataConfig(train=str(path), columns={"text": "text" if path.is_dir() else column})
        read = read_examples(
            path, input_fields=("text",), target_field="reference", config=config, target_required=False
        )
        if read.errors:
            raise DataError(read.errors)
        rows = [(example.source or example.id, example.inputs["text"]) for example in read.examples]
    found = [Passage(place, part.strip()) for place, text in rows for part in PARAGRAPH.split(text)]
    found = [passage for passage in dict.fromkeys(found) if passage.text]
    if not found:
        raise DataError(Problem(where=str(path), found="holds no text", remedy="name another rag.corpus"))
    return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            Problem(
                where=str(path),
                found=f"byte 0x{error.object[error.start]:02X} at {error.start + 1} is not UTF-8",
                remedy="save the file as UTF-8, or name the folder it is in: encodings are detected there",
            )
        ) from None


def total_characters(passages: Sequence[Passage]) -> int:
    """Characters of all passages."""
    return sum(len(passage.text) for passage in passages)
