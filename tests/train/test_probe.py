"""The measured pass before a training: it changes nothing but the room, and that in the right direction."""

from dataclasses import replace

import pytest
import torch
from tests.train.training import (
    NAMES,
    asked_examples,
    assert_near,
    same,
    tiny_examples,
    tiny_job,
    tiny_jobs,
    trainings,
    whole_training,
    with_graphs,
)

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.replay import Replays
from tenbin.memory import ALL, ATTENTION, HOST, INPUT, MIB, KeepLevels, MemoryPlan
from tenbin.models.encode import Encoded
from tenbin.train.engine import train
from tenbin.train.probe import SPARE_SHARE, probe, worst_examples
from tenbin.train.room import Room
from tenbin.train.step import train_step

CAP = 1000 * MIB
FIXED = 400 * MIB
TOKENS = 40
STEP = 20 * MIB // TOKENS
"""Bytes a token of each level beyond the one before: 20 MiB a block at TOKENS tokens."""


def levels(layers=2, room=CAP - FIXED):
    return KeepLevels(
        num_layers=layers,
        token_bytes=tuple(STEP * level for level in range(ALL + 1)),
        room_bytes=room,
        transient_bytes=STEP,
        wide_bytes=0,
    )


def planned(layers=2, fixed=FIXED):
    kept = levels(layers, CAP - fixed)
    terms = {
        "weights": fixed,
        "activations": kept.kept_bytes(TOKENS),
        "working": 0,
        "logits": 0,
        "kv_cache": 0,
    }
    return MemoryPlan(terms=terms, cap_bytes=CAP, most_tokens=TOKENS, levels=kept)


class Meter:
    """What a GPU would have held: the plan's figure, wrong by so much."""

    def __init__(self, plan, room, wrong_mib):
        self.plan, self.room, self.wrong_mib = plan, room, wrong_mib
        self.resets = 0

    def reset_peak(self):
        self.resets += 1

    def peak_mib(self):
        held = replace(self.plan, levels=self.room.levels).training_bytes(self.room.largest)
        return held / MIB + self.wrong_mib


def even_examples(count=12, length=10):
    """Four of them fill a micro-batch of TOKENS."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 97, (count, length), generator=generator).tolist()
    return [Encoded(tuple(row[:-3]), tuple(row[-3:])) for row in ids]


def probed(wrong_mib, *, fixed=FIXED, examples=None, **kwargs):
    """(what the probe found, the room after it)"""
    decoder, jobs = tiny_jobs(("a",), **kwargs)
    plan = planned(decoder.num_layers, fixed)
    room = Room(TOKENS, plan.levels)
    found = probe(decoder, jobs, examples or even_examples(), room, plan, Meter(plan, room, wrong_mib))
    return found, room


def test_what_the_plan_counted_too_much_is_spent():
    """The cap holds two levels fewer than all; 100 MiB are not really needed."""
    fixed = CAP - 140 * MIB  # room: 20 MiB at work and six levels of eight, of two blocks
    found, room = probed(-100, fixed=fixed)
    tokens = found.num_tokens
    assert found.predicted_bytes - found.measured_bytes == pytest.approx(100 * MIB, abs=2)
    assert found.after.room_bytes == pytest.approx(
        found.before.room_bytes + 100 * MIB - SPARE_SHARE * CAP, abs=2
    )
    assert found.after.kept_bytes(tokens) > found.before.kept_bytes(tokens)
    assert set(found.after.choose(tokens)) == {ALL}
    assert room.levels == found.after


def test_what_the_plan_counted_too_little_is_given_up():
    found, room = probed(+70, fixed=CAP - 190 * MIB)
    tokens = found.num_tokens
    assert set(found.before.choose(tokens)) == {ALL}
    assert found.after.room_bytes == pytest.approx(found.before.room_bytes - 70 * MIB, abs=2)
    assert found.after.kept_bytes(tokens) < found.before.kept_bytes(tokens)
    assert room.levels == found.after


@pytest.mark.parametrize("wrong", [-300, -100, -5, 0, 5, 60, 200])
def test_the_corrected_plan_says_what_is_held(wrong):
    found, room = probed(wrong, fixed=CAP - 150 * MIB)
    tokens = found.num_tokens
    held = replace(planned(2, CAP - 150 * MIB), levels=room.levels).training_bytes(tokens) + wrong * MIB
    assert found.plan.training_bytes(tokens) == pytest.approx(held, abs=2)
    least = all(level == HOST for level in room.levels.choose(tokens))
    assert held <= CAP or least
    assert found.plan.total_bytes == pytest.approx(
        sum(found.plan.terms[k] for k in ("weights", "activations", "correction")), abs=2
    )


def test_levels_that_keep_less_and_need_more_beside_it_are_tried(monkeypatch):
    """As with products in the computer's memory: it is all that is held that must be known to fit."""
    tried = failing(monkeypatch, {2})
    decoder, jobs = tiny_jobs(("a",))
    plan = planned(decoder.num_layers)
    others = [*[ALL] * (decoder.num_layers - 1)]
    first = replace(
        plan.levels,
        transient_bytes=10 * STEP,
        spared_bytes=(0, 0, *[8 * STEP] * 4),
        fixed=(ATTENTION, *others),
    )
    second = replace(first, fixed=(INPUT, *others))
    assert second.kept_bytes(TOKENS) < first.kept_bytes(TOKENS)
    monkeypatch.setattr("tenbin.train.probe._corrected", lambda *args, **kwargs: second)
    plan = replace(plan, levels=first)
    room = Room(TOKENS, first)
    found = probe(decoder, jobs, even_examples(), room, plan, Meter(plan, room, -100))
    assert len(tried) == 2
    assert room.levels == found.after == first


