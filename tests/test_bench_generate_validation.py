"""The share of validation: what is held out, and seconds of it over seconds of an epoch."""

import json

import pytest

from tenbin.bench import TrainBench
from tenbin.bench_generate import Answering
from tenbin.bench_generate_validation import NAME, Epoch, measure_validation
from tenbin.bench_generate_works import generate_work
from tenbin.device import Device
from tenbin.errors import DataError

CPU = Device("cpu", "a processor", None)
SIZE = {"vocabulary": 512, "gpu": False, "batch_size": 6}


@pytest.fixture
def lengths(tmp_path):
    path = tmp_path / "lengths.json"
    path.write_text(json.dumps([[20, [[5, 2], [6, 3], [4, 2]]]] * 8), encoding="utf-8")
    return path


def test_the_last_tenth_is_held_out(lengths):
    epoch = Epoch.make(lengths, **SIZE)
    whole = generate_work("jsquad", vocabulary=512, lengths=lengths)
    assert epoch.held_out.prompts == whole.prompts[-2:]
    assert (epoch.num_trained, epoch.held_out.name, epoch.training.batch_size) == (22, NAME, 6)
    assert len(epoch.training.examples) == 24
    few = Epoch.make(lengths, **SIZE, count=10)
    assert few.held_out.prompts == whole.prompts[9:10]
    assert few.num_trained == 9


def test_all_questions_beside_an_epoch_of_other_data(lengths):
    epoch = Epoch.make(lengths, **SIZE, num_trained=62_000)
    assert (len(epoch.held_out.prompts), epoch.num_trained) == (24, 62_000)


def test_too_few_questions_for_a_step(lengths):
    with pytest.raises(DataError, match="24 questions; a step takes 25"):
        Epoch.make(lengths, **(SIZE | {"batch_size": 25}))


def test_the_share_hangs_together(lengths):
    built = TrainBench.build("tiny", CPU, base="same", cap_bytes=None)
    epoch = Epoch.make(lengths, **SIZE, num_trained=500)
    found = measure_validation(built, epoch, Answering(runs=2, adapters=1), steps=3)
    assert (found["held_out"], found["epoch_examples"]) == (24, 500)
    assert found["epoch_s"] == pytest.approx(500 / found["train_examples_per_s"], abs=0.01)
    assert found["validation_s"] == pytest.approx(24 / found["examples_per_s"], rel=0.02)
    share = found["validation_s"] / (500 / found["train_examples_per_s"])
    assert found["validation_share"] == pytest.approx(share, rel=0.02, abs=1e-4)
    first = found["first_validation_s"] / (500 / found["train_examples_per_s"])
    assert found["first_validation_share"] == pytest.approx(first, rel=0.02, abs=1e-4)
    assert found["first_validation_s"] == found["warm_up_s"]
    assert len(found["run_seconds"]) == 2


def test_without_an_answer_there_is_no_share(lengths):
    built = TrainBench.build("tiny", CPU, base="same", cap_bytes=1)
    found = measure_validation(built, Epoch.make(lengths, **SIZE), Answering(runs=1), steps=3)
    assert found["validation_share"] is found["validation_s"] is None
    assert found["first_validation_share"] is found["first_validation_s"] is None
    assert found["train_examples_per_s"] > 0
    assert "the cache has room for 0" in found["reason"]
