"""One optimizer step: packed = one by one, shared = separate, many micro-batches = one, together = alone."""

import pytest
import torch
from tests.decoder.exact import exact_norms
from tests.models.tiny import FAMILIES, tiny_model
from tests.train.training import (
    asked_examples,
    assert_near,
    away_from_zero,
    tiny_examples,
    tiny_job,
    tiny_jobs,
)

from tenbin.config import LoraConfig, TrainingConfig
from tenbin.decoder.decoder import Decoder
from tenbin.models.lora import activate, add_adapter, inject, trainable
from tenbin.train.job import TrainJob
from tenbin.train.packing import alone, bundles, pack
from tenbin.train.room import Room
from tenbin.train.step import train_step


def step(decoder, job, examples, room):
    (stats,) = train_step(decoder, [job], examples, room)
    return stats


def gradients(job):
    return {name: p.grad.clone() for name, p in job.parameters.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("loss_on", ["response", "all"])
def test_packed_loss_and_gradients_equal_transformers_one_by_one(family, loss_on):
    examples = tiny_examples(5)
    model = exact_norms(tiny_model(family, torch.float64))
    inject(model)
    add_adapter(model, "a", LoraConfig(rank=4, alpha=8), seed=0)
    job = TrainJob("a", trainable(model, "a"), TrainingConfig(), rate=1e-2, seed=0)
    away_from_zero(job)
    expected = []
    with activate(model, "a"):
        for example in examples:
            ids = torch.tensor([[*example.prompt_ids, *example.target_ids]])
            first = len(example.prompt_ids) if loss_on == "response" else 1
            logits = model(ids, use_cache=False).logits[0, first - 1 : -1]
            loss = torch.nn.functional.cross_entropy(logits, ids[0, first:], reduction="none")
            loss.sum().backward()
            expected.append(loss.detach())
    theirs = gradients(job)
    job.optimizer.zero_grad()

    decoder = Decoder(model)
    decoder.use(("a",))
    batch = pack(examples, alone(examples), loss_on)
    losses = decoder.losses(batch, scales=torch.ones(batch.num_targets, dtype=torch.float64))
    decoder.give_gradients()
    assert torch.allclose(losses, torch.cat(expected), rtol=1e-10)
    for name, gradient in gradients(job).items():
        assert torch.allclose(gradient, theirs[name], rtol=1e-8, atol=1e-10), name


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_prefixes_equal_separate_texts(family):
    """Three steps: loss, norm of the gradient, parameters."""
    examples = asked_examples()
    together, job_shared = tiny_job(family=family, dtype=torch.float64, batch_size=12)
    apart, job_apart = tiny_job(family=family, dtype=torch.float64, batch_size=12)
    away_from_zero(job_shared)
    away_from_zero(job_apart)
    for _ in range(3):
        a = step(together, job_shared, examples, Room(10_000))
        b = step(apart, job_apart, examples, Room(10_000, share_prefixes=False))
        assert a.num_tokens < b.num_tokens * 0.8
        assert (a.num_targets, a.num_examples) == (b.num_targets, b.num_examples)
        assert a.loss == pytest.approx(b.loss, rel=0, abs=1e-9)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=0, abs=1e-9)
    assert_near(job_shared, job_apart)


@pytest.mark.parametrize("most_tokens", [1, 25, 60])
def test_the_micro_batch_does_not_change_a_step_with_shared_prefixes(most_tokens):
    examples = asked_examples()
    one, job_one = tiny_job(dtype=torch.float64, batch_size=12)
    many, job_many = tiny_job(dtype=torch.float64, batch_size=12)
    for _ in range(3):
        a = step(one, job_one, examples, Room(10_000))
        b = step(many, job_many, examples, Room(most_tokens))
        assert b.num_tokens >= a.num_tokens  # prefixes are repeated in every row
        assert a.loss == pytest.approx(b.loss, rel=0, abs=1e-9)
    assert_near(job_one, job_many)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("most_tokens", [1, 25, 60])
