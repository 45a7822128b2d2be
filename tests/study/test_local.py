"""A local model of a study with its frozen weights in fewer bits, and what the record says of the plan."""

import json

import pytest
import torch
from tests.study.studies import run, write_study

import tenbin
from tenbin.decoder import base_types
from tenbin.decoder.block import Keep
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.frozen import PackedLinear
from tenbin.decoder.reader import Reader
from tenbin.device import Device
from tenbin.errors import BudgetError, MissingExtra
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


def out_of_memory(monkeypatch, fails):
    """Where a pass of these (adapters in use, tokens) does not fit; returns whether one did not."""
    losses, failed = Decoder.losses, []

    def limited(decoder, batch, *args, **kwargs):
        found = losses(decoder, batch, *args, **kwargs)
        if fails(len(decoder.names), batch.num_tokens):
            failed.append(batch.num_tokens)
            raise torch.OutOfMemoryError("made up")
        return found

    monkeypatch.setattr(Decoder, "losses", limited)
    return failed


def memory_notes(run):
    lines = (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [e["retried_with"] for e in map(json.loads, lines) if e["event"] == "memory"]


def test_runs_that_do_not_fit_at_once_are_trained_one_after_another(tmp_path, monkeypatch):
    """Nor does the longest example with two adapters: it is said once, and the answers are the same."""
    rates = {"learning_rates": [1e-4, 0.3], "epochs": 1}
    alone, _ = run(write_study(tmp_path / "alone", training={**rates, "at_once": 1}))
    failed = out_of_memory(monkeypatch, lambda adapters, tokens: adapters > 1)
    path = write_study(tmp_path / "together", training={**rates, "at_once": 2})
    together, screen = run(path)
    assert failed
    said = [text for text in screen if "one run after another" in text]
    assert len(said) == 1
    for one, other in zip(runs_of(alone), runs_of(together), strict=True):
        assert answers(one) == answers(other)
        notes = memory_notes(other)
        assert len(notes) == len(set(notes))
        assert notes[-1:] == (["one run after another"] if one.spec.kind == "train" else [])


def test_a_run_that_does_not_fit_by_itself_ends_with_what_to_change(tmp_path, monkeypatch):
    out_of_memory(monkeypatch, lambda adapters, tokens: adapters > 0)
    path = write_study(tmp_path, training={"learning_rates": [1e-4, 0.3], "epochs": 1, "at_once": 2})
    with pytest.raises(BudgetError, match="does not fit the device"):
        run_study(path, offline=True, screen=SilentScreen())


def test_what_ran_out_of_memory_is_said_once_on_the_screen(tmp_path, monkeypatch):
    failed = out_of_memory(monkeypatch, lambda adapters, tokens: adapters and tokens > 200)
    result, screen = run(write_study(tmp_path))
    assert failed
    said = [text for text in screen if "out of memory; micro-batches of at most" in text]
    assert len(said) == len(set(said)) == len(failed)
    (tuned,) = [one for one in runs_of(result) if one.spec.kind == "train"]
    assert len(memory_notes(tuned)) == len(failed)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The result of a study with all the memory it wants."""
    return run(write_study(tmp_path_factory.mktemp("undisturbed")))[0]


def test_validations_that_run_out_of_memory_answer_the_same(tmp_path, monkeypatch, undisturbed):
    """After an epoch of training, in the same process: in smaller passes, and it is said."""
    read = Reader.read

    def limited(reader, pieces):
        if sum(len(piece.ids) for piece in pieces) > 60:
            raise torch.OutOfMemoryError("made up")
        return read(reader, pieces)

    monkeypatch.setattr(Reader, "read", limited)
    short, _ = run(write_study(tmp_path))
    for one, other in zip(runs_of(undisturbed), runs_of(short), strict=True):
        assert answers(one) == answers(other)
        assert one.result().best_epoch == other.result().best_epoch
        assert memory_notes(other)
        assert not memory_notes(one)


@pytest.mark.parametrize("held_mib", [600.0, 9000.0])
def test_a_plan_that_was_wrong_changes_what_is_kept_and_no_answer(
    tmp_path, monkeypatch, undisturbed, held_mib
):
    """The cap is 4,000 MiB: what was held at first is far less than planned, or more than twice the cap."""
    monkeypatch.setattr("tenbin.study.local.find_device", lambda: FakeGpu(held_mib))
    kept, losses = set(), Decoder.losses

    def watched(decoder, *args, **kwargs):
        kept.add(kwargs.get("keep") and max(kwargs["keep"]))
        return losses(decoder, *args, **kwargs)

    monkeypatch.setattr(Decoder, "losses", watched)
    probed, _ = run(write_study(tmp_path))
    for one, other in zip(runs_of(undisturbed), runs_of(probed), strict=True):
        assert answers(one) == answers(other)
    (tuned,) = [r for r in probed.results if r.spec.kind == "train"]
    assert tuned.probe["measured_mib"] == held_mib
    if held_mib > 4000:
        assert "2 keep in the computer's memory" in tuned.probe["after"]
        assert kept == {Keep.ALL, Keep.HOST}  # what was measured, and all that came after
    else:
        assert kept == {Keep.ALL}


def runs_of(result):
    return sorted(StudyFolder(result.folder).runs(), key=lambda run: run.path.name)


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
    result, screen = run(write_study(tmp_path))
    (tuned,) = [r for r in result.results if r.spec.kind == "train"]
    folder = tmp_path / "results" / "runs" / tuned.spec.id
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    (event,) = [e for e in events if e["event"] == "probe"]
    kinds = [e["event"] for e in events]
    assert kinds.index("probe") < kinds.index("step")
    assert event["measured_mib"] == 1500
    assert tuned.probe == {k: v for k, v in event.items() if k not in ("time", "event")}
    assert tuned.probe["planned_mib"] == 1500
    (said,) = [text for text in screen if "a measured pass holds 1,500 MiB, planned were" in text]
    assert said.startswith("tiny: ")
    assert said.endswith(tuned.probe["after"])
    assert "Planned for training" in result.report.read_text(encoding="utf-8")
