"""A `.gguf` file becomes, once, a safetensors folder in bf16 with a tokenizer, checked to be equal."""

import contextlib
import io
import struct
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tenbin.errors import ModelError, Problem, StorageError
from tenbin.models.files import atomic_folder, free_bytes, sha256_file, write_json
from tenbin.models.quiet import quiet
from tenbin.models.shape import ModelShape
from tenbin.models.tokenizer import PROBES, load_tokenizer

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2", "gemma3")
"""`general.architecture` of the files that are taken (Mistral's files say llama)."""
INFO = "tenbin.json"
CHECKED = 4
"""How many of PROBES are compared by their logits."""
_TOKENIZER_BYTES = 64 << 20
_WIDTH = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9

Say = Callable[[str], None]


def convert(path: Path, cache_dir: Path, progress: Say | None = None) -> Path:
    """The folder that a `.gguf` file was converted into; the second time it is there already.

    Args:
        path: a file of one of ARCHITECTURES.
        cache_dir: the folder is `models/<file's name>-<12 digits of its SHA-256>` in it.
        progress: called with one line before each stage.

    Raises:
        ModelError: not such a file, or the folder would not give the same logits and ids: nothing is kept.
        StorageError: no room.
    """
    say = progress or (lambda line: None)
    architecture = read_architecture(path)
    if architecture not in ARCHITECTURES:
        raise ModelError(
            Problem(
                where=str(path),
                field="general.architecture",
                found=f"{architecture!r} is not a model that tenbin knows",
                remedy=f"use a file of one of: {', '.join(ARCHITECTURES)}",
            )
        )
    say(f"hashing {path.name}")
    digest = sha256_file(path)
    folder = cache_dir / "models" / f"{path.stem}-{digest[:12]}"
    if (folder / INFO).exists():
        return folder
    say(f"reading {path.name} (once; the result is kept)")
    with _silent(), _one_reader():
        try:
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
            shape = ModelShape.read(config.to_dict())
            _check_room(folder, shape)
            model = _load(path, config)
            say("converting the tokenizer")
            tokenizer = _tokenizer(path, config)
        except (ValueError, KeyError, NotImplementedError, RuntimeError, ImportError) as error:
            raise ModelError(
                Problem(where=str(path), found=f"it cannot be converted: {error}", remedy="use another file")
            ) from error
    with atomic_folder(folder) as partial:
        say(f"writing {folder.name}")
        with _silent():
            _save(model, config, partial)
            tokenizer.save_pretrained(partial)
        say("checking that the logits are the same")
        _check(model, tokenizer, partial, path)
        write_json(
            partial / INFO,
            {
                "source": path.name,
                "sha256": digest,
                "dtype": "bfloat16",
                "num_params": shape.num_params(),
                "versions": {name: _version(name) for name in ("tenbin", "transformers", "gguf", "torch")},
            },
        )
    return folder


