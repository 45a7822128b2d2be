"""AnswerLog: the answers of an evaluation that is not finished, a line each, so that none is made twice."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tenbin.runs import storage
from tenbin.types import Completion, Example


class AnswerLog:
    """A file of JSON lines beside the predictions, and the time that all of them took."""

    def __init__(self, path: Path, examples: Sequence[Example]) -> None:
        self.path = path
        self.examples = examples
        self.before_s = 0.0
        self.started = time.perf_counter()
        self.answered: dict[int, Completion] = {}
        """Position of the example -> its completion, of earlier processes."""
        self._read()

    @property
    def spent_s(self) -> float:
        """Seconds of this process since the log was opened, and of earlier ones up to their last answer."""
        return self.before_s + time.perf_counter() - self.started

    def add(self, place: int, completion: Completion) -> None:
        """Append one answer; on a line of its own also where a crash cut the last one off."""
        line = json.dumps({"id": self.examples[place].id, "spent_s": self.spent_s, **asdict(completion)})
        with storage(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}")

    def forget(self) -> None:
        """Remove the file: its answers stand in the predictions."""
        with storage(self.path):
            self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        if not self.path.exists():
            return
        places = {example.id: place for place, example in enumerate(self.examples)}
        for line in self.path.read_bytes().split(b"\n"):
            try:
                raw = json.loads(line)
                spent_s, place = float(raw.pop("spent_s")), places[raw.pop("id")]
                self.answered[place] = Completion(**raw)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a line that a crash cut off: that example is answered again
            self.before_s = max(self.before_s, spent_s)
