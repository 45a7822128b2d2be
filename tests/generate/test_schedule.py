"""Who is read when and where: nothing is lost, nothing overlaps, room comes back, nobody waits for ever."""

import random
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from tenbin.decoder.slots import Slots
from tenbin.generate.schedule import Request, Schedule, slots_needed

HEADER = tuple(range(40))


def prompt(seed, length, shared=0):
    return HEADER[:shared] + tuple(random.Random(seed).choices(range(50, 90), k=length))


class Book:
    """A cache that remembers what was written, and a model whose next token is a function of the sequence."""

    def __init__(self, size):
        self.slots = [None] * size

    def read(self, steps):
        for _, piece in steps:
            for i, token in enumerate(piece.ids):
                self.slots[piece.start + piece.before + i] = token
        return [self.following(piece) for _, piece in steps if piece.predicts]

    def following(self, piece):
        tokens = [t for start, end in (*piece.shared, piece.own) for t in self.slots[start:end]]
        return after(tokens)


def after(tokens):
    return random.Random(repr(tokens)).randrange(100)


def alone(request, end_ids):
    tokens, new = list(request.ids), []
    while True:
        token = after(tokens + new)
        if token in end_ids:
            return tuple(new), "stop"
        new.append(token)
        if len(new) == request.max_new_tokens:
            return tuple(new), "length"


def finish(schedule, book, end_ids=frozenset(), most_tokens=64, ahead=0):
    """All answers, and the number of tokens of each pass; up to `ahead` passes wait for their tokens."""
    answers, sizes, under_way = [], [], deque()
    while True:
        while len(under_way) <= ahead and (steps := schedule.next(most_tokens, 5 if under_way else 0)):
            slots = [p.start + p.before + i for _, p in steps for i in range(len(p.ids))]
            assert len(set(slots)) == len(slots), "two pieces write one slot"
            assert [place.number for place, _ in steps] == sorted(place.number for place, _ in steps)
            sizes.append(len(slots))
            assert sizes[-1] <= most_tokens
            schedule.begin(steps)
            under_way.append((steps, book.read(steps)))
        if not under_way:
            return answers, sizes
        steps, tokens = under_way.popleft()
        answers += schedule.settle(steps, tokens, end_ids, None)


REQUESTS = st.lists(
    st.tuples(
        st.integers(1, 30), st.sampled_from([0, 20, 35, 40]), st.integers(1, 9), st.sampled_from([None, "a"])
    ),
    min_size=1,
    max_size=14,
)


@settings(deadline=None)
@given(REQUESTS, st.integers(80, 300), st.integers(1, 70), st.integers(1, 6), st.integers(0, 2))
def test_every_request_is_answered_as_alone(asked, size, most_tokens, most_rows, ahead):
    requests = [
        Request(i, prompt(i % 5, length, shared), new, adapter)
        for i, (length, shared, new, adapter) in enumerate(asked)
    ]
    slots, book = Slots(size), Book(size)
    schedule = Schedule(requests, slots, most_rows=most_rows, most_shared=None)
    answers, _ = finish(schedule, book, frozenset(range(10)), most_tokens, ahead)
    assert sorted(a.index for a in answers) == list(range(len(requests)))
    for answer in answers:
        assert (answer.new_ids, answer.reason) == alone(requests[answer.index], range(10))
    assert slots.free == size
    assert slots.take(size) == 0


def test_a_shared_beginning_is_read_once_and_stays_until_the_last_is_answered():
    requests = [Request(i, prompt(i, 5, 40), 1 + i) for i in range(3)]
    slots, book = Slots(200), Book(200)
    schedule = Schedule(requests, slots, most_rows=8, most_shared=None)
    steps = schedule.next(500)
    assert [len(piece.ids) for _, piece in steps] == [40, 5, 5, 5]
    held = []
    while steps:
        schedule.begin(steps)
        schedule.settle(steps, book.read(steps), frozenset(), None)
        held.append(200 - slots.free)
        steps = schedule.next(500)
    assert held == [40 + 7 + 8, 40 + 8, 0]