def test_a_little_too_much_changes_nothing():
    """Less than the share of the cap that stays free."""
    found, room = probed(-SPARE_SHARE * CAP / MIB / 2, fixed=CAP - 100 * MIB)
    assert room.levels == found.before == found.after


def failing(monkeypatch, times):
    """The device is out of memory in passes with these numbers, from 1; returns what each kept."""
    tried = []
    losses = Decoder.losses

    def limited(decoder, batch, *args, **kwargs):
        tried.append((batch.num_tokens, kwargs["keep"]))
        result = losses(decoder, batch, *args, **kwargs)
        if len(tried) in times:  # as late as can be: gradients are there
            raise torch.OutOfMemoryError("made up")
        return result

    monkeypatch.setattr(Decoder, "losses", limited)
    return tried


def test_levels_that_do_not_fit_after_all_are_taken_back(monkeypatch):
    tried = failing(monkeypatch, {2})
    found, room = probed(-100, fixed=CAP - 140 * MIB)
    assert len(tried) == 2
    assert sum(tried[1][1]) > sum(tried[0][1])
    assert room.levels == found.after == found.before
    assert found.plan.training_bytes(found.num_tokens) == found.measured_bytes


def test_out_of_memory_shrinks_as_in_training(monkeypatch):
    """Everything could be kept; 100 MiB fewer are held than planned."""
    tried = failing(monkeypatch, {1, 2})
    found, room = probed(-100)
    assert len(found.shrunk) == 2
    assert found.shrunk[0] == f"micro-batches of at most {TOKENS // 2} tokens"
    assert [tokens for tokens, _ in tried] == sorted((t for t, _ in tried), reverse=True)
    assert room.most_tokens < TOKENS
    assert found.after == found.before  # nothing is spent where something did not fit
    assert len(tried) == 3


def test_out_of_memory_where_blocks_compute_again_lets_them_keep_less(monkeypatch):
    """Smaller micro-batches would keep more of each token and fill the same room."""
    tried = failing(monkeypatch, {1})
    found, room = probed(-100, fixed=CAP - 140 * MIB)
    (said,) = found.shrunk
    assert said.startswith("less kept for the backward pass")
    assert [tokens for tokens, _ in tried] == [TOKENS, TOKENS]
    assert sum(tried[1][1]) < sum(tried[0][1])
    assert room.most_tokens == TOKENS
    assert found.after == found.before == room.levels


def failing_graphs(monkeypatch, number):
    """The `number`-th graph that is recorded finds no memory."""
    with_graphs(monkeypatch)
    record, count = Replays._record, 0

    def recorded(replays, known):
        nonlocal count
        count += 1
        if count == number:
            replays._failed = True
            raise RuntimeError("CUDA error: out of memory")
        record(replays, known)

    monkeypatch.setattr(Replays, "_record", recorded)


def test_levels_that_do_not_fit_beside_graphs_do_not_cost_the_graphs(monkeypatch):
    """They did fit with the levels before, which come back."""
    failing_graphs(monkeypatch, 2)
    found, room = probed(-100, fixed=CAP - 140 * MIB)
    assert room.levels == found.after == found.before
    assert found.shrunk == ()
    assert room.replays
    assert not room.sparing


