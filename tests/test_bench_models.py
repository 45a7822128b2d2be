"""The models of a bench: one in memory at a time, what they are, and where their lines come from."""

import gc
import weakref

import pytest

from tenbin.bench import TrainBench
from tenbin.bench_models import (
    BASES,
    dtype_checks,
    each_model,
    origin,
    position_problems,
    problems_of,
    read_shapes,
)
from tenbin.bench_sizes import model_sizes
from tenbin.bench_works import rows
from tenbin.device import Device
from tenbin.models.shape import ModelShape

CPU = Device("cpu", "a processor", None)


def test_never_two_models_in_memory():
    built = []

    def lines(model, dtype, bench):
        gc.collect()
        assert [one() for one in built] == [None] * len(built)
        built.append(weakref.ref(bench.model))
        yield {"model": model, "dtype": dtype}
        yield {"model": model, "dtype": dtype}

    found = list(each_model(("tiny", "tiny-gpt2"), ("bf16", "fp8"), CPU, None, lines))
    assert [(line["model"], line["dtype"]) for line in found[::2]] == [
        ("tiny", "bf16"),
        ("tiny", "fp8"),
        ("tiny-gpt2", "bf16"),
        ("tiny-gpt2", "fp8"),
    ]


def test_a_mistake_while_building_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(*args, **options):
        raise ValueError("broken")

    monkeypatch.setattr(TrainBench, "build", broken)
    with pytest.raises(ValueError, match="broken"):
        list(each_model(("tiny",), ("bf16",), CPU, None, lambda *_: iter(())))


def test_a_cap_is_said_only_where_it_holds():
    assert origin(CPU, 46_000, "abc")["cap_mib"] is None
    said = origin(Device("cuda", "a GPU", 2**36), 46_000, "abc")
    assert (said["cap_mib"], said["gpu"], said["commit"]) == (46_000, "a GPU", "abc")


def test_shapes_of_the_known_and_problems_of_the_others(tmp_path):
    shapes, problems = read_shapes(("tiny", "8b", str(tmp_path)))
    assert list(shapes) == ["tiny"]
    assert len(problems) == 2


def test_positions():
    shape = ModelShape.read(model_sizes("tiny-gpt2"))
    assert position_problems("tiny-gpt2", shape, 4096) == []
    (problem,) = position_problems("tiny-gpt2", shape, 4097)
    assert "4097 tokens; tiny-gpt2 has 4096 positions" in problem.found


def test_a_type_whose_package_is_missing_is_refused_with_the_line_that_installs_it(monkeypatch):
    assert problems_of(dtype_checks(("bf16", "nf4"))) == []
    monkeypatch.setattr("tenbin.decoder.base_types.find_spec", lambda name: None)
    (problem,) = problems_of(dtype_checks(("bf16", "nf4")))
    assert problem.found == "nf4 needs bitsandbytes, which is not installed"
    assert problem.remedy == 'pip install "tenbin[nf4]"'


@pytest.mark.parametrize("model", ["tiny", "tiny-gpt2"])
def test_every_type_can_be_built(model):
    work = rows("2x16", 97)
    for base in BASES.values():
        found = TrainBench.build(model, CPU, base=base, cap_bytes=None).measure(work, steps=3)
        assert found["loss"] > 0