@settings(deadline=None)
@given(REQUESTS, st.sampled_from([None, 30, 60]), st.integers(1, 70))
def test_a_cache_of_what_is_needed_holds_all_at_once(asked, most_shared, most_tokens):
    requests = [
        Request(i, prompt(i % 5, length, shared), new, adapter)
        for i, (length, shared, new, adapter) in enumerate(asked)
    ]
    size = slots_needed(requests, most_shared)
    assert max(len(r.ids) + r.max_new_tokens for r in requests) <= size
    assert size <= sum(len(r.ids) + r.max_new_tokens for r in requests)
    schedule = Schedule(requests, Slots(size), most_rows=len(requests), most_shared=most_shared)
    steps = schedule.next(10_000)
    assert sum(piece.predicts for _, piece in steps) == len(requests), "none has to wait"
    schedule = Schedule(requests, slots := Slots(size), most_rows=len(requests), most_shared=most_shared)
    _, sizes = finish(schedule, Book(size), frozenset(range(10)), most_tokens)
    assert sum(sizes) <= size, "nothing is read twice"
    assert slots.free == size


def test_a_cache_need_not_hold_a_shared_beginning_twice():
    requests = [Request(i, prompt(i, 5, 40), 3) for i in range(3)]
    assert slots_needed(requests, None) == 40 + 3 * (5 + 3)
    assert slots_needed(requests, 47) == 3 * (45 + 3)  # a window would cut it


def test_an_answer_that_ends_makes_room_at_once():
    """Two rows at a time fit; a third begins in the pass after the first has ended."""
    prompts = sorted(prompt(i, 10) for i in range(3))
    requests = [Request(i, prompts[i], (9, 1, 9)[i]) for i in range(3)]
    schedule, book = Schedule(requests, Slots(38), most_rows=8, most_shared=None), Book(38)
    first = schedule.next(100)
    assert [piece.ids for _, piece in first] == [requests[0].ids, requests[1].ids]
    schedule.begin(first)
    (answer,) = schedule.settle(first, book.read(first), frozenset(), None)
    assert answer.index == 1
    second = schedule.next(100)
    assert [len(piece.ids) for _, piece in second] == [1, 10]


def test_prompts_wait_until_some_can_be_read_at_once():
    """While eight answers are written, single prompts of a long queue do not interrupt them one by one."""
    requests = [Request(i, prompt(i, 20), 3 + 3 * (i % 4)) for i in range(64)]
    schedule, book = Schedule(requests, Slots(8 * 32), most_rows=8, most_shared=None), Book(8 * 32)
    _, sizes = finish(schedule, book, most_tokens=512)
    small = [size for size in sizes if size > 8]
    assert all(size >= 20 for size in small)
    assert max(sizes) >= 5 * 20


def test_regions_in_each_others_way_are_laid_down_anew():
    """What two prompts share lies in the middle; the second needs all the room around it."""
    short = [Request(0, prompt(1, 30), 2), Request(1, prompt(2, 20, 40), 2)]
    long = Request(2, prompt(3, 30, 40), 40)
    requests = [*short, long]
    size = 40 + 30 + 40 + 1
    slots, book = Slots(size), Book(size)
    schedule = Schedule(requests, slots, most_rows=2, most_shared=None)
    answers, _ = finish(schedule, book)
    assert {a.index: a.new_ids for a in answers} == {r.index: alone(r, ())[0] for r in requests}


def test_what_goes_on_from_a_lost_beginning_is_lost_with_it():
    requests = [*(Request(i, prompt(i, 5, 40), 4) for i in range(3)), Request(3, prompt(9, 6), 4)]
    slots, book = Slots(300), Book(300)
    schedule = Schedule(requests, slots, most_rows=2, most_shared=None)
    steps = schedule.next(10)
    lost = schedule.fail(steps[0][0], "no memory")
    assert sorted((a.index, a.reason, a.error) for a in lost) == [(i, "error", "no memory") for i in range(3)]
    assert slots.free == 300
    answers, _ = finish(schedule, book)
    assert [a.index for a in answers] == [3]