def test_graphs_that_do_not_fit_are_given_up_first(monkeypatch):
    failing_graphs(monkeypatch, 1)
    found, room = probed(0)
    assert found.shrunk == ("CUDA graphs only of rows that leave room for any other beside them",)
    assert room.sparing
    assert room.most_tokens == TOKENS


@pytest.mark.parametrize("most", [TOKENS - 1, TOKENS])
def test_rows_too_long_for_graphs_leave_no_room_unasked(monkeypatch, most):
    """They pass plainly, again and again, beside what shorter rows' graphs hold."""
    monkeypatch.setattr("tenbin.train.probe.MOST_TOKENS", most)
    _, room = probed(0)
    assert room.sparing == (most < TOKENS)


def test_an_error_of_another_kind_is_not_hidden(monkeypatch):
    def illegal(*args, **kwargs):
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(Decoder, "losses", illegal)
    with pytest.raises(RuntimeError, match="illegal"):
        probed(0)


def turning(most_tokens, wrong_mib):
    """(found, room) with weights that may be kept in both orders: there is room beside TOKENS tokens, not
    beside ten times as many; no step has more than TOKENS.
    """
    decoder, jobs = tiny_jobs(("a",))
    plan = planned(decoder.num_layers)
    kept = replace(plan.levels, turned_bytes=300 * MIB)
    assert kept.turns(TOKENS)
    assert not kept.turns(10 * TOKENS)
    plan = replace(plan, levels=kept)
    room = Room(most_tokens, kept)

    class OfThese(Meter):
        def peak_mib(self):
            levels = self.room.levels if self.room.turns() else replace(self.room.levels, turned_bytes=0)
            held = replace(self.plan, levels=levels).training_bytes(self.room.largest)
            return held / MIB + self.wrong_mib

    meter = OfThese(plan, room, wrong_mib)
    found = probe(decoder, jobs, even_examples(), room, plan, meter)
    return found, room, meter


@pytest.mark.parametrize("wrong", [-250, -100, 0, 100, 200])
@pytest.mark.parametrize("most_tokens", [TOKENS, 10 * TOKENS])
def test_weights_in_both_orders_count_where_they_are_held(most_tokens, wrong):
    """Whether they are depends on the longest row that may come, not on the one that is measured."""
    found, room, meter = turning(most_tokens, wrong)
    assert (found.predicted_bytes - found.measured_bytes) / MIB == pytest.approx(-wrong, abs=1e-3)
    room.largest = found.num_tokens
    assert found.plan.training_bytes(found.num_tokens) == pytest.approx(meter.peak_mib() * MIB, abs=2)
    assert found.after == room.levels
    assert ("both orders" in found.to_json()["after"]) == room.turns()
    if most_tokens == TOKENS:
        assert room.turns() == (wrong < 200)


def test_where_nothing_fits_the_training_says_so(monkeypatch):
    failing(monkeypatch, set(range(1, 10_000)))
    found, room = probed(0)
    assert found is None
    assert set(room.levels.choose(room.most_tokens)) == {HOST}


@pytest.mark.parametrize("names", [("a",), NAMES])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("wrong", [-100, 70])
def test_the_training_is_the_same_to_the_bit(tmp_path, names, dropout, wrong):
    """Parameters, moments and losses; the random numbers of torch are where they were."""
    examples = asked_examples()
    without, before = whole_training(tmp_path / "without", examples, TOKENS * 3, names, dropout=dropout)
    decoder, jobs = tiny_jobs(names, dropout=dropout)
    plan = planned(decoder.num_layers, CAP - 140 * MIB)
    room = Room(TOKENS * 3, plan.levels)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert probe(decoder, jobs, examples, room, plan, Meter(plan, room, wrong)) is not None
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for job in jobs for p in job.parameters.values())
    assert all(job.step == 0 for job in jobs)
    progress = train(decoder, trainings(tmp_path / "with", jobs), examples, room)
    for a, b in zip(without, jobs, strict=True):
        assert same(a, b)
        for name, value in a.tensors().items():
            assert torch.equal(value, b.tensors()[name]), name
    for a, b in zip(before, progress, strict=True):
        assert [e.train_loss for e in a.epochs] == [e.train_loss for e in b.epochs]


