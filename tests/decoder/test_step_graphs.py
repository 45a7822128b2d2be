"""What a graph's pass is given: rows that are filled up change nothing. The graphs themselves: tests/gpu."""

import copy
import gc
import weakref
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tests.decoder.exact import exact_model, with_adapters

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.reader import Reader
from tenbin.decoder.reading import Piece
from tenbin.decoder.step_graphs import LEAST_KEYS, Step, StepGraphs, rounded_rows


def test_few_sizes():
    assert [rounded_rows(n) for n in (1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 48, 49, 500)] == [
        *(1, 2, 3, 4, 6, 6, 8, 12, 12, 16, 48, 64, 512),
    ]
    assert all(rounded_rows(n) >= n for n in range(1, 600))
    assert len({rounded_rows(n) for n in range(1, 513)}) == 18


SHARED, DEEPER = (0, 20), (20, 26)


def history():
    """Two beginnings, one behind the other, and what is read before the step."""
    yield Piece(range(3, 23), 0, 0, predicts=False)
    yield Piece(range(40, 46), 20, 0, (SHARED,), predicts=False)
    for i, shared in enumerate(PATHS):
        yield Piece(range(50 + i, 53 + 2 * i), 30 + 20 * i, 0, shared, predicts=False)


PATHS = [(SHARED, DEEPER), (SHARED, DEEPER), (SHARED,), (), ()]


def newest(i):
    return Piece([7 + i], 30 + 20 * i, 3 + i, PATHS[i])


def on_the_host(meeting):
    """A meeting of a graph as a CPU takes it."""
    starts, counts = meeting.first_keys.tolist()[:-1], meeting.num_keys.tolist()
    keys = tuple((start, start + count) for start, count in zip(starts, counts, strict=True))
    return replace(meeting, queries=tuple(meeting.cumulative_queries.tolist()), keys=keys)


@pytest.mark.parametrize("rows", [(0, 1, 2, 3, 4), (1,), (0, 1, 2), (3, 4), (0, 2, 4)])
@pytest.mark.parametrize("adapters", [("a", "a", "a", "a", "a"), ("a", "a", "a", "b", None)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_rows_that_are_filled_up_predict_the_same(family, adapters, rows):
    model = with_adapters(exact_model(family), "a", "b")
    decoder = Decoder(model)
    names = ("a", "b") if "b" in adapters else ("a",)
    decoder.use(names)
    reader = Reader(decoder, 140)
    for i, piece in enumerate(history()):
        reader.read([replace(piece, adapter=adapters[max(0, i - 2)])])
    pieces = [replace(newest(i), adapter=adapters[i]) for i in rows]
    pieces.sort(key=lambda piece: names.index(piece.adapter) if piece.adapter else -1)
    other = Reader(decoder, 140)
    other.cache = copy.deepcopy(reader.cache)
    expected = reader.read(pieces).ids()
    step = Step.make(pieces, names, unread=other.cache.unread)
    assert step.sizes.rows == rounded_rows(len(rows))
    assert step.sizes.longest_keys == LEAST_KEYS
    assert step.sizes.names == (names if names == ("a",) else None)
    reading = step.reading(torch.from_numpy(step.tokens), torch.from_numpy(step.spans))
    for meeting, (runs, queries) in zip(reading.plan.shared, step.sizes.levels, strict=True):
        lengths = [b - a for a, b in pairwise(meeting.cumulative_queries.tolist())]
        assert len(lengths) == runs
        assert max(lengths) <= queries
    plan = replace(
        reading.plan,
        own=on_the_host(reading.plan.own),
        shared=tuple(on_the_host(meeting) for meeting in reading.plan.shared),
    )
    found = other.run(replace(reading, plan=plan)).tolist()
    assert found[: len(rows)] == expected
    for mine, theirs in zip(other.cache.keys, reader.cache.keys, strict=True):
        slots = [piece.start + piece.before for piece in pieces]
        assert torch.allclose(mine[slots], theirs[slots], rtol=1e-12)
        assert mine[slots].abs().min() > 0


def test_a_cache_goes_with_its_reader_at_once():
    """Training begins again right after: the cache may not wait for Python to find it in a circle."""
    decoder = Decoder(exact_model("llama"))
    reader = Reader(decoder, 140)
    reader.graphs = StepGraphs(decoder, reader.cache.unread)
    reader.read([Piece(range(3, 23), 0, 0)])
    reader.read([Piece([5], 0, 20)])
    cache = weakref.ref(reader.cache)
    gc.disable()
    try:
        del reader
        assert cache() is None
    finally:
        gc.enable()
