"""The training bench as on a GPU: what a measured pass finds is spent in the steps, and told."""

from dataclasses import replace

import pytest
import torch

from tenbin import bench as bench_module
from tenbin.bench import TrainBench
from tenbin.bench_sizes import model_sizes
from tenbin.bench_works import rows
from tenbin.decoder.decoder import Decoder
from tenbin.device import Device
from tenbin.errors import BudgetError
from tenbin.memory import ALL, ATTENTION, INPUT, LEVEL_NAMES, MIB, plan_training
from tenbin.models.shape import ModelShape
from tenbin.train.engine import begin_within
from tenbin.train.probe import probe

CPU = Device("cpu", "a processor", None)
WORK = rows("4x64", 512)
TOKENS = 256
SHAPE = ModelShape.read(model_sizes("tiny"))
NEW = ("predicted_mib", "probed_mib", "probed_kept", "corrected_mib")


def planned(cap_bytes, *, tokens=TOKENS, gpu=True):
    return plan_training(
        SHAPE, rank=16, most_tokens=tokens, dtype_bytes=2, cap_bytes=cap_bytes, decode_tokens=0, gpu=gpu
    )


def counts(*levels):
    return "/".join(str(levels.count(level)) for level in range(len(LEVEL_NAMES)))


EVERYTHING = planned(2**50).total_bytes
TIGHT = EVERYTHING - 64 * 1024
"""A cap under which the two blocks cannot keep everything."""
SOME = counts(*planned(TIGHT).levels.choose(TOKENS))


class FakeGpu:
    """A GPU whose tensors lie on the CPU. It holds what the plan says of the room, wrong by so much."""

    kind, name, torch = "cuda", "made up", torch.device("cpu")

    def __init__(self, wrong_mib):
        self.wrong_mib = wrong_mib
        self.said = []
        """What was asked of it and done with it, in order."""

    def matrix_rate(self, dtype):
        return 1e12

    def warm_rate(self):
        return 1e12

    def host_room(self, host_mib):
        return 0

    def reset_peak(self):
        self.said.append("reset")

    def peak_mib(self):
        held = replace(self.plan, levels=self.room.levels).training_bytes(self.room.largest)
        return held / MIB + self.wrong_mib


@pytest.fixture
def measured(monkeypatch):
    """(wrong by, cap, what `measure` takes) -> (its line, the device): all of it real but the GPU."""

    def of(wrong_mib=0.0, cap_bytes=TIGHT, work=WORK, base="same", **options):
        device = FakeGpu(wrong_mib)
        built = device.built = TrainBench.build("tiny", device, base=base, cap_bytes=cap_bytes)

        def probed(decoder, jobs, examples, room, plan, meter):
            device.said.append("probe")
            device.plan, device.room = plan, room
            return probe(decoder, jobs, examples, room, plan, meter)

        def begun(decoder, jobs, examples, room, on_shortage):
            device.said.append("step")
            if "probe" not in device.said:
                device.plan, device.room = planned(cap_bytes), room
            return begin_within(decoder, jobs, examples, room, on_shortage)

        monkeypatch.setattr(bench_module, "probe", probed)
        monkeypatch.setattr(bench_module, "begin_within", begun)
        return built.measure(work, steps=3, **options), device

    return of


def failing(monkeypatch, times):
    """Passes run out of memory, by their number from 1."""
    tried = []
    losses = Decoder.losses

    def scarce(*args, **options):
        tried.append(0)
        if len(tried) in times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB")
        return losses(*args, **options)

    monkeypatch.setattr(Decoder, "losses", scarce)
    return tried


def test_what_the_plan_counted_too_much_is_spent_in_the_steps(measured):
    line, device = measured(wrong_mib=-50)
    assert counts(ALL, ALL) != SOME
    assert line["probed_kept"] == SOME
    assert line["kept"] == counts(ALL, ALL)
    assert line["planned_mib"] == round(TIGHT / MIB)  # as much as the cap has, before the measurement
    assert line["predicted_mib"] - line["probed_mib"] == 50
    assert line["corrected_mib"] == line["peak_mib"] == round(EVERYTHING / MIB) - 50
    assert device.said.count("probe") == 1
    assert line["loss"] > 0


