"""What is wrong with a file is said once, with its place and a remedy, and no row is lost uncounted."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest

from tenbin.config import DataConfig
from tenbin.data import ReadResult, read_examples
from tenbin.data.files import MAX_LINE_BYTES


def read(path: Path, **options: object) -> ReadResult:
    max_bytes = options.pop("max_bytes", None)
    more = {"max_bytes": max_bytes} if max_bytes else {}
    config = DataConfig.model_validate({"train": "x", **options})
    return read_examples(path, input_fields=("text",), target_field="category", config=config, **more)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_every_error_of_a_file_in_one_pass(tmp_path: Path) -> None:
    rows = [
        "id,text,category",
        "1,良い部屋,positive",
        "2,,positive",
        "3,狭い,possitive",
        "1,同じ,negative",
        "5,多い,negative,x",
        "6,少ない",
        "7,\0,negative",
        "8,　,",
        '9,"閉じ"た,negative',
        "10,最後,negative",
    ]
    path = write(tmp_path / "a.csv", "\n".join(rows))
    result = read(path, categories=["positive", "negative"])
    errors = sorted((p.where, p.field, p.found) for p in result.row_errors)
    assert errors == [
        ("a.csv:10", None, "not readable as CSV: ',' expected after '\"'"),
        ("a.csv:3", "text", "is empty"),
        ("a.csv:4", "category", "'possitive' is not a category"),
        ("a.csv:5", "id", "the id '1' is also at a.csv:2"),
        ("a.csv:6", None, "the row has 4 cells; the header has 3"),
        ("a.csv:7", None, "the row has 2 cells; the header has 3"),
        ("a.csv:8", "text", "holds a NUL byte (character 1)"),
        ("a.csv:9", "category", "is empty"),
        ("a.csv:9", "text", "is empty"),
    ]
    near = next(p for p in result.row_errors if p.where == "a.csv:4")
    assert near.remedy.startswith("did you mean 'positive'?")
    assert result.file_errors == ()
    assert (len(result.examples), result.num_bad_rows) == (2, 8)


def test_a_missing_column_is_one_error_naming_those_present(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,txet,category\n1,あ,c\n2,い,c\n")
    (problem,) = read(path).errors
    assert problem.found == "there is no column 'text'; there are: 'id', 'txet', 'category'"
    assert problem.remedy.startswith("did you mean 'txet'?")


def test_a_field_missing_from_every_json_row_is_one_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"txet": "あ", "category": "c"}\n' * 3)
    result = read(path)
    (problem,) = result.file_errors
    assert "there is no column 'text'" in problem.found
    assert result.row_errors == ()


def test_a_field_missing_from_one_json_row_is_its_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "あ", "category": "c"}\n{"category": "c"}\n')
    (problem,) = read(path).errors
    assert (problem.where, problem.field) == ("a.jsonl:2", "text")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"text": "あ", "category": ', "not JSON: Expecting value at character 28"),
        ("[1]", "holds a list, not an object"),
        ("9" * 5000, "not readable: Exceeds the limit"),
        ('{"text": ' + "[" * 100_000, "nested too deeply"),
        ('{"text": {"a": 1}, "category": "c"}', "holds an object with the keys a, not text"),
        ('{"text": "\\ud800", "category": "c"}', "holds half of a surrogate pair, U+D800"),
        ('{"text": "\\u0000", "category": "c"}', "holds a NUL byte"),
        ('{"text": null, "category": "c"}', "is empty"),
        (b'{"text": "\xff", "category": "c"}', "byte 0xFF at 11 of the line is not utf-8"),
    ],
)
def test_broken_json_lines(tmp_path: Path, line: str | bytes, found: str) -> None:
    good = '{"text": "良い", "category": "c"}\n'.encode()
    middle = line.encode() if isinstance(line, str) else line
    result = read(write(tmp_path / "a.jsonl", good + middle + b"\n" + good))
    (problem,) = result.row_errors
    assert problem.where == "a.jsonl:2"
    assert problem.found.startswith(found)
    assert (len(result.examples), result.num_bad_rows) == (2, 1)


def test_bytes_outside_the_encoding_are_named_by_line(tmp_path: Path) -> None:
    lines = ["text,category", *(f"とても良い部屋{i},c" for i in range(5))]
    data = "\n".join(lines).encode().replace("屋3".encode(), b"\xff3")
    (problem,) = read(write(tmp_path / "a.csv", data)).errors
    assert problem.where == "a.csv:5"
    assert "byte 0xFF (character 7)" in problem.found


def test_a_named_encoding_that_does_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps([{"text": "部屋", "category": "c"}], ensure_ascii=False))
    (problem,) = read(path, encoding="ascii").errors
    assert (problem.where, problem.found) == ("a.json:1", "byte 0xE9 at offset 11 is not ascii")
    (problem,) = read(path, encoding="utf-88").errors
    assert "not a text encoding" in problem.found
    (problem,) = read(path, encoding="base64").errors
    assert "not a text encoding" in problem.found


def test_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,category\n一,c\n"二,c\n三,c\n')
    result = read(path)
    (problem,) = result.file_errors
    assert problem.where == "a.csv:3"
    assert "never closed" in problem.found


def test_duplicate_headers_matter_where_they_are_used(tmp_path: Path) -> None:
    (problem,) = read(write(tmp_path / "a.csv", "text,category,text\n一,c,二\n")).errors
    assert problem.found == "the header has the column 'text' 2 times"
    assert read(write(tmp_path / "b.csv", "text,category,x,x\n一,c,1,2\n")).errors == ()


def test_lines_that_are_too_long(tmp_path: Path) -> None:
    good = '{"text": "良い", "category": "c"}\n'.encode()
    long = b'{"text": "' + b"a" * (MAX_LINE_BYTES * 2) + b'", "category": "c"}\n'
    result = read(write(tmp_path / "a.jsonl", good + long + good))
    (problem,) = result.row_errors
    assert (problem.where, len(result.examples)) == ("a.jsonl:2", 2)
    assert "at most 16 MiB" in problem.found
    result = read(write(tmp_path / "a.csv", b"text,category\n" + b"a" * (MAX_LINE_BYTES * 2) + b",c\nb,c\n"))
    assert [problem.where for problem in result.row_errors] == ["a.csv:2"]
    assert [example.source for example in result.examples] == ["a.csv:3"]


def test_a_table_of_one_line_that_is_too_long(tmp_path: Path) -> None:
    first, second = read(write(tmp_path / "a.csv", b"a" * (MAX_LINE_BYTES * 2))).file_errors
    assert (first.where, second.found) == ("a.csv:1", "the file has no rows")


def test_ten_thousand_columns(tmp_path: Path) -> None:
    header = ",".join(f"c{i}" for i in range(10_000))
    (first, second) = read(write(tmp_path / "a.csv", f"{header}\n{',' * 9_999}x\n")).errors
    assert first.found.endswith("'c19' and 9,980 more")
    assert second.field == "category"
    header = header.replace("c7,", "text,").replace("c8,", "category,")
    values = ",".join(["v"] * 10_000)
    assert len(read(write(tmp_path / "a.csv", f"{header}\n{values}\n")).examples) == 1


@pytest.mark.parametrize(
    "name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz", "a.parquet.gz", "a.xlsx.gz", "a.txt.gz"]
)
def test_decompression_bombs(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=9) as stream:
        for _ in range(100):
            stream.write(bytes(2**20))
    (problem,) = read(path).file_errors
    assert "bomb" in problem.found


def test_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(100 * 2**20))
    (problem,) = read(path).file_errors
    assert "bomb" in problem.found


def test_cap_on_the_expanded_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "良い", "category": "c"}\n' * 100_000)
    (problem,) = read(path, max_bytes=2**20).file_errors
    assert problem.found == "holds more than 1 MiB once expanded"


def zip_bytes() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", "b")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("a.csv", b"", "the file has no rows"),
        ("a.csv", b"text,category\n", "the file has no rows"),
        ("a.jsonl", b"", "the file has no rows"),
        ("a.json", b"", "not JSON"),
        ("a.json", b"[]", "the file has no rows"),
        ("a.json", b'{"a": 1}', "holds an object with the keys a"),
        ("a.json", b"3", "holds one value"),
        ("a.json", b'[{"text": "x",}]', "not JSON"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.xlsx", b"abc", "is not an Excel workbook"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0" + bytes(600), "is an old .xls or a password-protected workbook"),
        ("a.xlsx", zip_bytes(), "cannot be read as an Excel workbook"),
        ("a.csv", zip_bytes(), "is a zip file, perhaps an Excel workbook"),
        ("a.parquet", b"abc", "is not a Parquet file"),
        ("a.jsonl.gz", b"abc", "cannot be read: Not a gzipped file"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "a", "category": "c"}\n' * 99, mtime=0)[:-20],
            "the compressed file ends",
        ),
        ("a.jsonl.xz", b"abc", "cannot be read"),
        ("a.docx", b"abc", "files ending in '.docx' are not known"),
        ("a", b"abc", "files ending in 'nothing' are not known"),
    ],
)
def test_files_that_are_not_data(tmp_path: Path, name: str, data: bytes, found: str) -> None:
    result = read(write(tmp_path / name, data))
    assert [problem.found[: len(found)] for problem in result.file_errors] == [found]
    assert result.file_errors[0].where.startswith(name)
    assert result.file_errors[0].remedy


def test_no_such_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "reviews.csv", "text,category\n一,c\n")
    (problem,) = read(tmp_path / "review.csv").errors
    assert problem.remedy == "did you mean 'reviews.csv'?"


def test_labels_that_fit_no_row_name_the_values_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,category\n一,◯\n二,◯\n三,×\n")
    (problem,) = read(path, labels={"○": "positive", "✕": "negative"}).errors
    assert problem.found == "no row is left: data.labels names none of the values '◯' (2), '×' (1)"


def test_ids_can_be_numbered_instead(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text,category\nx,一,c\nx,二,c\n")
    assert "columns = { id" in read(path).errors[0].remedy
    assert [example.id for example in read(path, columns={"id": ""}).examples] == ["a-2", "a-3"]


def test_an_empty_folder(tmp_path: Path) -> None:
    (problem,) = read(tmp_path).errors
    assert problem.found == "the folder has no .txt file"


def test_a_group_column_that_no_json_row_has_is_one_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "あ", "category": "c", "hotel": "h"}\n' * 3)
    (problem,) = read(path, split={"group_by": "hotle"}).errors
    assert problem.found.startswith("there is no column 'hotle'")
    assert problem.remedy == "did you mean 'hotel'? name the column in the study: data.split.group_by"


def test_a_row_without_its_group_is_an_error(tmp_path: Path) -> None:
    rows = '{"text": "あ", "category": "c"}\n{"text": "い", "category": "c", "hotel": "h"}\n'
    (problem,) = read(write(tmp_path / "a.jsonl", rows), split={"group_by": "hotel"}).errors
    assert (problem.where, problem.field) == ("a.jsonl:1", "group")
