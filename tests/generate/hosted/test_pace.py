import random

import pytest

from tenbin.generate.hosted.pace import Pace


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def run(pace, clock, tokens):
    """The times at which calls of so many tokens begin, one after the other, without delay of their own."""
    times = []
    for count in tokens:
        clock.now += pace.due_s(count)
        assert pace.due_s(count) == pytest.approx(0.0, abs=1e-9)
        pace.take(count)
        times.append(clock.now)
    return times


def test_no_budget_no_wait():
    clock = Clock()
    assert run(Pace(None, None, clock), clock, [10**6] * 50) == [100.0] * 50


def test_requests_are_spaced_evenly():
    clock = Clock()
    times = run(Pace(120, None, clock), clock, [1] * 10)
    assert times == pytest.approx([100 + 0.5 * n for n in range(10)])


def test_no_minute_holds_more_tokens_than_allowed():
    clock, chance = Clock(), random.Random(0)
    counts = [chance.randint(1, 400) for _ in range(300)]
    times = run(Pace(None, 1000, clock), clock, counts)
    for start in times:
        inside = sum(c for t, c in zip(times, counts, strict=True) if start <= t < start + 60 - 1e-6)
        assert inside <= 1000
    assert times[-1] - times[0] < 60 * (sum(counts) / 1000) * 1.7  # and it does not dawdle


def test_a_call_larger_than_a_minute_goes_alone():
    clock = Clock()
    times = run(Pace(None, 1000, clock), clock, [10, 5000, 10])
    assert times == pytest.approx([100.0, 160.0, 220.0])


def test_what_the_service_counted_replaces_the_estimate():
    clock = Clock()
    pace = Pace(None, 1000, clock)
    turn = pace.take(900)
    assert pace.due_s(500) == pytest.approx(60.0)
    pace.correct(turn, 300)
    assert pace.due_s(500) == 0.0


def test_a_pause_holds_for_everybody_and_the_longest_counts():
    clock = Clock()
    pace = Pace(None, None, clock)
    pace.pause(5.0)
    pace.pause(2.0)
    assert pace.due_s(1) == pytest.approx(5.0)
    clock.now += 5.0
    assert pace.due_s(1) == 0.0
