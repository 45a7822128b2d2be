"""A generation bench on this machine's CPU: every prompt answered whole, timed, and nothing left behind."""

import dataclasses
import statistics

import pytest
import torch

from tenbin import bench_generate
from tenbin.bench import TrainBench
from tenbin.bench_generate import Answering, measure_generation
from tenbin.bench_generate_plan import plan_generation
from tenbin.bench_generate_works import GenerateWork, generate_work
from tenbin.device import Device
from tenbin.generate.batching import Answer, BatchGenerator
from tenbin.memory import CPU_PASS_TOKENS
from tenbin.models.lora import adapters

CPU = Device("cpu", "a processor", None)
WORK = generate_work("9x20+3", vocabulary=512)


@pytest.fixture(scope="module")
def built():
    return TrainBench.build("tiny", CPU, base="same", cap_bytes=None)


@pytest.fixture
def asked(monkeypatch):
    """What the generator is asked, run by run."""
    calls = []
    run = BatchGenerator.run

    def noted(self, requests, stopped=None):
        calls.append((self, list(requests)))
        return run(self, requests, stopped)

    monkeypatch.setattr(BatchGenerator, "run", noted)
    return calls


def test_a_part_to_warm_up_then_every_prompt_in_every_run(built, asked):
    found = measure_generation(built, WORK, Answering(runs=2, most_tokens=64, most_rows=4))
    assert [len(requests) for _, requests in asked] == [2, 9, 9]
    assert [r.ids for r in asked[1][1]] == list(WORK.prompts)
    assert {(r.max_new_tokens, r.adapter) for _, requests in asked for r in requests} == {(3, None)}
    generator = asked[0][0]
    assert (generator.most_tokens, generator.most_rows, generator.end_ids) == (64, 4, frozenset())
    assert len(found["run_seconds"]) == 2
    assert found["warm_up_s"] > 0
    middle = statistics.median(found["run_seconds"])
    assert found["examples_per_s"] == pytest.approx(9 / middle, rel=0.02)
    assert found["tokens_per_s"] == pytest.approx(27 / middle, rel=0.02)
    assert found["prompt_tokens_per_s"] == pytest.approx(180 / middle, rel=0.02)
    assert found["cache_tokens"] == 9 * 23  # nothing is shared
    assert found["planned_mib"] > 500
    assert found["peak_mib"] > 0
    assert (found["graphs"], "reason" in found, "note" in found) == (False, False, False)


def test_a_cache_may_be_laid_out_anew_for_every_run(built, asked):
    found = measure_generation(built, WORK, Answering(runs=2, warm_up=1.0, laid_out=True))
    assert [len(requests) for _, requests in asked] == [9, 9, 9]
    assert len({id(generator.reader.cache) for generator, _ in asked}) == 3
    assert len(found["run_seconds"]) == 2
    assert found["warm_up_s"] > 0


def test_an_adapter_is_in_use_and_taken_away_again(built, asked):
    measure_generation(built, WORK, Answering(runs=1, adapters=1))
    assert {r.adapter for _, requests in asked for r in requests} == {"bench"}
    assert adapters(built.model) == []
    assert built.decoder.names == ()
    assert "reason" not in measure_generation(built, WORK, Answering(runs=1)), "works as before"


def with_room_for(built, num_tokens):
    """Capped so that a cache has room for so many tokens."""
    plan = plan_generation(
        built.shape,
        needed_tokens=num_tokens,
        longest=1,
        most_tokens=CPU_PASS_TOKENS,
        cap_bytes=None,
        gpu=False,
    )
    return dataclasses.replace(built, cap_bytes=plan.total_bytes)


def test_a_prompt_that_no_cache_holds_is_the_reason(built):
    found = measure_generation(with_room_for(built, 22), WORK, Answering(runs=1))
    assert found["reason"] == "a prompt and its answer have 23 tokens; the cache has room for 22"
    assert found["examples_per_s"] is found["mfu"] is found["seconds"] is None
    assert found["planned_mib"] > 0


def test_prompts_that_were_not_answered_are_the_reason(built, monkeypatch):
    def fails(self, requests, stopped=None):
        yield from (Answer(r.index, (), "error", 0.0, "no memory") for r in requests)

    monkeypatch.setattr(BatchGenerator, "run", fails)
    found = measure_generation(built, WORK, Answering(runs=1))
    assert found["reason"] == "2 of 2 prompts were not answered: no memory"
    assert found["tokens_per_s"] is None


def test_short_memory_is_noted(built, monkeypatch):
    read = bench_generate.BatchGenerator.__init__

    def short(self, *args, **options):
        read(self, *args, **options)
        self.notes.append("at most 32 tokens at once")

    monkeypatch.setattr(BatchGenerator, "__init__", short)
    assert measure_generation(built, WORK, Answering(runs=1))["note"] == "at most 32 tokens at once"


def test_an_answer_that_ends_early_is_our_mistake(built, monkeypatch):
    def short(self, requests, stopped=None):
        yield from (Answer(r.index, (5,), "stop", 0.0) for r in requests)

    monkeypatch.setattr(BatchGenerator, "run", short)
    with pytest.raises(AssertionError, match=r"answers of \{1\} tokens"):
        measure_generation(built, WORK, Answering(runs=1))


def test_a_small_cache_answers_in_turns(built):
    found = measure_generation(with_room_for(built, 60), WORK, Answering(runs=1))
    assert found["cache_tokens"] == 60
    assert found["examples_per_s"] > 0


def test_memory_that_is_not_there_leaves_no_adapter_behind(built, monkeypatch):
    def full(*args, **options):
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(bench_generate, "BatchGenerator", full)
    with pytest.raises(torch.OutOfMemoryError):
        measure_generation(built, WORK, Answering(adapters=1))
    assert adapters(built.model) == []


def test_no_prompts_but_one(built):
    one = GenerateWork(name="one", prompts=((5, 6, 7),), new_tokens=1)
    assert measure_generation(built, one, Answering(runs=1))["examples_per_s"] > 0
