"""Checkpoints: whatever the writing is cut off by, a whole one is there."""

from pathlib import Path

import pytest
import torch

from tenbin.train.checkpoint import read_checkpoint, write_checkpoint


def write(folder, step, value):
    write_checkpoint(folder, step, {"x": torch.tensor([float(value)])}, {"value": value})


def read(folder):
    found = read_checkpoint(folder)
    assert found.tensors["x"].tolist() == [found.state["value"]]
    return found.state["value"]


class Killed(BaseException):
    """As a process that is gone: nothing catches it."""


@pytest.mark.parametrize("step", [3, 4])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_checkpoint_of_the_same_step_or_the_next_replaces_one_that_stays_till_then(
    tmp_path, monkeypatch, step, at
):
    """Ctrl-C right after an epoch saves its last step twice; the process may be gone before any renaming."""
    write(tmp_path, 3, 1)
    left, rename = [at], Path.rename

    def renaming(path, target):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renaming)
    needed = 2 if step == 3 else 1
    if at < needed:
        with pytest.raises(Killed):
            write(tmp_path, step, 2)
        assert read(tmp_path) == 1
    else:
        write(tmp_path, step, 2)
        assert read(tmp_path) == 2
    left[0] = 10
    write(tmp_path, step, 3)
    assert read(tmp_path) == 3
    assert [path.name for path in tmp_path.iterdir()] == [f"step-{step:07d}"]
