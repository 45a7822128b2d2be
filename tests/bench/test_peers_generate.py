"""`bench/peers/generate.py` as a process: transformers on a CPU, a tool that is missing, the time limit."""

import importlib.util
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from tests.bench.peer_process import LENGTHS, PEERS, run_peer
from tests.test_bench_generate_series import NEEDED

from tenbin.bench_generate_works import GenerateWork, generate_work
from tenbin.bench_sizes import model_sizes
from tenbin.device import Device
from tenbin.models.shape import ModelShape

QUESTIONS = sum(len(asked) for _, asked in LENGTHS)
WORKS = ("jsquad", "6x20+4")


def test_every_batch_size_has_a_line_and_the_best_is_the_last(tmp_path):
    sizes = ("--batch-size", "4", "--batch-size", "2")
    done, lines = run_peer("generate.py", tmp_path, "transformers", *sizes, works=WORKS)
    assert done.returncode == 0, done.stderr
    assert [(line["work"], line["batch_size"]) for line in lines if "best_of" not in line] == [
        (work, size) for work in WORKS for size in (2, 4)
    ]
    for line in lines:
        assert set(line) >= NEEDED
        assert (line["bench"], line["system"], line["variant"]) == ("generate", *["transformers"] * 2)
        count, new = (QUESTIONS, 5) if line["work"] == "jsquad" else (6, 4)
        assert (line["num_examples"], line["counted_examples"], line["new_tokens"]) == (count, count, new)
        assert line["examples_per_s"] * line["seconds"] == pytest.approx(count, rel=0.05)
    for three in (lines[:3], lines[3:]):
        *each, best = three
        assert best["best_of"] == [2, 4]
        assert best["examples_per_s"] == max(line["examples_per_s"] for line in each)


@pytest.fixture
def script(monkeypatch):
    """The script as a module; its neighbours are found beside it, and forgotten afterwards."""
    monkeypatch.syspath_prepend(PEERS)
    for name in ("lines", "batches", "peer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("peers_generate", PEERS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("lines", "batches", "peer"):
        sys.modules.pop(name, None)


class Model:
    """Answers with zeros, and says what it was given."""

    def __init__(self):
        self.given = []

    def generate(self, input_ids, attention_mask, max_new_tokens, **how):
        assert how == {"do_sample": False, "pad_token_id": 0}
        self.given.append(
            [ids[mask.bool()].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True)]
        )
        return torch.nn.functional.pad(input_ids, (0, max_new_tokens))


def built_with(script, model):
    built = script.Built.__new__(script.Built)
    built.device, built.model, built.roof = Device("cpu", "a processor", None), model, 1e9
    built.shape = ModelShape.read(model_sizes("tiny"))
    return built


def test_batches_of_like_lengths_after_a_warm_up_on_the_longest(script):
    prompts = tuple(tuple(range(3, 4 + n)) for n in (5, 1, 9, 3, 7))
    work = GenerateWork(name="any", prompts=prompts, new_tokens=2)
    options, model = SimpleNamespace(seconds=None), Model()
    found, over = script.measure_batches(built_with(script, model), work, 2, options, held())
    assert [len(ids) for ids in model.given[0]] == [10, 8]
    assert sorted(sorted(map(len, batch)) for batch in model.given[1:]) == [[2], [4, 6], [8, 10]]
    assert sorted(tuple(ids) for batch in model.given[1:] for ids in batch) == sorted(prompts)
    assert (found["counted_examples"], found["batch_size"], over) == (5, 2, False)


def test_a_batch_size_may_end_early(script):
    work = generate_work("9x10+2", vocabulary=512)
    options, model = SimpleNamespace(seconds=0.0), Model()
    found, over = script.measure_batches(built_with(script, model), work, 2, options, held())
    assert len(model.given) == 2, "the warm-up and one"
    assert (found["num_examples"], over) == (9, False)
    assert found["examples_per_s"] * found["seconds"] == pytest.approx(found["counted_examples"], rel=0.5)


def held():
    return SimpleNamespace(later=nullcontext, stop=lambda: None)


def test_continuous_batching_on_a_cpu(tmp_path):
    done, lines = run_peer("generate.py", tmp_path, "continuous", works=WORKS)
    assert done.returncode == 0, done.stderr
    assert [line["work"] for line in lines] == list(WORKS)
    for line, count in zip(lines, (QUESTIONS, 6), strict=True):
        assert set(line) >= NEEDED
        assert (line["system"], line["variant"], line["counted_examples"]) == (
            "transformers",
            "continuous",
            count,
        )
        assert line["examples_per_s"] > 0


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is here")
def test_a_tool_that_is_not_installed_is_a_line_with_the_reason(tmp_path):
    done, lines = run_peer("generate.py", tmp_path, "vllm", works=WORKS)
    assert done.returncode == 1
    assert [line["work"] for line in lines] == list(WORKS)
    assert {line["reason"] for line in lines} == {"vllm is not installed"}
    assert {line["examples_per_s"] for line in lines} == {None}


def test_the_time_limit_leaves_a_line_for_every_work(tmp_path):
    """Far more work than the time allows."""
    works = ("400x60+60", "6x20+4")
    args = ("--batch-size", "2", "--time-limit", "9")
    _, lines = run_peer("generate.py", tmp_path, "transformers", *args, works=works)
    *first, last = lines
    assert (last["work"], last["reason"]) == ("6x20+4", "the time limit of 9 s passed")
    assert {line["work"] for line in first} == {"400x60+60"}
    for line in first:
        done = line.get("counted_examples", 0)
        assert done < 400
        assert (line["examples_per_s"] is not None) == (done > 0)
        assert done > 0 or line["reason"] == "the time limit of 9 s passed"
