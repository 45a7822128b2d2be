"""Too little memory on a GPU: changing weights asks for none, and graphs give way to passes beside them."""

import pytest
import torch
from tests.gpu.test_decoder_gpu import BIG, DEVICE, examples, jobs_of, some_model, with_adapters
from tests.train.training import trainings

from tenbin.decoder.decoder import Decoder
from tenbin.memory import CUDA_CONTEXT_BYTES, MIB, plan_training
from tenbin.models.shape import ModelShape
from tenbin.runs import Run
from tenbin.train.engine import train
from tenbin.train.job import TrainJob
from tenbin.train.room import Room
from tenbin.train.step import train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]


def allocations():
    """How often memory was asked for so far."""
    return torch.cuda.memory_stats()["allocation.all.allocated"]


@pytest.mark.parametrize(("owner", "name"), [(TrainJob, "update"), (Decoder, "refresh")])
def test_changing_the_weights_asks_for_no_memory(monkeypatch, owner, name):
    """So a step that runs out of memory has changed nothing, or everything."""
    inner, asked = getattr(owner, name), []

    def watched(*args):
        before = allocations()
        found = inner(*args)
        asked.append(allocations() - before)
        return found

    model = with_adapters(some_model("llama"), "a", "b").to(DEVICE)
    decoder = Decoder(model)
    jobs = jobs_of(model, "a", "b", batch_size=4)
    monkeypatch.setattr(owner, name, watched)
    for _ in range(4):
        train_step(decoder, jobs, examples(32, 100, 50), Room(2000, replays=False))
    assert len(asked) >= 4
    assert not any(asked)


def changing_rows(folder, room):
    """Steps whose rows have ever other shapes, up to 4,096 tokens: (events, tokens of the largest row)."""
    model = with_adapters(some_model("llama", **BIG), "a").to(DEVICE)
    texts = [one for n in range(16) for one in examples(8, 100 + 24 * n, 40, seed=n)]
    jobs = jobs_of(model, "a", batch_size=8, epochs=2, order="shuffled")
    runs = trainings(folder, jobs)
    train(Decoder(model), runs, texts, room)
    return Run(folder / "a", runs[0].run.spec).events()


def test_graphs_give_way_to_a_pass_that_does_not_fit_beside_them(tmp_path, capped):
    """Room for the largest row once, not twice: the same losses under the cap, and what was done is said."""
    quiet = changing_rows(tmp_path / "straight", Room(4096, longest=512))
    shape = ModelShape.read(some_model("llama", **BIG).config.to_dict())
    common = {"rank": 16, "most_tokens": 4096, "dtype_bytes": 2, "decode_tokens": 0, "gpu": True}
    free = plan_training(shape, cap_bytes=None, **common)
    row = free.levels.kept_bytes(4096) + free.levels.beside_bytes(4096)
    cap = free.fixed_bytes + int(1.2 * row)
    plan = plan_training(shape, cap_bytes=cap, **common)
    capped(cap // MIB)
    room = Room(4096, plan.levels, longest=512)
    events = changing_rows(tmp_path / "capped", room)
    assert torch.cuda.max_memory_reserved() <= cap - CUDA_CONTEXT_BYTES
    losses = [e["loss"] for e in events if e["event"] == "step"]
    assert losses == pytest.approx([e["loss"] for e in quiet if e["event"] == "step"], rel=5e-3)
    said = [e["retried_with"] for e in events if e["event"] == "memory"]
    assert len(said) == len(set(said)) <= 2
    assert all("CUDA graphs" in one for one in said)
