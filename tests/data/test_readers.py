"""Every kind of file gives the same examples."""

import codecs
import gzip
import json
import lzma
import sys
from datetime import date, datetime
from pathlib import Path

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from tenbin.config import DataConfig, SplitConfig
from tenbin.data import ReadResult, read_examples
from tenbin.errors import MissingExtra

ROWS = [
    {"id": "a", "本文": "部屋が広くて、\n「快適」でした。", "評価": "良い"},
    {"id": "b", "本文": "朝食が冷めて, いた。", "評価": "悪い"},
]
COLUMNS = {"text": "本文", "category": "評価"}


def read(path: Path, **options: object) -> ReadResult:
    options.setdefault("columns", COLUMNS)
    return read_examples(
        path,
        input_fields=("text",),
        target_field="category",
        config=DataConfig.model_validate({"train": "x", **options}),
    )


def table(delimiter: str = ",") -> str:
    lines = [delimiter.join(ROWS[0])]
    lines += [delimiter.join(f'"{value}"' for value in row.values()) for row in ROWS]
    return "\r\n".join(lines) + "\r\n"


def assert_rows(result: ReadResult) -> None:
    assert result.errors == ()
    assert [(e.id, e.inputs["text"], e.references) for e in result.examples] == [
        (row["id"], row["本文"], (row["評価"],)) for row in ROWS
    ]


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", None),
        ("utf-8-sig", "UTF-8 with a byte order mark"),
        ("cp932", "CP932 (Shift_JIS)"),
        ("euc_jp", "EUC-JP"),
        ("utf-16", "utf-16"),
        ("iso2022_jp", "iso2022_jp"),
    ],
)
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t"), ("a.txt", "\t")])
def test_tables_in_every_encoding(
    tmp_path: Path, encoding: str, said: str | None, name: str, delimiter: str
) -> None:
    path = tmp_path / name
    path.write_bytes(table(delimiter).encode(encoding))
    result = read(path)
    assert_rows(result)
    assert any("read as" in note for note in result.notes) == (said is not None)
    if said:
        assert any(said in note for note in result.notes)


@pytest.mark.parametrize("named", ["cp932", "shift_jis", "Shift-JIS", "sjis"])
def test_a_named_encoding_is_not_detected(tmp_path: Path, named: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(table().replace("部屋", "①㈱").encode("cp932"))
    result = read(path, encoding=named)
    assert result.errors == ()
    assert result.notes == ()
    assert result.examples[0].inputs["text"].startswith("①㈱")


def test_jsonl_in_cp932_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode("cp932"))
    result = read(path)
    assert_rows(result)
    assert any("cp932" in note for note in result.notes)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_lines(tmp_path: Path, mark: bytes, end: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(mark + end.join(json.dumps(row).encode() for row in ROWS) + end)
    assert_rows(read(path))


def test_json_array(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, indent=1, ensure_ascii=False), encoding="utf-8")
    result = read(path)
    assert_rows(result)
    assert result.examples[1].source == "a.json:item 2"


def test_parquet_reads_integral_floats_as_integers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["あ", "い"], "category": [3.0, 4.0]}), path)
    result = read(path, columns={}, labels={"3": "良い", "4": "悪い"})
    assert [example.references for example in result.examples] == [("良い",), ("悪い",)]


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".json", ".parquet", ".xlsx"])
def test_compressed(tmp_path: Path, ending: str, pack: object, kind: str) -> None:
    plain = tmp_path / f"plain{kind}"
    match kind:
        case ".csv":
            plain.write_text(table(), encoding="utf-8", newline="")
        case ".jsonl":
            plain.write_text("\n".join(json.dumps(row) for row in ROWS))
        case ".json":
            plain.write_text(json.dumps(ROWS))
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), plain)
        case _:
            book = openpyxl.Workbook()
            book.active.append(list(ROWS[0]))
            for row in ROWS:
                book.active.append(list(row.values()))
            book.save(plain)
    path = tmp_path / f"a{kind}{ending}"
    path.write_bytes(pack(plain.read_bytes()))
    assert_rows(read(path))


def workbook(path: Path, rows: list[list[object]], title: str = "評価") -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    book.save(path)
    return book


