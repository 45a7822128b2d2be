"""A local model of a study with its frozen weights in fewer bits, and what the record says of the plan."""

import json

import pytest
import torch
from tests.study.studies import run, write_study

import tenbin
from tenbin.decoder import base_types
from tenbin.decoder.frozen import PackedLinear
from tenbin.device import Device
from tenbin.errors import MissingExtra
from tenbin.memory import MIB
from tenbin.models.lora import LoraLinear
from tenbin.runs import StudyFolder
from tenbin.study.candidate import Candidate
from tenbin.study.run import plan_file, run_study
from tenbin.study.screen import SilentScreen


def test_a_study_in_4_bits(tmp_path, monkeypatch):
    """Base model and adapter are evaluated in 4 bits; the runs are others than those of the plain model."""
    bases = []
    evaluate = Candidate._evaluate

    def watched(candidate, *args, **kwargs):
        maps = [m for m in candidate.loaded.model.modules() if isinstance(m, LoraLinear)]
        bases.append({type(m.base) for m in maps})
        return evaluate(candidate, *args, **kwargs)

    monkeypatch.setattr(Candidate, "_evaluate", watched)
    path = write_study(tmp_path, training={"base_dtype": "nf4"})
    result = run_study(path, offline=True, screen=SilentScreen())
    assert bases
    assert all(kinds == {PackedLinear} for kinds in bases)
    assert [r.spec.kind for r in result.results] == ["eval", "train"]
    assert all(r.spec.settings["base_dtype"] == "nf4" for r in result.results)
    assert all(r.probe is None for r in result.results)  # nothing is capped on a CPU
    plain = run_study(write_study(tmp_path), offline=True, screen=SilentScreen())
    assert not {r.spec.id for r in plain.results} & {r.spec.id for r in result.results}


def test_each_of_several_runs_is_evaluated_with_its_own_adapter(tmp_path):
    """They are trained at once and then asked one after another, by the same decoder."""
    rates = {"learning_rates": [1e-4, 0.3], "epochs": 1, "at_once": 2}
    path = write_study(tmp_path, training=rates, evaluation={"base_model": False})
    result = run_study(path, offline=True, screen=SilentScreen())
    runs = sorted(StudyFolder(result.folder).runs(), key=lambda run: run.path.name)
    for found in runs:
        adapter = found.path / "adapter"
        alone = tenbin.evaluate(str(path), adapter=adapter, name="tiny", offline=True).runs[0]
        assert answers(found) == answers(alone)
    assert answers(runs[0]) != answers(runs[1])


def answers(run):
    lines = (run.path / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["completion"] for line in lines]


def test_a_missing_package_is_found_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(base_types, "find_spec", lambda name: None)
    path = write_study(tmp_path, training={"base_dtype": "nf4"})
    with pytest.raises(MissingExtra, match=r"tenbin\[nf4\]"):
        run_study(path, offline=True, screen=SilentScreen())
    with pytest.raises(MissingExtra, match=r"tenbin\[nf4\]"):
        plan_file(path, offline=True)
    assert not (tmp_path / "results").exists()


def test_the_plan_counts_4_bits(tmp_path):
    (packed,) = plan_file(write_study(tmp_path, training={"base_dtype": "nf4"}), offline=True)
    (plain,) = plan_file(write_study(tmp_path), offline=True)
    assert packed.memory.terms["weights"] < plain.memory.terms["weights"]
    assert packed.memory.terms["working"] > plain.memory.terms["working"]


class FakeGpu:
    """A CPU that says it is a GPU and holds so much more than nothing."""

    def __init__(self, held_mib):
        self.real = Device("cpu", "made up", None)
        self.held_mib = held_mib

    kind, name, torch = "cuda", "made up", torch.device("cpu")

    def __getattr__(self, name):
        return getattr(self.real, name)

    def cap(self, vram_mib):
        return 4000 * MIB

    def reset_peak(self):
        pass

    def peak_mib(self):
        return self.held_mib

    def matrix_rate(self, dtype):
        return 1e12


def test_the_probe_is_in_the_events_the_result_and_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr("tenbin.study.local.find_device", lambda: FakeGpu(1500.0))
    result, _ = run(write_study(tmp_path))
    (tuned,) = [r for r in result.results if r.spec.kind == "train"]
    folder = tmp_path / "results" / "runs" / tuned.spec.id
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    (event,) = [e for e in events if e["event"] == "probe"]
    kinds = [e["event"] for e in events]
    assert kinds.index("probe") < kinds.index("step")
    assert event["measured_mib"] == 1500
    assert tuned.probe == {k: v for k, v in event.items() if k not in ("time", "event")}
    assert tuned.probe["planned_mib"] == 1500
    assert "Planned for training" in result.report.read_text(encoding="utf-8")
