"""A series of generation on this machine's CPU: a line for everything, all problems at once."""

import dataclasses
import json
from importlib.metadata import version

import pytest
import torch

from tenbin.bench import TrainBench
from tenbin.bench_generate import Answering
from tenbin.bench_generate_series import GenerateSeries, run_generation
from tenbin.device import Device
from tenbin.errors import ConfigError
from tenbin.generate.batching import BatchGenerator

CPU = Device("cpu", "a processor", None)
TINY = GenerateSeries(models=("tiny",), works=("4x16+3", "2x32+5"), how=Answering(runs=1))
NEEDED = {
    "bench",
    "system",
    "model",
    "work",
    "dtype",
    "examples_per_s",
    "tokens_per_s",
    "prompt_tokens_per_s",
    "peak_mib",
    "planned_mib",
    "roof_tflops",
    "gpu",
    "versions",
    "commit",
    "adapters",
    "cap_mib",
}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr("tenbin.bench_generate_series.find_device", lambda: CPU)


@pytest.fixture
def lengths(tmp_path):
    path = tmp_path / "lengths.json"
    path.write_text(json.dumps([[40, [[5, 2], [6, 2], [5, 2], [5, 2]]]] * 5), encoding="utf-8")
    return path


def with_(**changes):
    return dataclasses.replace(TINY, **changes)


def test_every_model_type_and_work_has_a_line():
    models, dtypes = ("tiny", "tiny-gpt2"), ("bf16", "fp8")
    lines = list(run_generation(with_(models=models, dtypes=dtypes)))
    places = [(line["model"], line["dtype"], line["work"]) for line in lines]
    assert places == [(m, d, w) for m in models for d in dtypes for w in ("4x16+3", "2x32+5")]
    for line in lines:
        assert set(line) >= NEEDED
        assert (line["bench"], line["system"], line["gpu"]) == ("generate", "tenbin", "a processor")
        assert line["tokens_per_s"] / line["examples_per_s"] == pytest.approx(line["new_tokens"], rel=0.02)
        assert (line["num_examples"], line["adapters"]) in ((4, 0), (2, 0))
        assert line["versions"]["torch"] == version("torch")
        assert line["planned_mib"] > 0
        assert line["peak_mib"] > 0
        json.dumps(line, allow_nan=False)


def test_questions_few_shot_and_the_share_of_validation(lengths):
    series = with_(
        works=("jsquad", "fewshot-50"), lengths=lengths, questions=15, batch_size=10, steps=3, validation=True
    )
    jsquad, fewshot, validation = run_generation(series)
    assert (jsquad["num_examples"], fewshot["num_examples"], validation["num_examples"]) == (15, 15, 2)
    assert fewshot["prompt_tokens"] - jsquad["prompt_tokens"] == 15 * 50
    assert fewshot["distinct_prompt_tokens"] - jsquad["distinct_prompt_tokens"] == 50
    assert (jsquad["adapters"], validation["adapters"]) == (0, 1)
    assert validation["work"] == "jsquad-validation"
    assert validation["epoch_examples"] == 13
    assert validation["validation_share"] > 0
    assert "validation_share" not in jsquad


def test_the_share_alone(lengths):
    series = with_(works=(), lengths=lengths, batch_size=10, steps=3, validation=True, epoch_examples=100)
    (line,) = run_generation(series)
    assert (line["held_out"], line["epoch_examples"]) == (20, 100)


def test_what_does_not_fit_is_a_line_with_the_reason(monkeypatch):
    run = BatchGenerator.run

    def full(self, requests, stopped=None):
        if requests[0].max_new_tokens == 3:
            raise torch.OutOfMemoryError("tried to allocate much\nand more")
        return run(self, requests, stopped)

    monkeypatch.setattr(BatchGenerator, "run", full)
    first, second = run_generation(TINY)
    assert first["reason"] == "out of memory: tried to allocate much"
    assert first["tokens_per_s"] is first["peak_mib"] is first["roof_tflops"] is None
    assert first["num_examples"] == 4
    assert second["tokens_per_s"] > 0
    assert "reason" not in second


def test_a_model_that_does_not_fit_has_a_line_for_every_work(monkeypatch, lengths):
    def full(*args, **options):
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(TrainBench, "build", full)
    lines = list(run_generation(with_(lengths=lengths, batch_size=10, validation=True)))
    assert [line["work"] for line in lines] == ["4x16+3", "2x32+5", "jsquad-validation"]
    assert {line["reason"] for line in lines} == {"out of memory: the model does not fit"}


def test_all_problems_at_once():
    wrong = GenerateSeries(
        models=("8b", "tiny"),
        works=("1x32", "jsquad"),
        dtypes=("int4",),
        how=Answering(runs=0, adapters=2, most_tokens=0, most_rows=0),
        questions=0,
        steps=2,
        batch_size=0,
        epoch_examples=0,
        vram_mib=0,
    )
    with pytest.raises(ConfigError) as caught:
        run_generation(wrong)
    said = [problem.where for problem in caught.value.problems]
    expected = ["--dtype", "--vram-mib", "--adapters", "--steps", "--lengths", "--epoch-examples", "--runs"]
    expected += ["--most-tokens", "--most-rows", "--questions", "--epoch-examples", "--batch"]
    assert said == [*expected, "--work", "--model"]


def test_nothing_to_measure_is_a_problem():
    with pytest.raises(ConfigError, match="--work: none is named"):
        run_generation(with_(works=()))


def test_positions_that_a_model_does_not_have_are_refused():
    with pytest.raises(ConfigError, match="5005 tokens; tiny-gpt2 has 4096 positions"):
        run_generation(with_(models=("tiny-gpt2",), works=("1x5000+5",)))


def test_more_questions_than_there_are(lengths):
    with pytest.raises(ConfigError, match="20 questions; 21 were asked for"):
        run_generation(with_(works=("jsquad",), lengths=lengths, questions=21))