@pytest.mark.parametrize("times", [{1}, {1, 2, 3, 4}, {2}])
def test_out_of_memory_in_the_measured_pass_changes_no_training(tmp_path, monkeypatch, times):
    """Of three adapters at once, in the first try or when more is kept; in float64."""
    examples, kind = asked_examples(), {"dtype": torch.float64}
    without, before = whole_training(tmp_path / "without", examples, TOKENS * 3, NAMES, **kind)
    decoder, jobs = tiny_jobs(NAMES, **kind)
    plan = planned(decoder.num_layers, CAP - 140 * MIB)
    room = Room(TOKENS * 3, plan.levels, longest=max(map(len, examples)))
    tried = failing(monkeypatch, times)
    assert probe(decoder, jobs, examples, room, plan, Meter(plan, room, -100)) is not None
    assert len(tried) >= max(times)
    assert all(p.grad is None for job in jobs for p in job.parameters.values())
    monkeypatch.undo()
    progress = train(decoder, trainings(tmp_path / "with", jobs), examples, room)
    for a, b in zip(without, jobs, strict=True):
        assert_near(a, b)
    for a, b in zip(before, progress, strict=True):
        losses = [e.train_loss for e in a.epochs]
        assert [e.train_loss for e in b.epochs] == pytest.approx(losses, rel=1e-9)


def largest_rows(examples, most_tokens, names=("a",), **kwargs):
    """(tokens of the probe's micro-batch, of the largest of the training)"""
    decoder, jobs = tiny_jobs(names, **kwargs)
    plan = replace(planned(), levels=levels(room=2**50))
    room = Room(most_tokens, plan.levels, longest=max(map(len, examples)))
    found = probe(decoder, jobs, examples, room, plan, Meter(plan, room, 0))
    room.largest = 0
    for _ in range(jobs[0].num_steps(len(examples))):
        train_step(decoder, jobs, examples, room)
    return found.num_tokens, room.largest


@pytest.mark.parametrize("most_tokens", [12, 40, 64, 1000])
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_no_micro_batch_of_the_training_is_much_larger(most_tokens, asked, batch_size):
    examples = asked_examples((5, 4, 4, 3)) if asked else tiny_examples(17)
    tried, largest = largest_rows(examples, most_tokens, batch_size=batch_size, epochs=2)
    longest = max(map(len, examples))
    assert tried <= max(most_tokens, longest)
    assert tried >= (0.9 if asked else 1.0) * min(largest, most_tokens - longest) or tried == largest


@pytest.mark.parametrize("more", [0, 4, 9, 30])
@pytest.mark.parametrize("asked", [False, True])
def test_no_row_of_several_adapters_is_larger_than_what_was_measured(more, asked):
    """Examples longer than an adapter's part of a row; rows are then not as full as they could be."""
    examples = asked_examples((5, 4, 4, 3)) if asked else tiny_examples(17)
    most = max(map(len, examples)) + more
    tried, largest = largest_rows(examples, most, NAMES, epochs=2)
    assert tried <= most
    assert largest <= most
    assert tried >= 0.8 * largest


def test_every_token_is_a_target_where_nothing_is_shared(monkeypatch):
    seen = []
    losses = Decoder.losses

    def watched(decoder, batch, *args, **kwargs):
        seen.append((batch.num_tokens, batch.num_targets, batch.layout.num_prefixes))
        return losses(decoder, batch, *args, **kwargs)

    monkeypatch.setattr(Decoder, "losses", watched)
    probed(0)
    (tokens, targets, prefixes) = seen[0]
    assert prefixes == 0
    assert targets > 0.8 * tokens  # all but the first of each example
    seen.clear()
    probed(0, examples=asked_examples())
    (_, _, prefixes) = seen[0]
    assert prefixes > 0  # as it will be laid out in the training


def test_an_example_longer_than_a_micro_batch_is_the_worst():
    _, job = tiny_job()
    examples = tiny_examples(13)
    longest = max(examples, key=len)
    assert worst_examples(job, examples, len(longest), share=True, most_shared=None) == ([longest], False)


def test_what_is_logged_and_kept():
    found, _ = probed(-100, fixed=CAP - 140 * MIB)
    record = found.to_json()
    assert record["predicted_mib"] - record["measured_mib"] == 100
    assert record["before"].startswith("blocks: ")
    assert record["after"] == "blocks: 2 keep everything"
    assert record["planned_mib"] == round(found.plan.training_bytes(found.num_tokens) / MIB)
    assert record["shrunk"] == []
