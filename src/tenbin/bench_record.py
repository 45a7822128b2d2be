"""What every line of a bench says of its origin, and how it is added to a file."""

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tenbin.runs import storage

_DESCRIBE = ("--always", "--abbrev=40", "--exclude=*", "--dirty=+")


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Add one line to a file of JSON lines, flushed.

    Raises:
        StorageError: where the disk is full or the folder cannot be written.
    """
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def versions(*packages: str) -> dict[str, str | None]:
    """Of what decides the speed, and of these packages; None: not installed."""
    import torch  # not needed to add a line

    return {
        **{package: _version(package) for package in ("tenbin", "torch", "transformers", *packages)},
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def revision(file: Path = Path(__file__)) -> str:
    """Git's revision of the tree that holds a source file, with `+` where something in it was changed.

    The package's version where the file is in no git tree, or in one that does not know it.
    """
    call = ["git", "-C", str(file.parent)]
    try:
        for check in (["ls-files", "--error-unmatch", file.name], ["describe", *_DESCRIBE]):
            done = subprocess.run([*call, *check], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return _version("tenbin") or "unknown"
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
