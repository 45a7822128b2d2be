"""Run, StudyFolder: one folder a run is the truth; everything else is derived from these folders.

<study>/
  study.toml              the resolved study
  data.json               files, fingerprints, counts, notes, template
  inspection.json  plan.json  bad_rows.jsonl  report.html
  runs/<run id>/
    run.json              RunSpec: what determines the result
    environment.json      versions, device
    events.jsonl          one JSON object a line, in order of time
    predictions/*.jsonl   one EvalRow a line
    checkpoint/           state to resume; gone when the run is done
    adapter/              the best epoch's adapter
    result.json           RunResult; written last, so its presence means done
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from tenbin.errors import DataError, Problem, StorageError
from tenbin.evaluation_json import evaluation_from_json as evaluation_from_json
from tenbin.evaluation_json import row_from_json
from tenbin.types import EvalResult, EvalRow, HostedUse, JsonValue

T = TypeVar("T")

DO_AGAIN = "delete the run's folder and run the study again"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What determines a run's result. Two runs with equal specs are the same run."""

    kind: Literal["train", "eval"]
    """train: an adapter is fine-tuned and evaluated; eval: a model is evaluated as it is."""
    model: str
    """Short name of the model."""
    source: str
    model_fingerprint: str
    task: str
    learning_rate: float | None = None
    seed: int | None = None
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    """Everything else: training, LoRA, generation, template, fingerprints of the data."""

    @property
    def id(self) -> str:
        """Folder name: readable, and different as soon as anything in the spec differs."""
        canonical = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()[:8]
        if self.kind == "eval":
            return f"{self.model}-{self.variety}-{digest}"
        return f"{self.model}-lr{self.learning_rate:g}-seed{self.seed}-{digest}"

    @property
    def variety(self) -> Literal["tuned", "base", "adapter", "hosted"]:
        """What is evaluated: the adapter that the run trains, a model as it is, a model with an adapter from
        elsewhere, or one that answers through an API."""
        if self.kind == "train":
            return "tuned"
        return "adapter" if "adapter" in self.settings else "hosted" if "hosted" in self.settings else "base"

    @property
    def addition(self) -> str:
        """What stands behind the model's name in tables: `(base)`, `(base, vLLM)`, `+ my-adapter`."""
        adapter = self.settings.get("adapter")
        engine = "vLLM" if "vllm" in self.settings else ""
        if isinstance(adapter, Mapping):
            return f"+ {adapter['name']}" + (f" ({engine})" if engine else "")
        return f"({self.variety}, {engine})" if engine else f"({self.variety})"

    @property
    def label(self) -> str:
        """As in tables: `gemma-3-270m lr=2e-04`; the seed where it is not 0."""
        if self.kind == "eval":
            return f"{self.model} {self.addition}"
        seed = f" seed={self.seed}" if self.seed else ""
        return f"{self.model} lr={self.learning_rate:g}{seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch of a training run."""

    epoch: int
    """From 1."""
    step: int
    """Optimizer steps done at its end."""
    train_loss: float
    """Mean over the epoch's target tokens, in nats a token."""
    validation: EvalResult | None
    """Without rows; they are in predictions/validation-epoch-NN.jsonl."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a finished run found."""

    spec: RunSpec
    epochs: tuple[EpochRecord, ...] = ()
    best_epoch: int | None = None
    selected_on: str | None = None
    """`validation jsquad_f1`: what chose the epoch."""
    results: Mapping[str, EvalResult] = field(default_factory=dict)
    """By split, without rows: `test` where there is a test set, else `validation`."""
    train_s: float = 0.0
    evaluate_s: float = 0.0
    train_tokens: int = 0
    """Tokens that went through the model in training, prompt and target."""
    train_examples: int = 0
    """Counted once an epoch."""
    peak_mib: float | None = None
    """Of the process: on the GPU where there is one, else resident memory."""
    probe: Mapping[str, JsonValue] | None = None
    """What was measured before the training, and the plan corrected by it (`train.probe`); None: no cap."""
    device: str = "cpu"
    dtype: str = "fp32"
    hosted: HostedUse | None = None
    """What the calls took, of a model that answers through an API."""


