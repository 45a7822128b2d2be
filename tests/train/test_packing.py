"""Packing lays every token down as often as it must and no more, with the right targets."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenbin.models.encode import Encoded
from tenbin.train.packing import LEAST_SHARED, Bundle, alone, bundles, micro_batches, num_tokens, pack


def test_targets_are_the_tokens_after_the_prompt():
    examples = [Encoded((5, 6), (7, 8)), Encoded((9,), (10,))]
    batch = pack(examples, alone(examples), "response")
    assert batch.input_ids.tolist() == [5, 6, 7, 8, 9, 10]
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 0, 1]
    assert batch.layout.offsets == (0, 4, 6)
    assert batch.predicts.tolist() == [1, 2, 4]
    assert batch.labels.tolist() == [7, 8, 10]
    assert batch.examples == (0, 1)


def test_loss_on_all_takes_every_token_but_the_first_of_each():
    examples = [Encoded((5, 6), (7, 8)), Encoded((9,), (10,))]
    batch = pack(examples, alone(examples), "all")
    assert batch.predicts.tolist() == [0, 1, 2, 4]
    assert batch.labels.tolist() == [6, 7, 8, 10]


def test_a_shared_prefix_is_laid_down_once():
    examples = [Encoded((1, 2, 3), (4,)), Encoded((9,), (8, 7)), Encoded((1, 2, 5, 6), (7, 8))]
    batch = pack(examples, [Bundle((1,), 0), Bundle((0, 2), 2)], "response")
    assert batch.input_ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7]
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 2, 3, 4, 5, 0, 1, 2]
    assert batch.layout.offsets == (0, 2, 4, 8, 11)
    assert batch.layout.branches == (2,)
    assert batch.predicts.tolist() == [2, 5, 6, 8, 9]
    assert batch.labels.tolist() == [4, 7, 8, 8, 7]
    assert batch.examples == ()  # nothing is dropped where prefixes are shared


def test_a_shared_prefix_has_no_targets():
    examples = [Encoded((1, 2, 3), (4,)), Encoded((1, 2, 5), (6,))]
    with pytest.raises(AssertionError, match="no targets"):
        pack(examples, [Bundle((0, 1), 2)], "all")


def ids(least, most):
    return st.lists(st.integers(0, 1), min_size=least, max_size=most).map(tuple)


STEMS = [tuple(i % 3 for i in range(size)) for size in (7, 8, 9, 14)] + [(1,) * 10]
"""Beginnings, some of which begin with others of them."""
EXAMPLES = st.lists(
    st.builds(
        lambda stem, rest, target: Encoded((*stem, *rest), target),
        st.sampled_from([*STEMS, ()]),
        ids(1, 4),
        ids(1, 3),
    ),
    max_size=8,
)


def saved(examples, runs):
    return sum(map(len, examples)) - sum(num_tokens(examples, run) for run in runs)


def most_saved(examples, most_shared):
    """Over all ways to cut the sorted examples into runs, each sharing what its members begin with."""
    order = sorted(range(len(examples)), key=lambda i: (examples[i].prompt_ids, i))
    best = 0
    for cuts in range(2 ** max(0, len(order) - 1)):
        total, run = 0, order[:1]
        for place, i in enumerate(order[1:]):
            if cuts >> place & 1:
                total += _saved_by_sharing(examples, run, most_shared)
                run = []
            run.append(i)
        best = max(best, total + _saved_by_sharing(examples, run, most_shared))
    return best


def _saved_by_sharing(examples, run, most_shared):
    if len(run) < 2 or (most_shared is not None and max(len(examples[i]) for i in run) > most_shared):
        return 0
    prompts = [examples[i].prompt_ids for i in run]
    most = min(map(len, prompts)) - 1
    shared = next((n for n in range(most) if len({p[n] for p in prompts}) > 1), most)
    return (len(run) - 1) * shared if shared >= LEAST_SHARED else 0


@given(EXAMPLES, st.none() | st.integers(8, 22))
def test_bundles_save_the_most_tokens(examples, most_shared):
    found = bundles(examples, most_shared=most_shared)
    assert sorted(i for bundle in found for i in bundle.members) == list(range(len(examples)))
    assert saved(examples, found) == most_saved(examples, most_shared)
    for bundle in found:
        prompts = [examples[i].prompt_ids for i in bundle.members]
        assert len({p[: bundle.shared] for p in prompts}) == 1
        assert bundle.shared == 0 or all(len(p) > bundle.shared for p in prompts)  # a token of each is left
        if bundle.shared:
            assert bundle.shared >= LEAST_SHARED
            assert most_shared is None or max(len(examples[i]) for i in bundle.members) <= most_shared


@given(EXAMPLES, st.integers(1, 60), st.booleans())
def test_every_example_is_in_one_micro_batch(examples, most, share):
    together = bundles(examples) if share else alone(examples)
    rows = micro_batches(examples, together, most)
    members = [i for row in rows for bundle in row for i in bundle.members]
    assert sorted(members) == list(range(len(examples)))
    for row in rows:
        size = sum(num_tokens(examples, bundle) for bundle in row)
        assert size <= most or [len(bundle.members) for bundle in row] == [1]
        for bundle in row:  # a part of a bundle begins as the bundle does
            assert len({examples[i].prompt_ids[: bundle.shared] for i in bundle.members}) == 1


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60))
def test_micro_batches_are_few(lengths, most):
    """First fit in falling order: all rows but one are more than half full."""
    examples = [Encoded((0,) * (length - 1), (0,)) for length in lengths]
    rows = micro_batches(examples, alone(examples), most)
    assert sum(sum(num_tokens(examples, b) for b in row) * 2 <= most for row in rows) <= 1


def test_a_bundle_longer_than_a_row_is_split_and_its_prefix_repeated():
    examples = [Encoded((*range(10), 20 + i), (1, 2)) for i in range(5)]
    (whole,) = bundles(examples)
    assert (whole.shared, num_tokens(examples, whole)) == (10, 25)
    rows = micro_batches(examples, [whole], 16)
    assert [[len(b.members) for b in row] for row in rows] == [[2], [2], [1]]
    assert [b.shared for row in rows for b in row] == [10, 10, 0]
    assert all(sum(num_tokens(examples, b) for b in row) <= 16 for row in rows)


@given(EXAMPLES, st.integers(5, 60))
def test_a_row_is_laid_out_as_its_bundles_say(examples, most):
    """Every example is found again by its branch and its prefix, at the positions it has alone."""
    for row in micro_batches(examples, bundles(examples), most):
        batch = pack(examples, row, "response")
        tokens, positions = batch.input_ids.tolist(), batch.position_ids.tolist()
        assert len(tokens) == sum(num_tokens(examples, b) for b in row) == batch.layout.num_tokens
        segments = list(pairwise(batch.layout.offsets))
        shared = [bundle for bundle in row if bundle.shared]
        prefixes = dict(zip(shared, segments, strict=False))
        place, targets = len(shared), []
        for bundle in (*shared, *(bundle for bundle in row if not bundle.shared)):
            prefix = range(*prefixes[bundle]) if bundle.shared else range(0)
            for i in bundle.members:
                whole = [*prefix, *range(*segments[place])]
                place += 1
                assert [tokens[t] for t in whole] == [*examples[i].prompt_ids, *examples[i].target_ids]
                assert [positions[t] for t in whole] == list(range(len(whole)))
                first = len(examples[i].prompt_ids)
                targets += [(whole[n - 1], tokens[whole[n]]) for n in range(first, len(whole))]
        assert place == len(segments)
        assert targets == list(zip(batch.predicts.tolist(), batch.labels.tolist(), strict=True))
