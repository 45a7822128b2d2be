"""What is written by others' writers is read back as it was, whatever the texts."""

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenbin.config import DataConfig
from tenbin.data import ReadResult, read_examples
from tenbin.data.cells import bad_character

BUDGET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
texts = any_text.filter(lambda text: not text.isspace())
japanese = st.text("あいうアイウ亜意①㈱「」、。,\t\"'\n0aA", min_size=1, max_size=40).filter(
    lambda t: not t.isspace()
)
categories = st.sampled_from(["良い", "悪い", "普通"])


def rows(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.lists(st.tuples(text, categories), min_size=1, max_size=8)


def read(path: Path, encoding: str | None = None) -> ReadResult:
    config = DataConfig(train="x", encoding=encoding)
    return read_examples(path, input_fields=("text",), target_field="category", config=config)


def pairs(result: ReadResult) -> list[tuple[str, str]]:
    assert result.errors == ()
    return [(example.inputs["text"], example.references[0]) for example in result.examples]


@BUDGET
@given(rows(texts))
def test_json_lines(tmp_path: Path, data: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.jsonl.gz"
    lines = [json.dumps({"text": text, "category": category}, ensure_ascii=False) for text, category in data]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert pairs(read(path)) == data


@BUDGET
@given(rows(texts))
def test_json_array(tmp_path: Path, data: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": text, "category": category} for text, category in data]))
    assert pairs(read(path)) == data


@BUDGET
@given(rows(texts))
def test_parquet(tmp_path: Path, data: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"text": text, "category": category} for text, category in data]), path
    )
    assert pairs(read(path)) == data


@BUDGET
@given(
    rows(japanese),
    st.sampled_from(["utf-8", "utf-8-sig", "cp932", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([(".csv", ","), (".tsv", "\t")]),
)
def test_tables(
    tmp_path: Path, data: list[tuple[str, str]], encoding: str, end: str, kind: tuple[str, str]
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=kind[1], lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["text", "category"])
    writer.writerows(data)
    path = tmp_path / f"a{kind[0]}"
    path.write_bytes(stream.getvalue().encode(encoding))
    assert pairs(read(path)) == data


@BUDGET
@given(rows(japanese.filter(lambda text: "①" not in text and "㈱" not in text)))
def test_a_long_japanese_table_in_euc_jp_is_detected(tmp_path: Path, data: list[tuple[str, str]]) -> None:
    sentence = ("これは宿についての感想で、かなと漢字でできています。", "良い")
    stream = io.StringIO()
    csv.writer(stream).writerows([("text", "category"), sentence, *data])
    path = tmp_path / "a.csv"
    path.write_bytes(stream.getvalue().encode("euc_jp"))
    assert pairs(read(path)) == [sentence, *data]


@BUDGET
@given(
    st.binary(max_size=400),
    st.sampled_from(["a.csv", "a.tsv", "a.json", "a.jsonl", "a.xlsx", "a.parquet", "a.csv.gz"]),
)
def test_any_bytes_are_rows_or_errors(tmp_path: Path, data: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    result = read(path)
    assert result.examples or result.errors


@BUDGET
@given(
    st.lists(
        st.binary(max_size=60).filter(lambda line: b"\n" not in line and line.strip()), min_size=1, max_size=9
    )
)
def test_every_line_is_counted(tmp_path: Path, lines: list[bytes]) -> None:
    good = '{"text": "良い", "category": "c"}'.encode()
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([good, *lines, good]))
    result = read(path, "utf-8")
    counted = len(result.examples) + result.num_bad_rows + sum(result.left_out.values())
    assert counted == len(lines) + 2


@given(st.text(max_size=20))
def test_bad_characters_are_those_that_cannot_be_stored(text: str) -> None:
    try:
        text.encode()
        storable = "\0" not in text
    except UnicodeEncodeError:
        storable = False
    assert (bad_character(text) is None) == storable


@pytest.mark.parametrize("text", ["\ud800", "a\0"])
def test_bad_characters_say_where(text: str) -> None:
    assert f"character {len(text)}" in (bad_character(text) or "")
