import json
import os
import subprocess
import sys

import pytest

from tenbin.errors import DataError, StorageError
from tenbin.generate.hosted.answers import Answer, AnswerStore, Billed

MOST = Billed(50, 8)


def answer(text="東京", **changes):
    fields = {
        "text": text,
        "stop_reason": "stop",
        "error": None,
        "input_tokens": 7,
        "cached_input_tokens": 0,
        "output_tokens": 3,
        "counted": True,
        "latency_s": 0.5,
        "attempts": 1,
        "model": "m",
    }
    return Answer(**{**fields, **changes})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hosted" / "m.jsonl"


def filled(path):
    store = AnswerStore(path)
    with store.writing():
        store.call("a", 1, MOST)
        store.answer("a", answer())
        store.call("b", 1, MOST)
        store.failed("b", 1, error="HTTP 429", billed=None, wait_s=0.5)
        store.call("b", 2, MOST)
        store.failed("b", 2, error="cut", billed=MOST, wait_s=1.0)
        store.call("b", 3, MOST)
        store.answer("b", answer("大阪\u2028\ud800", attempts=3))
    return store


def test_what_was_written_is_read(path):
    written = filled(path)
    read = AnswerStore(path)
    assert read.answers == written.answers == {"a": answer(), "b": answer("大阪\u2028\ud800", attempts=3)}
    assert read.lost == written.lost == [MOST]
    assert read.num_failed == written.num_failed == 2
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["call", "answer", "call", "failed", "call", "failed", "call", "answer"]


def test_opening_writes_nothing(path):
    AnswerStore(path)
    assert not path.parent.exists()


def test_a_file_cut_at_any_byte_loses_at_most_the_line_in_work(path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a thousand times would take its time
    filled(path)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        lines = whole[:length].split(b"\n")[:-1]
        store = AnswerStore(path)
        assert len(store.answers) == sum(b'"kind": "answer"' in line for line in lines)
        with store.writing():
            assert path.read_bytes() == b"".join(line + b"\n" for line in lines)
            store.call("c", 1, MOST)
            store.answer("c", answer("後"))
        again = AnswerStore(path)
        assert again.answers["c"] == answer("後")
        calls = sum(b'"kind": "call"' in line for line in lines)
        ended = sum(b'"kind": "answer"' in line or b'"billed": false' in line for line in lines)
        assert len(again.lost) == calls - ended


def test_a_call_in_flight_when_the_process_died_counts_as_billed_even_if_it_is_asked_again(path):
    store = AnswerStore(path)
    with store.writing():
        store.call("a", 1, MOST)
    with store.writing():
        assert store.lost == [MOST]
        store.call("a", 1, MOST)
        store.answer("a", answer())
    assert AnswerStore(path).lost == [MOST]


def test_a_damaged_line_is_named(path):
    filled(path)
    lines = path.read_text().splitlines()
    for broken in ("{", "[]", "{}", '{"kind": "answer", "key": "x", "attempt": 1, "time": 0}', "null"):
        path.write_text("\n".join([*lines[:2], broken, *lines[2:]]) + "\n")
        with pytest.raises(DataError, match=r"m\.jsonl:3: not a line that tenbin wrote"):
            AnswerStore(path)


def test_only_one_writes(path):
    first, second = AnswerStore(path), AnswerStore(path)
    with (
        first.writing(),
        pytest.raises(StorageError, match="being written already"),
        second.writing(),
    ):
        pass
    with second.writing():
        second.call("a", 1, MOST)


def test_the_lock_ends_with_the_process(path):
    code = f"""
import os, pathlib
from tenbin.generate.hosted.answers import AnswerStore
store = AnswerStore(pathlib.Path({str(path)!r}))
store.writing().__enter__()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    with AnswerStore(path).writing():
        assert path.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission_is_a_storage_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError), AnswerStore(tmp_path / "hosted" / "m.jsonl").writing():
        pass


def test_a_full_disk_is_a_storage_error(path, monkeypatch):
    store = AnswerStore(path)

    def full(descriptor, line):
        raise OSError(28, "No space left on device")

    with store.writing():
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="No space left"):
            store.answer("a", answer())
    assert "a" not in store.answers
