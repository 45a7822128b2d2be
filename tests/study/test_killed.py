"""A study that was stopped and killed over and over, and repeated, equals one that was left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.study.studies import reviews, run, write_study

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tenbin.cli", "run", "study.toml", "--offline"]

# Children of one process, which has loaded torch already; each one is killed at its moment.
KILLED = """
import os, signal, sys
from pathlib import Path
import tenbin.cli
import tenbin.models.adapters as adapters
import tenbin.study.candidate as candidate
import tenbin.train.engine as engine
from tenbin.runs import Run

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dies(owner, name, when, after=False):
    inner = getattr(owner, name)
    def wrapped(*args, **kwargs):
        if not after and when(*args, **kwargs):
            die()
        found = inner(*args, **kwargs)
        if after and when(*args, **kwargs):
            die()
        return found
    setattr(owner, name, wrapped)

MOMENTS = [
    # when the best epoch's adapter is half written: its weights are there, its settings are not
    lambda: dies(adapters, "write_json", lambda path, value: path.name == "adapter_config.json"),
    # when the epoch's answers are there, not yet written
    lambda: dies(Run, "write_rows", lambda run, name, rows: name == "validation-epoch-02"),
    # when the epoch is done, its checkpoint is not yet written
    lambda: dies(Run, "log", lambda run, event, **fields: event == "epoch" and fields["epoch"] == 3, True),
    # in the middle of an answer of the last evaluation
    lambda: dies(candidate.LocalGenerator, "_completion", lambda *args: "test" in stage),
    # when all is there but result.json
    lambda: dies(Run, "finish", lambda run, result: result.spec.kind == "train"),
]
stage = []
report = candidate.Candidate._report
candidate.Candidate._report = lambda *args: (stage.append("test"), report(*args))[1]
sys.argv = ["tenbin", "run", "study.toml", "--offline"]
for number, arm in enumerate(MOMENTS):
    child = os.fork()
    if child == 0:
        arm()
        tenbin.cli.main()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (number, status)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The result of a study that nobody disturbed."""
    return run(study(tmp_path_factory.mktemp("alone")))[0].folder


def study(folder):
    return write_study(
        folder,
        rows=reviews(120),
        lora={"dropout": 0.1},
        training={"epochs": 3, "batch_size": 2, "checkpoint_every_s": 0.0, "learning_rates": [0.02]},
    )


def outcome(folder):
    """Everything that must be the same; times and memory are not."""
    found = {}
    for path in sorted((folder / "runs").rglob("*")):
        name = str(path.relative_to(folder))
        if (path.suffix == ".jsonl" and path.parent.name == "predictions") or path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        elif path.name in ("run.json", "adapter_config.json", "tenbin.json"):
            found[name] = json.loads(path.read_text())
        elif path.name == "result.json":
            result = json.loads(path.read_text())
            for key in ("train_s", "evaluate_s", "peak_mib"):
                result.pop(key)
            for epoch in result["epochs"]:
                epoch.pop("seconds")
            found[name] = result
    return found


def begin(folder):
    return subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_steps(folder, process, num):
    """Until the training has logged so many steps more than it had."""
    (seen,) = logged(folder) or (0,)
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        (now,) = logged(folder) or (0,)
        if now >= seen + num:
            return
        time.sleep(0.002)
    raise AssertionError(f"no {num} steps came: {process.communicate()}")


def logged(folder):
    return [
        p.read_bytes().count(b'"event": "step"') for p in (folder / "results/runs").glob("*lr*/events.jsonl")
    ]


@pytest.mark.slow
def test_stopped_and_killed_and_repeated_equals_left_alone(tmp_path, alone):
    study(tmp_path)
    process = begin(tmp_path)
    wait_for_steps(tmp_path, process, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped at step" in err
    assert "the checkpoint is saved" in err
    assert "Run the same command again to go on." in err
    assert "Traceback" not in err
    assert len(list((tmp_path / "results/runs").glob("*lr*/checkpoint/step-*"))) == 1

    process = begin(tmp_path)
    wait_for_steps(tmp_path, process, 2)
    process.kill()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL

    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "results/runs").glob("*lr*/result.json"))

    done = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 runs are done already" in done.stdout
    ours, theirs = outcome(tmp_path / "results"), outcome(alone)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == value, name
    assert not list((tmp_path / "results").rglob(".*"))
    assert not list((tmp_path / "results").rglob("checkpoint"))
    (events,) = (tmp_path / "results/runs").glob("*lr*/events.jsonl")
    resumed = [e for line in events.read_text().splitlines() if (e := json.loads(line))["event"] == "resumed"]
    assert len(resumed) >= 6


def test_ctrl_c_after_the_last_step_is_not_lost(tmp_path, monkeypatch):
    from tenbin.errors import Interrupted
    from tenbin.study import candidate

    path = write_study(tmp_path, evaluation={"base_model": False})
    keep = candidate.Candidate._keep

    def pressed(self, run, name, epoch):
        keep(self, run, name, epoch)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(candidate.Candidate, "_keep", pressed)
        with pytest.raises(Interrupted, match="stopped at step 5 of 5"):
            run(path, **{"training.epochs": 1})
    result, lines = run(path, **{"training.epochs": 1})
    assert len(result.results) == 1
    assert not [line for line in lines if "done already" in line]
