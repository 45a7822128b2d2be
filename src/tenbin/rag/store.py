"""RagFolder: answers and results of one kind of questioning in a study's folder, one folder a run.

<study>/rag/
  current.json              which questioning the report shows: the latest one
  <digest>/settings.json    what determines the questions
  <digest>/<run id>/answers.jsonl   one RagRow a line, written as they come
  <digest>/<run id>/result.json     RagResult; written last
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tenbin.rag.result import RagResult, RagRow, result_from_json
from tenbin.runs import StudyFolder, read_record, storage, write_json
from tenbin.types import JsonValue

FOLDER = "rag"


class RagFolder:
    """One questioning: its settings name it, so that other settings never mix with it."""

    def __init__(self, study: StudyFolder, settings: Mapping[str, JsonValue]) -> None:
        canonical = json.dumps(settings, sort_keys=True, ensure_ascii=False)
        self.digest = hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()[:8]
        self.path = study.path / FOLDER / self.digest
        self.settings = settings

    def start(self) -> None:
        """Make the folder and make it the current one."""
        with storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "settings.json", self.settings)
        write_json(self.path.parent / "current.json", {"digest": self.digest})

    def rows(self, run_id: str) -> dict[str, RagRow]:
        """The answers of a run that are there, by key; a line that a crash cut off is left out.

        Errors are not answers: they are asked again.
        """
        path = self.path / run_id / "answers.jsonl"
        if not path.exists():
            return {}
        found = {}
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                row = RagRow(**json.loads(line))
            except (ValueError, TypeError):
                continue
            if row.error is None:
                found[row.key] = row
        return found

    def keep(self, run_id: str, row: RagRow) -> None:
        """Append one answer, on a line of its own also where a crash cut the last one off."""
        path = self.path / run_id / "answers.jsonl"
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(asdict(row))}")

    def finish(self, run_id: str, result: RagResult) -> None:
        """Write the result of a run."""
        write_json(self.path / run_id / "result.json", result.to_json())

    def result(self, run_id: str) -> RagResult | None:
        """The result of a run; None where it is not finished.

        Raises:
            DataError: where the file is not what `finish` writes.
        """
        return _read(self.path / run_id)


def current_results(study: StudyFolder) -> dict[str, RagResult]:
    """Run id -> result, of the latest questioning; empty where there was none.

    Raises:
        DataError: where a file is not what `RagFolder` writes.
    """
    path = study.path / FOLDER / "current.json"
    if not path.exists():
        return {}
    digest = read_record(path, lambda raw: str(raw["digest"]))
    folders = sorted(path.parent.joinpath(digest).glob("*/result.json"))
    found = {folder.parent.name: _read(folder.parent) for folder in folders}
    return {run_id: result for run_id, result in found.items() if result is not None}


def _read(folder: Path) -> RagResult | None:
    path = folder / "result.json"
    return read_record(path, result_from_json) if path.exists() else None