def test_the_micro_batch_does_not_change_the_step(most_tokens, dropout):
    examples = tiny_examples()
    one, job_one = tiny_job(dtype=torch.float64, dropout=dropout)
    many, job_many = tiny_job(dtype=torch.float64, dropout=dropout)
    for _ in range(3):
        a = step(one, job_one, examples, Room(10_000))
        b = step(many, job_many, examples, Room(most_tokens))
        assert a.loss == pytest.approx(b.loss, rel=1e-11)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-9)
        assert (a.num_targets, a.num_tokens) == (b.num_targets, b.num_tokens)
    assert_near(job_one, job_many)


def test_dropout_draws_other_masks_in_every_step():
    decoder, job = tiny_job(dtype=torch.float64, dropout=0.5, rates=(0.0,) * 3, batch_size=13)
    away_from_zero(job)
    examples = tiny_examples()
    first, second = (step(decoder, job, examples, Room(10_000)).loss for _ in range(2))
    assert first != second  # the same examples and weights


def test_dropout_shares_no_prefix():
    """Two texts that begin alike would lose the same parts of it."""
    examples = asked_examples()
    decoder, job = tiny_job(dropout=0.3, batch_size=12)
    assert step(decoder, job, examples, Room(10_000)).num_tokens == sum(map(len, examples))


def test_the_gradient_is_that_of_the_mean_over_all_targets_of_the_step():
    examples = tiny_examples(4)
    decoder, job = tiny_job(dtype=torch.float64, batch_size=4, max_grad_norm=None)
    decoder.use(("a",))
    batch = pack(examples, alone(examples), "response")
    num = sum(len(e.target_ids) for e in examples)
    assert batch.num_targets == num
    decoder.losses(batch, scales=torch.full((num,), 1 / num, dtype=torch.float64))
    decoder.give_gradients()
    norm = torch.sqrt(sum((g**2).sum() for g in gradients(job).values())).item()
    job.optimizer.zero_grad()
    assert step(decoder, job, examples, Room(12)).grad_norm == pytest.approx(norm, rel=1e-9)


def test_gradients_are_clipped_by_each_adapters_own_norm():
    examples = tiny_examples()
    decoder, jobs = tiny_jobs(dtype=torch.float64, max_grad_norm=1e-3)
    for job in jobs:
        job.optimizer = torch.optim.SGD(job.parameters.values())
    before = [{n: p.detach().clone() for n, p in job.parameters.items()} for job in jobs]
    for job, old, stats in zip(jobs, before, train_step(decoder, jobs, examples, Room(10_000)), strict=True):
        moved = torch.sqrt(sum((p.detach() - old[n]).square().sum() for n, p in job.parameters.items()))
        assert stats.grad_norm > 1e-2
        assert moved.item() == pytest.approx(stats.learning_rate * 1e-3, rel=1e-3)


@pytest.mark.parametrize("examples", [tiny_examples(), asked_examples()], ids=["apart", "asked"])
@pytest.mark.parametrize("family", FAMILIES)
def test_several_adapters_at_once_equal_each_alone(family, examples):
    decoder, jobs = tiny_jobs(family=family, dtype=torch.float64)
    away_from_zero(*jobs)
    found = [train_step(decoder, jobs, examples, Room(100)) for _ in range(2)]
    for i, job in enumerate(jobs):
        alone_in, others = tiny_jobs(family=family, dtype=torch.float64)
        away_from_zero(*others)
        for number in range(2):
            stats = step(alone_in, others[i], examples, Room(10_000))
            assert found[number][i].loss == pytest.approx(stats.loss, rel=1e-10)
            assert found[number][i].grad_norm == pytest.approx(stats.grad_norm, rel=1e-9)
            assert found[number][i].num_targets == stats.num_targets
        assert_near(job, others[i])