class Run:
    """The folder of one run. Writing is atomic; events are appended and flushed line by line."""

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path = path
        self.spec = spec

    @property
    def done(self) -> bool:
        """Whether the run is finished."""
        return (self.path / "result.json").exists()

    def start(self, environment: Mapping[str, JsonValue]) -> None:
        """Make the folder and write the spec and the environment."""
        with storage(self.path):
            (self.path / "predictions").mkdir(parents=True, exist_ok=True)
            for left in self.path.glob(".*"):  # half-written when an earlier process was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        write_json(self.path / "run.json", asdict(self.spec))
        write_json(self.path / "environment.json", environment)

    def log(self, event: str, **fields: JsonValue) -> None:
        """Append one event, on a line of its own also where a crash cut the last one off."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        with storage(self.path), (self.path / "events.jsonl").open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            cut = file.read(1) not in (b"", b"\n")
            file.write(f"{chr(10) if cut else ''}{line}\n".encode())

    def events(self) -> list[dict[str, Any]]:
        """All events so far; a line cut off by a crash is left out."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return []
        events = []
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # only a crash in the middle of a write leaves such a line
        return events

    def write_rows(self, name: str, rows: Sequence[EvalRow]) -> None:
        """Write predictions/<name>.jsonl."""
        # ASCII: a model may say lone surrogates and every kind of line separator.
        lines = (json.dumps(asdict(row)) for row in rows)
        write_text(self.path / "predictions" / f"{name}.jsonl", "".join(line + "\n" for line in lines))

    def read_rows(self, name: str) -> tuple[EvalRow, ...]:
        """Read predictions/<name>.jsonl; () where there is none.

        Raises:
            DataError: where the file is not whole.
        """
        path = self.path / "predictions" / f"{name}.jsonl"
        if not path.exists():
            return ()
        rows = []
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            try:
                rows += [row_from_json(json.loads(line))] if line else []
            except (json.JSONDecodeError, TypeError, KeyError) as error:
                raise DataError(
                    Problem(where=f"{path}:{number}", found=f"not a whole row: {error}", remedy=DO_AGAIN)
                ) from None
        return tuple(rows)

    def finish(self, result: RunResult) -> None:
        """Write the result, which marks the run as done, and drop the checkpoint."""
        write_json(self.path / "result.json", asdict(result))
        shutil.rmtree(self.path / "checkpoint", ignore_errors=True)

    def result(self) -> RunResult:
        """The result of a finished run.

        Raises:
            DataError: where result.json is not what `finish` writes.
        """
        return read_record(self.path / "result.json", _result)


class StudyFolder:
    """The folder of one study: its files and its runs.

    `more`: folders whose runs count as its own, for a report of several.
    """

    def __init__(self, path: Path, more: Sequence[Path] = ()) -> None:
        self.path = path
        self.more = more

    def run(self, spec: RunSpec) -> Run:
        """The run of this spec, finished or not yet begun."""
        return Run(self.path / "runs" / spec.id, spec)

    def runs(self) -> list[Run]:
        """All runs whose folder is there, by name.

        Raises:
            DataError: where a run.json is not what `Run.start` writes.
        """
        found = {p.parent.name: p for f in (*self.more, self.path) for p in (f / "runs").glob("*/run.json")}
        paths = [found[name] for name in sorted(found)]
        return [Run(path.parent, read_record(path, lambda raw: RunSpec(**raw))) for path in paths]

    def write(self, name: str, value: object) -> None:
        """Write a JSON file of the study."""
        write_json(self.path / name, value)

    def read(self, name: str) -> Any:  # noqa: ANN401  (JSON)
        """Read a JSON file of the study; None where there is none.

        Raises:
            DataError: where the file is not JSON.
        """
        path = self.path / name
        return read_record(path, lambda raw: raw) if path.exists() else None


def read_record(path: Path, make: Callable[[Any], T]) -> T:
    """Read a JSON file and make a record of what it holds.

    Raises:
        DataError: where the file is not JSON, or not such a record.
    """
    again = "delete it and run the study again"
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        problem = Problem(where=f"{path}:{error.lineno}", found=f"not JSON: {error.msg}", remedy=again)
    except UnicodeDecodeError:
        problem = Problem(where=str(path), found="not UTF-8", remedy=again)
    except (AttributeError, KeyError, TypeError) as error:
        found = f"not written by this version of tenbin: {error}"
        problem = Problem(where=str(path), found=found, remedy=again)
    raise DataError(problem) from None


def write_json(path: Path, value: object) -> None:
    """Write JSON (no NaN; ASCII, as texts may hold lone surrogates) atomically."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves either the old or the new one, whole.

    Raises:
        StorageError: where the disk is full or the folder cannot be written.
    """
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a study folder to this process; a lock that ends with the process, however it ends.

    Raises:
        StorageError: where another process works in the folder.
    """
    with storage(folder):
        descriptor = os.open(folder, os.O_RDONLY)  # the folder itself: no file to leave behind
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(
                Problem(
                    where=str(folder),
                    found="another `tenbin run` works in this study folder",
                    remedy="wait until it ends, or give the study another name",
                )
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk or a folder without permission into a StorageError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageError(
            Problem(
                where=str(path),
                found=error.strerror or str(error),
                remedy="free some space and run the same command again; the last checkpoint is whole"
                if full
                else "name a folder that can be written",
            )
        ) from error


def _result(raw: dict[str, Any]) -> RunResult:
    epochs = tuple(
        EpochRecord(**{**e, "validation": evaluation_from_json(e["validation"]) if e["validation"] else None})
        for e in raw["epochs"]
    )
    results = {split: evaluation_from_json(value) for split, value in raw["results"].items()}
    read = {"spec": RunSpec(**raw["spec"]), "epochs": epochs, "results": results}
    hosted = HostedUse(**raw["hosted"]) if raw.get("hosted") else None
    return RunResult(**{**raw, **read, "hosted": hosted})
