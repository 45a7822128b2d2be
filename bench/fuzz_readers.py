"""Break valid data files of every kind at random and read them: no traceback, no hang, no row uncounted.

    python bench/fuzz_readers.py 100000 --seed 0

Prints one JSON line: files read, how they ended by kind, the slowest read, and the first failures with the
seeds that make them again. Ends with 1 if there is a failure. Files are read in child processes, so that a
crash of a library is a failure of one batch and not of the whole run.
"""

import argparse
import gzip
import io
import json
import lzma
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tenbin.config import DataConfig
from tenbin.data import ReadResult, read_examples

BATCH = 1000
SLOW_S = 5.0
MAX_BYTES = 2**26
ROWS = [
    {
        "id": f"r{i}",
        "text": f"部屋が{'広く' * (i % 4)}て、\n「快適」でした。{i}",
        "category": "良い" if i % 2 else "悪い",
        "点": i,
    }
    for i in range(12)
]
QUESTIONS = {
    "version": "v2.0",
    "data": [
        {
            "title": "宿",
            "paragraphs": [
                {
                    "context": f"宿 [SEP] 創業は{1900 + i}年。温泉は{i}つある。",
                    "qas": [
                        {
                            "id": f"a{i}",
                            "question": "創業は何年か。",
                            "answers": [{"text": f"{1900 + i}年", "answer_start": 11}],
                        },
                        {"id": f"b{i}", "question": "主人は誰か。", "answers": [], "is_impossible": True},
                    ],
                }
                for i in range(4)
            ],
        }
    ],
}
TOKENS = [
    *(b"\0", b'"', b'""', b"\r", b"\n", b"\r\n", b"\t", b",", b"id", b"text", b"x" * 5000),
    *(b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b$B", b"\x82\xa0", b"\xa4\xa2", b"\xed\xa0\x80"),
    *(b"\\ud800", b"\\u0000", b"1e999", b"NaN", b"-Infinity", b"9" * 5000, b"null", b"true"),
    *(b"[" * 3000, b'{"a":' * 2000, b"{}", b"[]"),
    *(b"=1+1", b"<f>1</f>", b"A1:XFD1048576", b"&#0;"),
]


def table(delimiter: str, encoding: str) -> bytes:
    """The rows as a quoted table."""
    lines = [delimiter.join(ROWS[0])]
    lines += [delimiter.join('"' + str(v).replace('"', '""') + '"' for v in row.values()) for row in ROWS]
    return "\r\n".join(lines).encode(encoding)


def workbook() -> bytes:
    """The rows as a workbook with a formula and merged cells."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(list(ROWS[0]))
    for row in ROWS:
        sheet.append(list(row.values()))
    sheet["D3"] = "=1+1"
    sheet.merge_cells("C4:C6")
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def parquet() -> bytes:
    """The rows as a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "utf8.csv": lambda: table(",", "utf-8"),
    "bom.csv": lambda: table(",", "utf-8-sig"),
    "cp932.csv": lambda: table(",", "cp932"),
    "eucjp.csv": lambda: table(",", "euc_jp"),
    "utf16.tsv": lambda: table("\t", "utf-16"),
    "utf8.tsv": lambda: table("\t", "utf-8"),
    "lines.jsonl": lambda: "\n".join(json.dumps(r, ensure_ascii=False) for r in ROWS).encode(),
    "array.json": lambda: json.dumps(ROWS, ensure_ascii=False, indent=1).encode(),
    "squad.json": lambda: json.dumps(QUESTIONS, ensure_ascii=False).encode(),
    "book.xlsx": workbook,
    "columns.parquet": parquet,
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def break_bytes(data: bytes, rng: random.Random) -> bytes:
    """The bytes with a few accidents."""
    broken = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(broken) + 1)
        match rng.randrange(12):
            case 0 | 5 | 6 | 7 if broken:
                broken[at % len(broken)] ^= 1 << rng.randrange(8)
            case 1:
                broken[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
            case 2:
                del broken[at : at + rng.choice((1, 2, 10, 100))]
            case 3:
                del broken[at:]
            case 4:
                begin = rng.randrange(len(broken) + 1)
                broken[at:at] = broken[begin : begin + rng.choice((1, 10, 200))]
            case _:
                broken[at:at] = rng.choice(TOKENS)
    return bytes(broken)


def break_workbook(data: bytes, rng: random.Random) -> bytes:
    """A sound zip file with accidents in one of its XML parts."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as valid, zipfile.ZipFile(stream, "w") as broken:
        part = rng.choice([name for name in valid.namelist() if "sheet" in name or "haredStrings" in name])
        for name in valid.namelist():
            content = valid.read(name)
            broken.writestr(name, break_bytes(content, rng) if name == part else content)
    return stream.getvalue()


def check(result: ReadResult, data: bytes, name: str) -> None:
    """What must hold of every reading."""
    assert result.examples or result.errors or result.left_out, "nothing was read and nothing was said"
    ids = [example.id for example in result.examples]
    assert len(set(ids)) == len(ids), "an id is there twice"
    for example in result.examples:
        for text in (example.id, *example.inputs.values(), *example.references):
            text.encode()
            assert "\0" not in text
    for problem in result.errors:
        str(problem).encode("utf-8", "backslashreplace")
        assert problem.where
        assert problem.remedy
    if name == "lines.jsonl" and not result.file_errors:
        counted = len(result.examples) + result.num_bad_rows + sum(result.left_out.values())
        rows = data.count(b"\n") + (not data.endswith(b"\n"))
        assert counted == rows, f"{rows} lines, but {counted} counted"


def read_one(seed: int, folder: Path, valid: dict[str, bytes]) -> tuple[str, str, float]:
    """Kind, how it ended, seconds."""
    rng = random.Random(seed)
    kind = rng.choice(list(valid))
    ending = rng.choice(("", "", "", ".gz", ".xz"))
    before = rng.random() < 0.7 or not ending
    make_broken = break_workbook if kind == "book.xlsx" and rng.random() < 0.7 else break_bytes
    data = make_broken(valid[kind], rng) if before else valid[kind]
    packed = PACKERS[ending](data)
    path = folder / (kind + ending)
    path.write_bytes(packed if before else break_bytes(packed, rng))
    reading = kind == "squad.json"
    labels = {"良い": "a", "悪い": "b"} if rng.random() < 0.3 else None
    begin = time.perf_counter()
    result = read_examples(
        path,
        input_fields=("passage", "question") if reading else ("text",),
        target_field="answer" if reading else "category",
        config=DataConfig(train="x", labels=None if reading else labels),
        max_bytes=MAX_BYTES,
    )
    seconds = time.perf_counter() - begin
    check(result, data if before else b"", kind if before else "")
    assert seconds < SLOW_S, f"took {seconds:.1f} s"
    ended = "file error" if result.file_errors else "row errors" if result.row_errors else "read"
    return kind, ended, seconds


def run_batch(first: int, last: int, queue: "multiprocessing.Queue[dict[str, object]]") -> None:
    """Read the files of the seeds from `first` to before `last`."""
    warnings.simplefilter("error")
    valid = {name: make() for name, make in KINDS.items()}
    ends: Counter[str] = Counter()
    failures, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, last):
            try:
                kind, ended, seconds = read_one(seed, Path(folder), valid)
                ends[f"{kind}: {ended}"] += 1
                slowest = max(slowest, seconds)
            except BaseException:  # whatever it is, it is what we look for
                failures.append({"seed": seed, "error": traceback.format_exc(limit=-4)})
    queue.put({"ends": dict(ends), "failures": failures, "slowest_s": slowest})


def main() -> int:
    """Read as many files as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ends: Counter[str] = Counter()
    failures: list[object] = []
    slowest, begin = 0.0, time.perf_counter()
    for first in range(args.seed, args.seed + args.count, BATCH):
        last = min(first + BATCH, args.seed + args.count)
        queue: multiprocessing.Queue[dict[str, object]] = context.Queue()
        child = context.Process(target=run_batch, args=(first, last, queue))
        child.start()
        report = None
        while report is None and (child.is_alive() or not queue.empty()):
            try:
                report = queue.get(timeout=1)
            except Exception:  # queue.Empty: not ready yet
                continue
        child.join()
        if report is None:
            failures.append({"seeds": [first, last], "error": f"the process ended with {child.exitcode}"})
            continue
        ends.update(report["ends"])
        failures += report["failures"]
        slowest = max(slowest, report["slowest_s"])
        if len(failures) > 50:
            break
    line = {
        "files": sum(ends.values()) + len(failures),
        "failures": len(failures),
        "first_failures": failures[:5],
        "slowest_s": round(slowest, 3),
        "seconds": round(time.perf_counter() - begin, 1),
        "ends": dict(sorted(ends.items())),
    }
    print(json.dumps(line, ensure_ascii=False))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