def rows_of(monkeypatch):
    """Tokens of each row that passes the weights, with how many adapters it has."""
    seen, losses = [], Decoder.losses

    def watched(decoder, batch, routing=None, **kwargs):
        seen.append((batch.num_tokens, len(set(routing.names))))
        return losses(decoder, batch, routing, **kwargs)

    monkeypatch.setattr(Decoder, "losses", watched)
    return seen


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("make", [tiny_examples, asked_examples], ids=["apart", "asked"])
@pytest.mark.parametrize("more", [0, 3, 20])
def test_rows_of_several_adapters_are_no_longer_than_was_planned(monkeypatch, make, dropout, more):
    """Where an example is longer than an adapter's part of a row, not all of them pass together."""
    examples = make()
    most = max(map(len, examples)) + more
    decoder, jobs = tiny_jobs(dtype=torch.float64, dropout=dropout)
    away_from_zero(*jobs)
    seen = rows_of(monkeypatch)
    found = [train_step(decoder, jobs, examples, Room(most)) for _ in range(3)]
    assert max(tokens for tokens, _ in seen) <= most
    assert max(names for _, names in seen) > 1  # together as far as they fit
    for i, job in enumerate(jobs):
        alone_in, others = tiny_jobs(dtype=torch.float64, dropout=dropout)
        away_from_zero(*others)
        for number in range(3):
            stats = step(alone_in, others[i], examples, Room(10_000))
            assert found[number][i].loss == pytest.approx(stats.loss, rel=1e-10)
            assert found[number][i].grad_norm == pytest.approx(stats.grad_norm, rel=1e-9)
        assert_near(job, others[i])


def test_a_long_example_passes_alone(monkeypatch):
    examples = tiny_examples()
    longest = max(map(len, examples))
    decoder, jobs = tiny_jobs(dtype=torch.float64)
    seen = rows_of(monkeypatch)
    for _ in range(3):
        train_step(decoder, jobs, examples, Room(longest - 1))
    assert all(names == 1 for tokens, names in seen if tokens >= longest)
    assert any(tokens == longest for tokens, _ in seen)


@pytest.mark.parametrize(("most_tokens", "batch_sizes"), [(10_000, (12, 12)), (60, (2, 12)), (60, (12, 2))])
def test_adapters_of_different_dropout_in_one_step(most_tokens, batch_sizes):
    """One that drops beside one that does not and shares prefixes; one may need more micro-batches."""
    examples = asked_examples()

    def two():
        model = tiny_model("llama", torch.float64)
        inject(model)
        jobs = []
        for seed, (name, dropout) in enumerate([("a", 0.3), ("b", 0.0)]):
            config = TrainingConfig(batch_size=batch_sizes[seed])
            add_adapter(model, name, LoraConfig(rank=2, alpha=8, dropout=dropout), seed=seed)
            parameters = trainable(model, name)
            jobs.append(TrainJob(name, parameters, config, rate=1e-2, seed=seed, drops=dropout > 0))
        away_from_zero(*jobs)
        return Decoder(model), jobs

    decoder, jobs = two()
    stats = train_step(decoder, jobs, examples, Room(most_tokens))
    if batch_sizes == (12, 12):
        assert stats[1].num_tokens < stats[0].num_tokens
    for i in range(2):
        alone_in, others = two()
        expected = step(alone_in, others[i], examples, Room(10_000)).loss
        assert stats[i].loss == pytest.approx(expected, rel=1e-10)
        assert_near(jobs[i], others[i])


def test_loss_on_all_shares_nothing():
    """The tokens of a prefix would be targets of every example that begins with it."""
    examples = asked_examples()
    decoder, job = tiny_job(batch_size=12, loss_on="all")
    stats = step(decoder, job, examples, Room(10_000))
    assert stats.num_tokens == sum(map(len, examples))
    assert stats.num_targets == stats.num_tokens - len(examples)


def test_frozen_weights_stay_as_they_are():
    model = tiny_model("llama")
    inject(model)
    add_adapter(model, "a", LoraConfig(rank=4, alpha=8), seed=0)
    job = TrainJob("a", trainable(model, "a"), TrainingConfig(batch_size=4), rate=1e-1, seed=0)
    frozen = {n: p for n, p in model.named_parameters() if "lora" not in n}
    before = {n: p.detach().clone() for n, p in frozen.items()}
    adapter = {n: p.detach().clone() for n, p in job.parameters.items()}
    decoder = Decoder(model)
    for _ in range(3):
        step(decoder, job, tiny_examples(), Room(40))
    assert all(torch.equal(p, before[n]) for n, p in frozen.items())
    assert not any(p.grad is not None for p in frozen.values())
    assert not any(torch.equal(p, adapter[n]) for n, p in job.parameters.items())


def test_bundles_are_what_the_step_lays_down():
    examples = asked_examples()
    decoder, job = tiny_job(batch_size=12)
    stats = step(decoder, job, examples, Room(10_000))
    together = bundles(examples)
    assert stats.num_tokens == pack(examples, together, "response").num_tokens
