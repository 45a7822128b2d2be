"""A series on this machine's CPU: a line for everything, figures that hang together, all problems at once."""

import dataclasses
import json
from importlib.metadata import version

import pytest
import torch

from tenbin.bench import TrainBench
from tenbin.bench_series import Series, run_series
from tenbin.device import Device
from tenbin.errors import ConfigError

CPU = Device("cpu", "a processor", None)
TINY = Series(models=("tiny",), works=("2x16", "1x32"), steps=3)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr("tenbin.bench_series.find_device", lambda: CPU)


def with_(**changes):
    return dataclasses.replace(TINY, **changes)


def test_every_model_type_and_work_has_a_line():
    lines = list(run_series(with_(models=("tiny", "tiny-gpt2"), dtypes=("bf16", "fp8"))))
    places = [(line["model"], line["dtype"], line["work"]) for line in lines]
    assert places == [
        (m, d, w) for m in ("tiny", "tiny-gpt2") for d in ("bf16", "fp8") for w in ("2x16", "1x32")
    ]
    for line in lines:
        assert (line["bench"], line["system"], line["gpu"]) == ("train", "tenbin", "a processor")
        assert line["tokens_per_s"] == pytest.approx(32 / line["step_s"], rel=0.05)
        per_example = 16 if line["work"] == "2x16" else 32
        assert line["tokens_per_s"] / line["examples_per_s"] == pytest.approx(per_example, rel=0.05)
        assert line["planned_mib"] > 0
        assert line["peak_mib"] > 0
        assert 0 < line["loss"] < 20
        assert line["versions"]["torch"] == version("torch")
        json.dumps(line, allow_nan=False)


def test_several_adapters_count_together():
    (line,) = run_series(with_(works=("2x16",), adapters=3))
    assert line["adapters"] == 3
    assert line["tokens_per_s"] == pytest.approx(96 / line["step_s"], rel=0.05)


def test_questions_lay_a_passage_down_once(tmp_path):
    path = tmp_path / "lengths.json"
    path.write_text(json.dumps([[40, [[5, 2], [5, 2], [5, 2], [5, 2]]]] * 3), encoding="utf-8")
    (line,) = run_series(with_(works=("jsquad",), lengths=path, batch_size=12))
    assert (line["work"], line["batch_size"]) == ("jsquad", 12)
    assert line["tokens_per_s"] / line["examples_per_s"] == pytest.approx((40 + 4 * 7) / 4, rel=0.05)


def test_a_model_folder(tmp_path):
    sizes = {
        "model_type": "llama",
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
    (line,) = run_series(with_(models=(str(folder),), works=("1x16",)))
    assert line["model"] == "mine"
    assert line["tokens_per_s"] > 0


def test_what_does_not_fit_is_a_line_with_the_reason(monkeypatch):
    measure = TrainBench.measure

    def full(self, work, **options):
        if work.name == "2x16":
            raise torch.OutOfMemoryError("tried to allocate much\nand more")
        return measure(self, work, **options)

    monkeypatch.setattr(TrainBench, "measure", full)
    first, second = run_series(TINY)
    assert first["reason"] == "out of memory: tried to allocate much"
    assert first["tokens_per_s"] is first["peak_mib"] is first["mfu"] is None
    assert second["tokens_per_s"] > 0
    assert "reason" not in second


def test_a_model_that_does_not_fit_has_a_line_for_every_work(monkeypatch):
    def full(*args, **options):
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(TrainBench, "build", full)
    lines = list(run_series(TINY))
    assert [line["work"] for line in lines] == ["2x16", "1x32"]
    assert {line["reason"] for line in lines} == {"out of memory: the model does not fit"}


def test_all_problems_at_once():
    wrong = Series(
        models=("8b", "tiny"),
        works=("1x32", "much", "0x4", "jsquad"),
        dtypes=("int4",),
        steps=2,
        adapters=0,
        batch_size=0,
        micro_batch_tokens=0,
        vram_mib=-3,
    )
    with pytest.raises(ConfigError) as caught:
        run_series(wrong)
    said = [problem.where for problem in caught.value.problems]
    expected = ["--steps", "--adapters", "--batch", "--micro-batch-tokens", "--lengths", "--dtype"]
    assert said == [*expected, "--vram-mib", "--work", "--work", "--model"]


def test_positions_that_a_model_does_not_have_are_refused():
    with pytest.raises(ConfigError, match="5000 tokens; tiny-gpt2 has 4096 positions"):
        run_series(with_(models=("tiny-gpt2",), works=("1x5000",)))
