"""JSON Lines, JSON and SQuAD files: rows with their line or position."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tenbin.data.files import (
    MAX_LINE_BYTES,
    MIB,
    Records,
    Rows,
    Source,
    detect_encoding,
    named_encoding,
    open_bytes,
    text_encoding,
)
from tenbin.errors import Problem

MEND_LINE = "mend the line: one JSON object a line"
DECODER = json.JSONDecoder()


def json_rows(source: Source) -> Rows:
    """Rows of a `.json` file: an array of objects, the SQuAD form, or one object a line all the same.

    Raises:
        DataError: it is none of these.
    """
    if _is_lines(source):
        return line_rows(source)
    value, note = _document(source)
    notes = [note] if note else []
    if isinstance(value, list):
        problems: list[Problem] = []
        return Rows(
            records=_items(source, value, problems),
            place=lambda number, _column: f"{source.name}:item {number}",
            notes=notes,
            problems=problems,
        )
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        return _squad_rows(source, value["data"], notes)
    kind = f"an object with the keys {', '.join(list(value)[:5])}" if isinstance(value, dict) else "one value"
    raise source.error(f"holds {kind}", "use an array of objects, one object a line, or the SQuAD form")


def line_rows(source: Source) -> Rows:
    """Rows of a JSON Lines file, read as UTF-8 unless that fails or the study says otherwise."""
    problems: list[Problem] = []
    notes: list[str] = []
    left_out: dict[str, int] = {}
    return Rows(
        records=_line_records(source, problems, notes, left_out),
        place=lambda number, _column: f"{source.name}:{number}",
        notes=notes,
        problems=problems,
        left_out=left_out,
    )


def _line_records(
    source: Source, problems: list[Problem], notes: list[str], left_out: dict[str, int]
) -> Records:
    encoding = named_encoding(source) if source.encoding else ""
    for number, line in _byte_lines(source, problems):
        try:
            text = line.decode(encoding or "utf-8")
        except UnicodeDecodeError:
            if not encoding:
                encoding = detect_encoding(source)
                if encoding != "utf-8":
                    notes.append(f"{source.name}: read as {encoding} (data.encoding overrides it)")
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError as again:
                error = again
                found = f"byte 0x{line[error.start]:02X} at {error.start + 1} of the line is not {encoding}"
                problems.append(source.problem(found, "save the file as UTF-8", f":{number}"))
                continue
        if number == 1:
            text = text.removeprefix("\ufeff")
        if not text or text.isspace():
            left_out["blank lines"] = left_out.get("blank lines", 0) + 1
            continue
        try:
            value = _value(text)
        except RecursionError:
            problems.append(source.problem("nested too deeply to be a row", MEND_LINE, f":{number}"))
        except json.JSONDecodeError as error:
            found = f"not JSON: {error.msg} at character {error.pos + 1}"
            problems.append(source.problem(found, MEND_LINE, f":{number}"))
        except ValueError as error:  # an integer of thousands of digits
            problems.append(source.problem(f"not readable: {error}", MEND_LINE, f":{number}"))
        else:
            if type(value) is dict:
                yield number, value
            else:
                found = f"holds a {type(value).__name__}, not an object"
                problems.append(source.problem(found, MEND_LINE, f":{number}"))


def _value(text: str) -> object:
    """`json.loads` of a line, without looking for space around it first: a third of the time of a row."""
    try:
        value, end = DECODER.raw_decode(text)
    except json.JSONDecodeError:
        return DECODER.decode(text)  # space before it, or the same error again
    return value if not text[end:].strip(" \t\r\n") else DECODER.decode(text)


def _byte_lines(source: Source, problems: list[Problem]) -> Iterator[tuple[int, bytes]]:
    number = 0
    with open_bytes(source) as stream:
        readline = stream.readline
        while line := readline(MAX_LINE_BYTES):
            number += 1
            if len(line) < MAX_LINE_BYTES:
                yield number, line
                continue
            length = len(line)
            while not line.endswith(b"\n") and (line := readline(MAX_LINE_BYTES)):
                length += len(line)
            found = f"the line has {length:,} bytes; at most {MAX_LINE_BYTES // MIB} MiB are read"
            problems.append(source.problem(found, "shorten or remove it", f":{number}"))


def _is_lines(source: Source) -> bool:
    """Whether the first line is a whole object and another line follows."""
    with open_bytes(source) as stream:
        first = stream.readline(MAX_LINE_BYTES).lstrip(b"\xef\xbb\xbf").strip()
        if not (first.startswith(b"{") and first.endswith(b"}")):
            return False
        return bool(stream.read(4096).strip())


def _document(source: Source) -> tuple[Any, str | None]:
    encoding, note = text_encoding(source)
    with open_bytes(source) as stream:
        data = stream.read()
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise source.error(
            f"byte 0x{data[error.start]:02X} at offset {error.start:,} is not {encoding}",
            "save the file as UTF-8",
            f":{line}",
        ) from None
    del data
    try:
        return json.loads(text.removeprefix("\ufeff")), note
    except RecursionError:
        raise source.error("nested too deeply to be data", "use an array of objects") from None
    except json.JSONDecodeError as error:
        raise source.error(
            f"not JSON: {error.msg} at character {error.colno}", "mend the file", f":{error.lineno}"
        ) from None
    except ValueError as error:  # an integer of thousands of digits
        raise source.error(f"not readable: {error}", "mend the file") from None


def _items(source: Source, items: list[Any], problems: list[Problem]) -> Records:
    for number, item in enumerate(items, start=1):
        if isinstance(item, dict):
            yield number, item
        else:
            found = f"holds a {type(item).__name__}, not an object"
            problems.append(source.problem(found, "make every item an object", f":item {number}"))


def _squad_rows(source: Source, articles: list[Any], notes: list[str]) -> Rows:
    problems: list[Problem] = []
    left_out: dict[str, int] = {}
    places: list[str] = []
    return Rows(
        records=_questions(source, articles, problems, left_out, places),
        place=lambda number, _column: f"{source.name}:{places[number - 1]}",
        columns=("id", "title", "passage", "context", "question", "answer", "group"),
        group_column="group",
        extractive=True,
        notes=notes,
        problems=problems,
        left_out=left_out,
    )


def _questions(
    source: Source,
    articles: list[Any],
    problems: list[Problem],
    left_out: dict[str, int],
    places: list[str],
) -> Records:
    """One row a question. A passage is known by its article's title and its number in it."""
    seen: Counter[str] = Counter()
    for i, article in enumerate(articles):
        place = f"data[{i}]"
        for j, paragraph in enumerate(_list(source, article, "paragraphs", place, problems)):
            place = f"data[{i}].paragraphs[{j}]"
            title = str(article.get("title") or f"article {i + 1}")
            seen[title] += 1
            group = f"{title}#{seen[title]}"
            for k, item in enumerate(_list(source, paragraph, "qas", place, problems)):
                inner = f"{place}.qas[{k}]"
                answers = _answers(source, item, inner, problems)
                if answers is None:
                    continue
                if not answers and item.get("is_impossible") is True:
                    left_out["impossible questions"] = left_out.get("impossible questions", 0) + 1
                    continue
                places.append(f"question {item['id']}" if item.get("id") else inner)
                passage = paragraph.get("context")
                row = {
                    "title": title,
                    "passage": passage,
                    "context": passage,
                    "question": item.get("question"),
                    "answer": answers,
                    "group": group,
                    "id": item.get("id") if item.get("id") is not None else inner,
                }
                yield len(places), row


def _list(source: Source, holder: object, key: str, place: str, problems: list[Problem]) -> list[Any]:
    if isinstance(holder, dict) and isinstance(holder.get(key), list):
        return list(holder[key])
    found = f"has no list {key!r}" if isinstance(holder, dict) else f"holds a {type(holder).__name__}"
    problems.append(source.problem(found, "see the SQuAD form: data, paragraphs, qas", f":{place}"))
    return []


def _answers(source: Source, item: object, place: str, problems: list[Problem]) -> list[str] | None:
    """Texts of a question's answers; [] for an impossible question; None = reported."""
    if isinstance(item, dict):
        if item.get("is_impossible") is True:
            return []
        answers = item.get("answers")
        if isinstance(answers, list) and all(
            isinstance(a, dict) and isinstance(a.get("text"), str) for a in answers
        ):
            if answers:
                return [a["text"] for a in answers]
            found = "has no answer and is not marked impossible"
        else:
            found = 'has no list "answers" of objects with a "text"'
    else:
        found = f"holds a {type(item).__name__}, not a question"
    problems.append(source.problem(found, 'give it an answer, or "is_impossible": true', f":{place}"))
    return None
