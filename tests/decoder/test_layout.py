"""Layout: offsets, positions and prefixes of a packed row; and rows joined."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.decoder.rows import LAYOUTS, sequences_of

from tenbin.decoder.layout import Layout, joined
from tenbin.decoder.pack import PackedBatch, join


@given(LAYOUTS)
def test_positions_count_along_each_sequence(layout):
    positions = layout.positions()
    assert len(positions) == layout.num_tokens
    for tokens in sequences_of(layout):
        assert [positions[t] for t in tokens] == list(range(len(tokens)))


@given(LAYOUTS)
def test_the_longest_shared_is_that_of_prefix_and_branch(layout):
    first, count = len(layout.branches), sum(layout.branches)
    shared = [len(tokens) for tokens in sequences_of(layout)[first : first + count]]
    assert layout.longest_shared() == max(shared, default=0)


@given(LAYOUTS)
def test_branches_meet_their_prefixes(layout):
    queries, keys = layout.across()
    met = [
        (set(range(*rows)), set(range(*columns)))
        for rows, columns in zip(itertools.pairwise(queries), itertools.pairwise(keys), strict=True)
    ]
    first, found = len(layout.branches), [(set(), set()) for _ in layout.branches]
    whole = sequences_of(layout)
    owners = [n for n, n_branches in enumerate(layout.branches) for _ in range(n_branches)]
    for owner, tokens in zip(owners, whole[first:], strict=False):
        found[owner] = (found[owner][0] | (set(tokens) - set(whole[owner])), set(whole[owner]))
    assert met == found


@given(st.lists(LAYOUTS, min_size=1, max_size=4))
def test_joined_rows_keep_their_sequences(layouts):
    whole, runs = joined(layouts)
    places = [[None] * layout.num_tokens for layout in layouts]
    for run in runs:
        for t in range(run.start, run.end):
            places[run.row][t] = run.place + t - run.start
    assert sorted(p for row in places for p in row) == list(range(whole.num_tokens))
    assert [run.span[0] for run in runs] == sorted(run.span[0] for run in runs)
    expected = [
        [row[t] for t in tokens]
        for layout, row in zip(layouts, places, strict=True)
        for tokens in sequences_of(layout)
    ]
    assert sorted(sequences_of(whole)) == sorted(expected)
    positions = whole.positions()
    for layout, row in zip(layouts, places, strict=True):
        assert [positions[p] for p in row] == layout.positions()


@pytest.mark.parametrize(
    ("offsets", "branches", "message"),
    [
        ((1, 4), (), "begins at 0"),
        ((0, 4, 4), (), "not empty"),
        ((0, 4, 6), (2,), "branches are missing"),
        ((0, 4, 6), (0,), "has a branch"),
    ],
)
def test_what_is_no_layout_is_refused(offsets, branches, message):
    with pytest.raises(AssertionError, match=message):
        Layout(offsets, branches)


def batch(layout, seed, predicts):
    ids = torch.randint(3, 97, (layout.num_tokens,), generator=torch.Generator().manual_seed(seed))
    places = torch.tensor(predicts)
    return PackedBatch(ids, torch.tensor(layout.positions()), layout, places, ids[places + 1], (seed,))


def test_joined_batches_keep_their_tokens_and_targets():
    packs = [
        batch(Layout((0, 3, 5)), 0, [0, 3]),
        batch(Layout((0, 2, 4, 7, 9), (2,)), 1, [2, 4, 5, 7]),
        batch(Layout((0, 2)), 2, [0]),
    ]
    whole, runs = join(packs)
    assert whole.layout == Layout((0, 2, 4, 7, 10, 12, 14, 16), (2,))
    assert [(run.row, run.start, run.end, run.place) for run in runs] == [
        (1, 0, 2, 0),
        (1, 2, 7, 2),
        (0, 0, 5, 7),
        (1, 7, 9, 12),
        (2, 0, 2, 14),
    ]
    assert whole.examples == (0, 1, 2)
    for run in runs:
        assert torch.equal(whole.input_ids[slice(*run.span)], packs[run.row].input_ids[run.start : run.end])
    assert torch.equal(whole.labels, torch.cat([p.labels for p in packs]))
    assert torch.equal(whole.labels, whole.input_ids[whole.predicts + 1])
    assert whole.predicts.tolist() == [7, 10, 2, 4, 5, 12, 14]
    assert whole.position_ids.tolist() == whole.layout.positions()
    assert join(packs[:1])[0] is packs[0]
