"""AnswerStore: every call and every answer of one hosted model, in an append-only file of the study folder.

<study>/hosted/<model>-<digest>.jsonl, one JSON object a line:

    {"kind": "call", "key", "attempt", "time", "input", "output"}     before it is sent; the most it may take
    {"kind": "failed", "key", "attempt", "time", "error", "billed", "wait_s"}
    {"kind": "answer", "key", "attempt", "time", "text", ...}         on the disk before anybody sees it

A call without an outcome was in flight when the process died: it counts as billed. No prompt and no key is
written. One process at a time writes (a lock that ends with the process). A line that a crash cut off is
removed when the file is opened again; it can only be that of a call in flight.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tenbin.errors import DataError, Problem, StorageError
from tenbin.runs import storage
from tenbin.types import StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer as the service gave it."""

    text: str
    """Whole: stop texts are cut off when it is read."""
    stop_reason: StopReason
    error: str | None
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    counted: bool
    """Whether the service counted the tokens; else they are estimates."""
    latency_s: float
    attempts: int
    """Calls that it took."""
    model: str | None
    """As the service named it."""


@dataclass(frozen=True, slots=True)
class Billed:
    """Tokens of a call that may have been billed though it gave no answer: the most it can have taken."""

    input_tokens: int
    output_tokens: int


class AnswerStore:
    """The answers of one model. Reading needs no lock; `writing` opens the file for one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.lost: list[Billed] = []
        """Calls without an answer that count as billed."""
        self.num_failed = 0
        """Calls that failed, of all processes so far."""
        self._file: int | None = None
        self.load()

    def load(self) -> None:
        """Read what the file holds now.

        Raises:
            DataError: a line is not whole, other than the last one.
        """
        self.answers, self.lost, self.num_failed = {}, [], 0
        open_calls: dict[tuple[str, int], Billed] = {}
        for number, raw in self._lines():
            try:
                self._take(raw, open_calls)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                found = f"not a line that tenbin wrote: {type(error).__name__}"
                remedy = "delete this line; its question is asked again"
                raise DataError(Problem(where=f"{self.path}:{number}", found=found, remedy=remedy)) from None
        self.lost += open_calls.values()

    def _lines(self) -> Iterator[tuple[int, Any]]:
        if not self.path.exists():
            return
        with storage(self.path):
            content = self.path.read_bytes()
        whole, _, _ = content.rpartition(b"\n")  # what follows the last line end was cut off by a crash
        for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            try:
                yield number, json.loads(line)
            except ValueError:
                yield number, None

    def _take(self, raw: Any, open_calls: dict[tuple[str, int], Billed]) -> None:  # noqa: ANN401  (JSON)
        kind, key, attempt = raw.pop("kind"), raw.pop("key"), raw.pop("attempt")
        raw.pop("time")
        if kind == "call":
            if (key, attempt) in open_calls:  # the process died in it, and a later one began anew
                self.lost.append(open_calls[key, attempt])
            open_calls[key, attempt] = Billed(raw["input"], raw["output"])
            return
        call = open_calls.pop((key, attempt), None)
        if kind == "failed":
            self.num_failed += 1
            if raw["billed"] and call is not None:
                self.lost.append(call)
        elif kind == "answer":
            self.answers[key] = Answer(**raw)
        else:
            raise ValueError(kind)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep the file to this process, read it again, and let `call`, `failed` and `answer` write.

        Raises:
            StorageError: another process or generator writes to it, or the disk does not let us.
        """
        with storage(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock(descriptor)
            with storage(self.path):
                _drop_cut_line(descriptor)
            self.load()
            self._file = descriptor
            yield
        finally:
            self._file = None
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(
                Problem(
                    where=str(self.path),
                    found="these answers are being written already",
                    remedy="wait until the other `tenbin` ends, or use another study folder",
                )
            ) from None

    def call(self, key: str, attempt: int, most: Billed) -> None:
        """Say that a call is about to be sent."""
        fields = {"input": most.input_tokens, "output": most.output_tokens}
        self._write("call", key, attempt, fields, sync=False)

    def failed(
        self, key: str, attempt: int, *, error: str, billed: Billed | None, wait_s: float | None
    ) -> None:
        """Say that a call gave no answer, and when it is sent again (None = never).

        Args:
            billed: the most it can have taken, where the service may have done the work.
        """
        self.num_failed += 1
        if billed is not None:
            self.lost.append(billed)
        fields = {"error": error, "billed": billed is not None, "wait_s": wait_s and round(wait_s, 3)}
        self._write("failed", key, attempt, fields, sync=False)

    def answer(self, key: str, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns."""
        self._write("answer", key, answer.attempts, asdict(answer), sync=True)
        self.answers[key] = answer

    def _write(self, kind: str, key: str, attempt: int, fields: dict[str, Any], *, sync: bool) -> None:
        assert self._file is not None, "write inside `writing`"
        head = {"kind": kind, "key": key, "attempt": attempt, "time": round(time.time(), 3)}
        # ASCII: answers may hold lone surrogates and every kind of line separator.
        line = (json.dumps({**head, **fields}, allow_nan=False) + "\n").encode()
        with storage(self.path):
            written = os.write(self._file, line)
            while written < len(line):  # a nearly full disk takes a part
                written += os.write(self._file, line[written:])
            if sync:
                os.fsync(self._file)


def _drop_cut_line(descriptor: int) -> None:
    """Cut off what follows the last line end: the rest of a line that a crash did not let be finished."""
    size = os.fstat(descriptor).st_size
    position = size
    while position:
        start = max(0, position - 65536)
        found = os.pread(descriptor, position - start, start).rfind(b"\n")
        if found >= 0:
            if start + found + 1 < size:
                os.ftruncate(descriptor, start + found + 1)
            return
        position = start
    if size:
        os.ftruncate(descriptor, 0)