def test_workbook_values_are_what_a_person_sees(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    values = [3, 3.0, 0.1 + 0.2, date(2024, 1, 31), datetime(2024, 1, 31, 9, 30), True, "文"]
    workbook(path, [["text", "category"], *([value, "c"] for value in values)])
    result = read(path, columns={})
    assert result.errors == ()
    texts = [example.inputs["text"] for example in result.examples]
    assert texts == ["3", "3", "0.3", "2024-01-31", "2024-01-31 09:30:00", "TRUE", "文"]
    assert result.examples[0].source == "a.xlsx[評価]!2"


def test_workbook_sheet_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    book = workbook(path, [["text", "category"], ["一枚目", "c"]], "first")
    other = book.create_sheet("second")
    for row in (["text", "category"], ["二枚目", "c"]):
        other.append(row)
    book.save(path)
    first, second = read(path, columns={}), read(path, columns={}, sheet="second")
    assert (first.examples[0].inputs["text"], second.examples[0].inputs["text"]) == ("一枚目", "二枚目")
    assert "sheet 'first' of first, second" in first.notes[0]
    (problem,) = read(path, columns={}, sheet="secnod").errors
    assert "did you mean 'second'?" in problem.remedy


def test_workbook_merged_cells_all_have_the_value(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    book = workbook(
        path, [["hotel", "text", "category"], ["宿", "一", "c"], [None, "二", "c"], ["別", "三", "c"]]
    )
    book.active.merge_cells("A2:A3")
    book.save(path)
    result = read(path, columns={"group": "hotel"})
    assert [example.group for example in result.examples] == ["宿", "宿", "別"]


def test_workbook_with_a_title_above_the_names_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    rows: list[list[object]] = [
        ["2026年の評価"],
        [],
        ["番号", "text", "category"],
        [1, "一", "c"],
        [2, "二", "d"],
    ]
    book = workbook(path, rows)
    book.active.merge_cells("A1:C1")
    book.save(path)
    result = read(path, columns={})
    assert result.errors == ()
    assert [example.inputs["text"] for example in result.examples] == ["一", "二"]
    assert result.examples[0].source == "a.xlsx[評価]!4"
    assert result.notes == ("a.xlsx: row 3 of sheet '評価' names the columns; what is above it is left out",)


def test_workbook_whose_first_row_has_one_of_the_names_begins_there(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    workbook(path, [["text", "類"], ["text", "category"], ["一", "c"]])
    (problem,) = read(path, columns={}).errors
    assert "there is no column 'category'; there are: 'text', '類'" in problem.found


def test_workbook_formula_without_a_value_is_an_error_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    workbook(path, [["text", "category"], ["=A1&B1", "c"], ["文", "c"], ["=A1", "=B1"]])
    result = read(path, columns={})
    assert [problem.where for problem in result.row_errors] == [
        f"a.xlsx[評価]!{at}" for at in ("A2", "A4", "B4")
    ]
    assert "formula" in result.row_errors[0].found
    assert [example.inputs["text"] for example in result.examples] == ["文"]
    assert result.num_bad_rows == 2


def test_workbook_headerless_by_position(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    workbook(path, [["文一", "c"], ["文二", "d"]])
    result = read(path, columns={"text": "1", "category": "2"})
    assert [example.references for example in result.examples] == [("c",), ("d",)]


def test_headerless_table_by_position(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('x1\t1\tまた来ます\t{"1": 3}\nx2\t-1\t狭い\t{"0": 3}\n', encoding="utf-8")
    labels = {"1": "positive", "-1": "negative"}
    result = read(path, columns={"text": "3", "category": "2", "id": "1"}, labels=labels)
    assert [(e.id, e.references) for e in result.examples] == [("x1", ("positive",)), ("x2", ("negative",))]
    assert "position" in result.notes[0]


def test_tab_separated_quotes_that_do_not_pair_are_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tcategory\n"引用" から始まる\tc\n普通の文\td\n', encoding="utf-8")
    result = read(path, columns={})
    assert result.examples[0].inputs["text"] == '"引用" から始まる'
    assert "plain characters" in result.notes[0]


def test_mixed_line_ends_and_line_breaks_in_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('text,category\r一,c\n"二\r\n行",d\r\n\n三,c'.encode())
    result = read(path, columns={})
    assert [example.inputs["text"] for example in result.examples] == ["一", "二\n行", "三"]
    assert [example.source for example in result.examples] == ["a.csv:2", "a.csv:3", "a.csv:6"]
    assert result.left_out == {"blank lines": 1}


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "梅雨",
            "paragraphs": [
                {
                    "context": "梅雨 [SEP] 小笠原諸島にはない。",
                    "qas": [
                        {
                            "id": "q1",
                            "question": "ないのはどこか。",
                            "answers": [
                                {"text": t, "answer_start": 9} for t in ("小笠原諸島", "小笠原", "小笠原諸島")
                            ],
                            "is_impossible": False,
                        },
                        {"id": "q2", "question": "何時か。", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


def read_squad(path: Path, document: object) -> ReadResult:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return read_examples(
        path, input_fields=("passage", "question"), target_field="answer", config=DataConfig(train="x")
    )


def test_squad(tmp_path: Path) -> None:
    result = read_squad(tmp_path / "a.json", SQUAD)
    (example,) = result.examples
    assert example.inputs == {"passage": "梅雨 [SEP] 小笠原諸島にはない。", "question": "ないのはどこか。"}
    assert example.references == ("小笠原諸島", "小笠原")
    assert (example.id, example.group, example.source) == ("q1", "梅雨#1", "a.json:question q1")
    assert result.left_out == {"impossible questions": 1}
    assert "1 impossible questions left out" in result.notes[0]


def test_squad_problems_are_all_named(tmp_path: Path) -> None:
    document = json.loads(json.dumps(SQUAD))
    qas = document["data"][0]["paragraphs"][0]["qas"]
    qas[0]["answers"] = [{"text": "小笠原緒島", "answer_start": 0}]
    qas[1]["is_impossible"] = False
    qas.append("何か")
    document["data"] += [{"title": "空"}, {"paragraphs": [{"context": None, "qas": [dict(qas[0], id="q9")]}]}]
    result = read_squad(tmp_path / "a.json", document)
    places = [problem.where for problem in result.row_errors]
    assert places == [
        "a.json:data[0].paragraphs[0].qas[1]",
        "a.json:data[0].paragraphs[0].qas[2]",
        "a.json:data[1]",
        "a.json:question q1",
        "a.json:question q9",
    ]
    assert "小笠原諸島" in result.row_errors[3].remedy
    assert result.examples == ()


@pytest.mark.parametrize(
    "answer",
    [["東京", "東京都", "東京"], '["東京", "東京都"]', {"text": ["東京", "東京都"], "answer_start": [0, 0]}],
)
def test_several_references(tmp_path: Path, answer: object) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"passage": "東京都です", "question": "どこ", "answer": answer}))
    result = read_examples(
        path,
        input_fields=("passage", "question"),
        target_field="answer",
        config=DataConfig(train="x"),
        group_field="passage",
    )
    assert result.examples[0].references == ("東京", "東京都")
    assert (result.examples[0].group or "").startswith("passage ")


def test_optional_fields_and_unlabeled_examples(tmp_path: Path) -> None:
    path = tmp_path / "bank.jsonl"
    path.write_text('{"question": "何", "choices": ["一", "二"], "category": "地理"}')
    result = read_examples(
        path,
        input_fields=("question",),
        target_field="reference",
        config=DataConfig(train="x"),
        optional_fields=("context", "choices"),
        target_required=False,
        group_field="category",
    )
    (example,) = result.examples
    assert example.inputs == {"question": "何", "context": "", "choices": "一\n二"}
    assert (example.references, example.group, example.id) == ((), "地理", "bank-1")


def test_labels_leave_other_rows_out_and_count_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "\n".join(f"文{i},{stars}" for i, stars in enumerate((1, 2, 3, 3, 4, 5)))
    path.write_text(f"text,category\n{rows}\n", encoding="utf-8")
    labels = {"1": "negative", "2": "negative", "4": "positive", "5": "positive", "6": "positive"}
    result = read(path, columns={}, labels=labels)
    assert [e.references[0] for e in result.examples] == ["negative", "negative", "positive", "positive"]
    assert result.left_out == {"other labels": 2}
    assert "2 rows left out by data.labels: '3' 2" in result.notes[0]
    assert "'6'" in result.notes[1]


def test_a_folder_is_one_example_a_file(tmp_path: Path) -> None:
    for folder, text in (("良い", "広い"), ("悪い", "狭い")):
        (tmp_path / "texts" / folder).mkdir(parents=True)
        (tmp_path / "texts" / folder / "1.txt").write_bytes(text.encode("cp932"))
    (tmp_path / "texts" / "list.pdf").write_bytes(b"")
    result = read(tmp_path / "texts", columns={})
    assert [(e.id, e.inputs["text"], e.references[0]) for e in result.examples] == [
        ("悪い/1", "狭い", "悪い"),
        ("良い/1", "広い", "良い"),
    ]
    assert result.left_out == {"other files": 1}


def test_hub_data_without_the_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tenbin\[hub\]'"):
        read_examples("hf:x/y", input_fields=("text",), target_field="category", config=DataConfig(train="x"))


def test_group_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,category,hotel\n一,c,宿\n二,d,\n", encoding="utf-8")
    result = read(path, columns={}, split=SplitConfig(group_by="hotel"))
    assert result.examples[0].group == "宿"
    (problem,) = result.row_errors
    assert (problem.where, problem.field, problem.found) == ("a.csv:3", "group", "is empty")


def test_an_old_workbook_says_how_it_becomes_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    (problem,) = read(tmp_path / "old.xls", columns={}).errors
    assert "save it as .xlsx" in problem.remedy