def read_architecture(path: Path) -> str:
    """`general.architecture` of a `.gguf` file, found without reading its vocabulary where possible.

    Source: the layout in ggml's docs/gguf.md, versions 2 and 3, little-endian.

    Raises:
        ModelError: not there, not a GGUF file, or cut short.
    """
    try:
        with path.open("rb") as file:
            magic, edition, _, count = struct.unpack("<4sIQQ", file.read(24))
            if magic != b"GGUF" or edition not in (2, 3):
                raise ValueError(f"it starts with {magic!r}, version {edition}")
            for _ in range(count):
                key = _text(file)
                (kind,) = struct.unpack("<I", file.read(4))
                if key == "general.architecture" and kind == _STRING:
                    return _text(file)
                _skip(file, kind)
        raise ValueError("it names no architecture")
    except FileNotFoundError:
        raise ModelError(
            Problem(where=str(path), found="there is no such file", remedy="check the path of the model")
        ) from None
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise ModelError(
            Problem(
                where=str(path),
                found=f"it is not a whole GGUF file: {error}",
                remedy="download the file again",
            )
        ) from error


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > 1 << 20:
        raise ValueError(f"a text of {length} bytes in its header")
    return file.read(length).decode("utf-8")


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        _text(file)
    elif kind == _ARRAY:
        inner, count = struct.unpack("<IQ", file.read(12))
        if inner in _WIDTH:
            file.seek(_WIDTH[inner] * count, 1)
        else:
            for _ in range(count):
                _skip(file, inner)
    else:
        file.seek(_WIDTH[kind], 1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None


def _check_room(folder: Path, shape: ModelShape) -> None:
    need = 2 * shape.num_params() + _TOKENIZER_BYTES
    free = free_bytes(folder)
    if free < need:
        raise StorageError(
            Problem(
                where=str(folder.parent),
                found=f"{free >> 20} MiB are free, the converted model needs {need >> 20} MiB",
                remedy="free some space or choose another cache folder",
            )
        )


def _load(path: Path, config: Any) -> Any:  # noqa: ANN401  (a model of transformers)
    """The model in bf16, every weight unpacked."""
    extra = {}
    if hasattr(transformers, "GgufConfig"):  # newer versions would keep the weights packed where they can
        extra["quantization_config"] = transformers.GgufConfig(dequantize=True)
    load: Any = AutoModelForCausalLM.from_pretrained
    model = load(path.parent, gguf_file=path.name, config=config, dtype=torch.bfloat16, **extra)
    return model.eval()


def _tokenizer(path: Path, config: Any) -> Any:  # noqa: ANN401
    """As AutoTokenizer converts it, which would read the whole file only to find the class."""
    kind = transformers.TOKENIZER_MAPPING.get(type(config), None)
    classes = [c for c in (kind if isinstance(kind, tuple) else (kind,)) if c is not None]
    tokenizer_class = classes[-1] if classes else AutoTokenizer
    return tokenizer_class.from_pretrained(path.parent, gguf_file=path.name)


def _save(model: Any, config: Any, folder: Path) -> None:  # noqa: ANN401
    """Write the weights through a fresh model: one that came from GGUF refuses to be saved."""
    plain = {key: value for key, value in config.to_dict().items() if key != "quantization_config"}
    with torch.device("meta"):
        build: Any = AutoModelForCausalLM.from_config
        fresh = build(type(config).from_dict(plain), dtype=torch.bfloat16)
    fresh.load_state_dict(model.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.save_pretrained(folder)


@torch.no_grad()
def _check(model: Any, tokenizer: Any, folder: Path, path: Path) -> None:  # noqa: ANN401
    """Refuse the folder unless it gives the same ids and, to the bit, the same logits."""
    found = None
    with _silent():
        saved_tokenizer = load_tokenizer(folder)
        load: Any = AutoModelForCausalLM.from_pretrained
        saved = load(folder, dtype=torch.bfloat16, local_files_only=True).eval()
    for index, text in enumerate(PROBES):
        ids = tokenizer(text)["input_ids"]
        if saved_tokenizer(text)["input_ids"] != ids:
            found = f"the saved tokenizer gives other ids for {text!r}"
        elif index < CHECKED:
            row = torch.tensor([ids])
            if not torch.equal(model(row).logits, saved(row).logits):
                found = f"the saved model gives other logits for {text!r}"
    if found is not None:
        raise ModelError(
            Problem(
                where=str(path),
                found=f"{found} (transformers {transformers.__version__})",
                remedy="pip install -U transformers (5.23 converts it rightly), or use a safetensors model;"
                " nothing of this one was kept",
            )
        )


@contextlib.contextmanager
def _one_reader() -> Iterator[None]:
    """Let transformers parse a file once: it does so for config and weights anew, 10 s each for Gemma."""
    module: Any = gguf
    original = module.GGUFReader
    readers: dict[str, Any] = {}

    def reader(path: Any, *args: Any) -> Any:  # noqa: ANN401
        if str(path) not in readers:
            readers[str(path)] = original(path, *args)
        return readers[str(path)]

    module.GGUFReader = reader
    try:
        yield
    finally:
        module.GGUFReader = original


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """As quiet(), and no bar of the conversion either, which no setting turns off."""
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        yield
