"""Layout: offsets, positions and prefixes of a packed row; and rows joined."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.decoder.rows import LAYOUTS, sequences_of

from tenbin.decoder.layout import Layout, SharedPrefix, joined
from tenbin.decoder.pack import PackedBatch, join


@given(LAYOUTS)
def test_positions_count_along_each_sequence(layout):
    positions = layout.positions()
    assert len(positions) == layout.num_tokens
    for tokens in sequences_of(layout):
        assert [positions[t] for t in tokens] == list(range(len(tokens)))


@given(LAYOUTS)
def test_the_longest_shared_is_that_of_prefix_and_branch(layout):
    shared = [
        len(tokens)
        for tokens in sequences_of(layout)
        if any(p.start == tokens[0] and tokens[-1] >= p.end for p in layout.prefixes)
    ]
    assert layout.longest_shared() == max(shared, default=0)


@given(st.lists(LAYOUTS, min_size=1, max_size=4))
def test_joined_rows_keep_their_sequences(layouts):
    whole = joined(layouts)
    start, expected = 0, []
    for layout in layouts:
        expected += [[start + t for t in tokens] for tokens in sequences_of(layout)]
        start += layout.num_tokens
    assert whole.num_tokens == start
    assert sequences_of(whole) == expected
    assert whole.positions() == [n for layout in layouts for n in layout.positions()]


@pytest.mark.parametrize(
    ("offsets", "prefixes", "message"),
    [
        ((1, 4), (), "begins at 0"),
        ((0, 4, 4), (), "not empty"),
        ((0, 4, 6), (SharedPrefix(0, 3, 6),), "begin and end with segments"),
        ((0, 4, 6), (SharedPrefix(0, 4, 4),), "is empty"),
        ((0, 4, 6), (SharedPrefix(4, 4, 6),), "is empty"),
    ],
)
def test_what_is_no_layout_is_refused(offsets, prefixes, message):
    with pytest.raises(AssertionError, match=message):
        Layout(offsets, prefixes)


def batch(layout, seed, predicts):
    ids = torch.randint(3, 97, (layout.num_tokens,), generator=torch.Generator().manual_seed(seed))
    places = torch.tensor(predicts)
    return PackedBatch(ids, torch.tensor(layout.positions()), layout, places, ids[places + 1], (seed,))


def test_joined_batches_keep_their_tokens_and_targets():
    packs = [
        batch(Layout((0, 3, 5)), 0, [0, 3]),
        batch(Layout((0, 2, 4, 7), (SharedPrefix(0, 2, 7),)), 1, [2, 4, 5]),
        batch(Layout((0, 2)), 2, [0]),
    ]
    whole = join(packs)
    assert whole.num_tokens == 14
    assert whole.num_targets == 6
    assert whole.layout == Layout((0, 3, 5, 7, 9, 12, 14), (SharedPrefix(5, 7, 12),))
    assert whole.examples == (0, 1, 2)
    assert torch.equal(whole.input_ids, torch.cat([p.input_ids for p in packs]))
    assert torch.equal(whole.labels, whole.input_ids[whole.predicts + 1])
    assert whole.predicts.tolist() == [0, 3, 7, 9, 10, 12]
    assert whole.position_ids.tolist() == whole.layout.positions()
    assert join(packs[:1]) is packs[0]