def test_what_it_counted_too_little_is_given_up(measured):
    """The cap holds everything by the plan."""
    line, _ = measured(wrong_mib=0.08, cap_bytes=EVERYTHING)
    assert line["probed_kept"] == counts(ALL, ALL)
    assert line["kept"] != counts(ALL, ALL)
    assert line["corrected_mib"] == line["peak_mib"]
    assert "note" not in line


def test_a_plan_that_is_right_stays(measured):
    line, _ = measured()
    assert line["kept"] == line["probed_kept"] == SOME
    assert line["predicted_mib"] == line["probed_mib"] == line["corrected_mib"] == line["peak_mib"]


def test_the_steps_come_after_the_measurement_and_the_peak_is_theirs(measured):
    _, device = measured(wrong_mib=-50)
    first = device.said.index("step")
    assert "probe" in device.said[:first]
    assert device.said[first - 1] == "reset"
    assert device.said[first:] == ["step"] * 3


def test_levels_that_are_asked_for_are_measured_as_they_are(measured):
    line, device = measured(wrong_mib=-50, levels=[INPUT, ATTENTION])
    assert "probe" not in device.said
    assert line["kept"] == counts(INPUT, ATTENTION)
    assert [line[key] for key in NEW] == [None] * len(NEW)
    fixed = replace(planned(TIGHT).levels, fixed=(INPUT, ATTENTION))
    assert line["planned_mib"] == round(replace(planned(TIGHT), levels=fixed).training_bytes(TOKENS) / MIB)
    assert line["turned"] is False


def test_without_a_cap_nothing_is_probed(measured):
    line, device = measured(cap_bytes=None)
    assert "probe" not in device.said
    assert line["kept"] == counts(ALL, ALL)
    assert [line[key] for key in NEW] == [None] * len(NEW)


def test_on_a_cpu_nothing_is_probed(monkeypatch):
    monkeypatch.setattr(bench_module, "probe", None)
    built = TrainBench.build("tiny", CPU, base="same", cap_bytes=None)
    line = built.measure(WORK, steps=3)
    assert [line[key] for key in NEW] == [None] * len(NEW)
    assert line["planned_mib"] == round(planned(None, gpu=False).total_bytes / MIB)
    assert (line["kept"], line["turned"]) == (counts(ALL, ALL), False)
    assert (line["driver_mib"], line["allocated_mib"]) == (0, None)


def test_several_adapters_are_probed_together(measured):
    line, device = measured(cap_bytes=2**50, adapters=3)
    assert device.room.largest == 3 * TOKENS
    assert line["adapters"] == 3
    assert line["predicted_mib"] == line["planned_mib"]


def test_what_a_measured_pass_has_no_memory_for_is_noted(measured, monkeypatch):
    failing(monkeypatch, {1})
    line, device = measured(wrong_mib=-50, cap_bytes=2**50)
    assert line["note"].startswith("out of memory; ")
    assert device.said.index("probe") < device.said.index("step")
    assert line["examples_per_s"] > 0


def test_what_a_step_has_no_memory_for_is_noted_and_the_step_done_again(measured, monkeypatch):
    """The fourth pass: after one of the plan's levels, one of more, and the first step's."""
    tried = failing(monkeypatch, {4})
    line, _ = measured(wrong_mib=-50)
    assert len(tried) > 4 + 1  # again, and the third step
    assert line["note"].startswith("out of memory; ")
    assert line["loss"] > 0


def test_what_never_fits_is_refused(measured, monkeypatch):
    failing(monkeypatch, set(range(1, 10_000)))
    with pytest.raises(BudgetError, match="does not fit the device"):
        measured()


def test_the_next_work_finds_the_model_as_it_was(measured):
    first, device = measured(wrong_mib=-50)
    tensors = list(device.built.model.state_dict())
    assert device.built.decoder.users == ()
    second = device.built.measure(WORK, steps=3)
    assert list(device.built.model.state_dict()) == tensors
    assert not any("a0" in name for name in tensors)
    keys = ("loss", "kept", *NEW)
    assert [first[key] for key in keys] == [second[key] for key in keys]


def test_fewer_bits_too(measured):
    line, _ = measured(base="fp8", cap_bytes=2**40)
    assert line["turned"] is True
    assert line["dtype"] == "fp8"
    assert line["corrected_mib"] == line["probed_mib"]
