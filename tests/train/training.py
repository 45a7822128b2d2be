"""A tiny training, whole: decoder, examples, jobs and a run folder for each."""

import torch
from tests.models.tiny import tiny_model

from tenbin.config import LoraConfig, TrainingConfig
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.replay import Replays
from tenbin.models.encode import Encoded
from tenbin.models.lora import add_adapter, inject, trainable
from tenbin.runs import Run, RunSpec
from tenbin.train.engine import Hooks, Training, train
from tenbin.train.job import TrainJob
from tenbin.train.room import Room
from tenbin.types import Estimate, EvalResult, MetricSummary

SPEC = RunSpec(
    kind="train", model="tiny", source="tiny", model_fingerprint="0", task="t", learning_rate=1e-2, seed=0
)
NAMES = ("a", "b", "c")
RATES = (1e-2, 3e-3, 2e-2)


def draw_ids(generator, low, high):
    """Between `low` and `high` - 1 tokens."""
    size = int(torch.randint(low, high, (1,), generator=generator))
    return tuple(torch.randint(3, 97, (size,), generator=generator).tolist())


def tiny_examples(count=13, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [Encoded(draw_ids(generator, 3, 14), draw_ids(generator, 1, 6)) for _ in range(count)]


def asked_examples(questions=(3, 1, 4, 2), seed=0):
    """So many questions about each of some passages of 10 to 19 tokens, and two that share nothing."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number, count in enumerate(questions):
        passage = draw_ids(generator, 10, 20)
        for _ in range(count):
            prompt = (*passage, *draw_ids(generator, 2, 6))
            found.append(Encoded(prompt, draw_ids(generator, 1, 5), group=f"p{number}"))
    return found + tiny_examples(2, seed=seed + 1)


def tiny_jobs(
    names=NAMES, family="llama", dtype=torch.float32, dropout=0.0, rates=RATES, ranks=(4, 2, 3), **training
):
    """A decoder and a job for each adapter; its seed is its place in NAMES."""
    changes = {"sliding_window": 64} if family == "gemma3_text" else {}  # a window may not cut a prefix
    model = tiny_model(family, dtype, **changes)
    inject(model)
    config = TrainingConfig(**{"epochs": 3, "batch_size": 4, "checkpoint_every_s": 0.0, **training})
    jobs = []
    for name in names:
        place = NAMES.index(name)
        lora = LoraConfig(rank=ranks[place], alpha=8, dropout=dropout)
        add_adapter(model, name, lora, seed=place)
        job = TrainJob(name, trainable(model, name), config, rate=rates[place], seed=place, drops=dropout > 0)
        jobs.append(job)
    return Decoder(model), jobs


def tiny_job(**kwargs):
    decoder, (job,) = tiny_jobs(("a",), **kwargs)
    return decoder, job


def away_from_zero(*jobs):
    """B starts as zeros, and so A without a gradient: not so in tests of one step."""
    for seed, job in enumerate(jobs):
        generator = torch.Generator().manual_seed(seed)
        for p in job.parameters.values():
            torch.nn.init.normal_(p, std=0.1, generator=generator)


def validation(value):
    """A result whose headline has this value; None = undefined."""
    estimate = None if value is None else Estimate(value, 0, 1, 0.95, 10, "made up")
    metric = MetricSummary(metric="m", name="m", definition="m", estimate=estimate, reason=None)
    return EvalResult(
        task="t",
        model_id="tiny",
        split="validation",
        dataset="d",
        template="t",
        metrics=(metric,),
        num_examples=10,
        num_errors=0,
        num_unparsed=0,
    )


def hooks(values=(0.1, 0.3, 0.2), kept=None, on_step=lambda stats: None):
    kept = [] if kept is None else kept
    return Hooks(validate=lambda epoch: validation(values[epoch - 1]), keep=kept.append, on_step=on_step)


def trainings(folder, jobs, make_hooks=hooks):
    """Each with a run folder of its adapter's name, begun or taken up again."""
    found = []
    for job in jobs:
        run = Run(folder / job.name, SPEC)
        if not run.path.exists():
            run.start({})
        found.append(Training(job, run, make_hooks()))
    return found


def whole_training(folder, examples=None, most_tokens=40, names=("a",), **kwargs):
    """Train to the end; the jobs and their progress."""
    decoder, jobs = tiny_jobs(names, **kwargs)
    progress = train(decoder, trainings(folder, jobs), examples or tiny_examples(), Room(most_tokens))
    return jobs, progress


class PlayedBack:
    """A CUDA graph on a CPU: what was recorded is done again. A real one is launched whole or not at all."""

    playing = False

    def __init__(self, known):
        self.known = known

    def pool(self):
        return None

    def replay(self):
        PlayedBack.playing = True
        try:
            self.known.result = self.known.work()
        finally:
            PlayedBack.playing = False


def with_graphs(monkeypatch):
    """Steps end as they do on a GPU: plainly, recorded, then played back. (Rows do so on a GPU alone.)"""

    def recorded(replays, known):
        known.graph, known.result = PlayedBack(known), torch.zeros(())

    monkeypatch.setattr(Decoder, "replayable", property(lambda decoder: True))
    monkeypatch.setattr(Replays, "_record", recorded)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *args: None)


class Refused:
    """`torch.cuda.graph` where the driver makes no graph."""

    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        raise RuntimeError("CUDA error: out of memory")

    def __exit__(self, *error):
        pass


def without_graphs(monkeypatch):
    """No graph can be made; returns the streams that were gone back to."""
    gone_to = []
    for name, value in {
        "synchronize": None,
        "graph_pool_handle": 0,
        "CUDAGraph": 0,
        "current_stream": 1,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, value=value: value)
    monkeypatch.setattr(torch.cuda, "graph", Refused)
    monkeypatch.setattr(torch.cuda, "set_stream", gone_to.append)
    monkeypatch.setattr(Decoder, "replayable", property(lambda decoder: True))
    return gone_to


def same(job_a, job_b):
    return all(torch.equal(p, job_b.parameters[name]) for name, p in job_a.parameters.items())


def assert_near(job_a, job_b, atol=1e-9):
    assert job_a.parameters.keys() == job_b.parameters.keys()
    for name, p in job_a.parameters.items():
        assert torch.allclose(p, job_b.parameters[name], rtol=0, atol=atol), name
