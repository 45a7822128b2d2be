"""A job's order, schedule and state: all chance is a function of the seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.train.training import same, tiny_examples, tiny_job

from tenbin.config import TrainingConfig
from tenbin.train.job import TrainJob, data_order, scheduled_rate
from tenbin.train.room import Room
from tenbin.train.step import train_step


def test_every_example_is_trained_once_an_epoch():
    _, job = tiny_job(batch_size=4)
    groups = [None] * 13
    seen = [i for step in range(job.steps_per_epoch(13)) for i in job.batch(groups, step)]
    assert sorted(seen) == list(range(13))
    again = [i for step in range(4, 8) for i in job.batch(groups, step)]
    assert sorted(again) == list(range(13))
    assert again != seen


GROUPS = st.lists(st.sampled_from([None, "a", "b", "c", "d"]), max_size=30)


@given(GROUPS, st.integers(0, 2**31), st.integers(1, 9))
def test_examples_of_a_group_follow_one_another(groups, seed, epoch):
    order = data_order(groups, seed, epoch)
    assert sorted(order) == list(range(len(groups)))
    for name in {*groups} - {None}:
        places = [place for place, i in enumerate(order) if groups[i] == name]
        assert places == list(range(places[0], places[0] + len(places)))


@given(st.integers(0, 40), st.integers(0, 2**31), st.integers(1, 9), st.booleans())
def test_without_groups_the_order_is_the_one_drawn(count, seed, epoch, named):
    """Examples without a group, and groups of one."""
    groups = [str(i) for i in range(count)] if named else [None] * count
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    assert data_order(groups, seed, epoch) == drawn.tolist()


def test_groups_and_their_members_are_drawn_anew_in_every_epoch():
    groups = [str(i // 5) for i in range(50)]
    first, second = (data_order(groups, 0, epoch) for epoch in (1, 2))
    assert [groups[i] for i in first] != [groups[i] for i in second]
    within = [[i for i in order if groups[i] == "0"] for order in (first, second)]
    assert within[0] != within[1]
    assert first != data_order(groups, 1, 1)


def test_the_schedule():
    rates = [scheduled_rate(s, 10, 1.0, "linear", 0.2) for s in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[-1] == pytest.approx(1 / 8)
    assert scheduled_rate(9, 10, 1.0, "constant", 0.0) == 1.0
    assert scheduled_rate(5, 10, 1.0, "cosine", 0.0) == pytest.approx(0.5)


def test_a_restored_job_goes_on_as_if_never_stopped():
    examples = tiny_examples()
    decoder, job = tiny_job()
    for _ in range(2):
        train_step(decoder, [job], examples, Room(100))
    tensors = {name: t.clone() for name, t in job.tensors().items()}
    other, restored = tiny_job()
    restored.restore(tensors, 2)
    for _ in range(2):
        train_step(decoder, [job], examples, Room(100))
        train_step(other, [restored], examples, Room(100))
    assert same(job, restored)
    assert restored.step == 4


def test_shuffled_examples_do_not_wait_for_their_group():
    groups = [str(i // 4) for i in range(40)]
    orders = {}
    for order in ("grouped", "shuffled"):
        config = TrainingConfig(batch_size=40, epochs=1, order=order)
        parameters = {"a": torch.zeros(2, requires_grad=True)}
        orders[order] = TrainJob("a", parameters, config, rate=0.1, seed=3).batch(groups, 0)
    assert orders["grouped"] == data_order(groups, 3, 1)
    assert orders["shuffled"] == data_order([None] * 40, 3, 1)
    assert orders["grouped"] != orders["shuffled"]
