"""Files of models and adapters: hashes, folders that appear whole or not at all, errors of the disk."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tenbin.errors import ModelError, Problem, StorageError

_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


def sha256_file(path: Path) -> str:
    """SHA-256 of a whole file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_folder(folder: Path) -> str:
    """First 16 hex digits of a SHA-256 over a model folder's config, tokenizer and weights.

    Small files count whole; a weight file counts by its size and 64 blocks spread evenly over it, so that
    tens of gigabytes take less than a second. Fine-tuning changes nearly every block.
    """
    digest = hashlib.sha256()
    kept = (".json", ".safetensors", ".model", ".txt", ".jinja")
    for path in sorted(p for p in folder.iterdir() if p.suffix in kept and p.name != "tenbin.json"):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if path.suffix != ".safetensors" or size <= _SAMPLES * _SAMPLE_BYTES:
                digest.update(file.read())
                continue
            for index in range(_SAMPLES):
                file.seek(index * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def free_bytes(folder: Path) -> int:
    """Bytes that are free where the folder is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def storage_error(path: Path, error: Exception) -> StorageError:
    """What the disk's error means for the user."""
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    return StorageError(
        Problem(
            where=str(path),
            found="the disk is full" if full else f"it cannot be written: {error}",
            remedy="free some space or choose another place"
            if full
            else "check the folder and its permissions",
        )
    )


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when all went well, and is removed when not.

    Raises:
        StorageError: the disk is full or the place cannot be written.
    """
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(
            0o777 & ~umask
        )  # mkdtemp and safetensors keep others out; a model is as open as any file
        yield partial
        for path in partial.iterdir():
            path.chmod(0o666 & ~umask)
        if folder.exists():
            old = partial.with_name(partial.name + "-old")
            folder.rename(old)
            partial.rename(folder)
            shutil.rmtree(old)
        else:
            partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise storage_error(folder, error) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelError: no such file, not JSON or not an object; `remedy` says what to do then.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(Problem(where=str(path), found="there is no such file", remedy=remedy)) from None
    except (OSError, ValueError) as error:
        raise ModelError(
            Problem(where=str(path), found=f"it cannot be read: {error}", remedy=remedy)
        ) from error
    if not isinstance(value, dict):
        raise ModelError(Problem(where=str(path), found="it does not hold a JSON object", remedy=remedy))
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON object, as people read it."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
