"""What a line says of its origin."""

import json
import re
import subprocess
from importlib.metadata import version

import pytest

from tenbin.bench_record import append_line, revision, versions
from tenbin.errors import StorageError


def test_lines_are_added(tmp_path):
    path = tmp_path / "new" / "x.jsonl"
    for number in range(2):
        append_line(path, {"number": number, "name": "天秤"})
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 1]
    assert "天秤" in lines[0]


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "x").write_text("", encoding="utf-8")
    with pytest.raises(StorageError):
        append_line(tmp_path / "x" / "y.jsonl", {})


def test_versions():
    found = versions("numpy", "no-such-package")
    assert found["numpy"] == version("numpy")
    assert found["no-such-package"] is None
    assert {"tenbin", "torch", "transformers", "python", "cuda"} <= set(found)


def test_the_revision_is_that_of_the_tree_that_knows_the_file(tmp_path):
    file = tmp_path / "package" / "a.py"
    file.parent.mkdir()
    file.write_text("", encoding="utf-8")

    def git(*args):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *args], cwd=tmp_path, check=True, capture_output=True)

    assert revision(file) == version("tenbin"), "no tree"
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "x")
    assert revision(file) == version("tenbin"), "a tree that only lies around it"
    git("add", "package")
    git("commit", "-q", "-m", "x")
    clean = revision(file)
    assert re.fullmatch("[0-9a-f]{40}", clean)
    file.write_text("changed", encoding="utf-8")
    assert revision(file) == f"{clean}+"


def test_it_has_a_revision_here():
    assert revision()
