"""Attention of short segments in one pass: what its bounds say, and its kernels in Triton's interpreter."""

import os

import pytest
import torch
from hypothesis import given, settings

if torch.cuda.is_available():  # and to interpret them would spoil the tests of the GPU, in the same process
    pytest.skip("tests/gpu runs the kernels themselves", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

from tests.decoder import tree_attention_checks as checks
from tests.decoder.kernel_checks import Place
from tests.decoder.rows import LAYOUTS, layout_of, visible

from tenbin.decoder import tree_attention

HERE = Place("cpu", torch.float32, 2e-5)


@settings(deadline=None)
@given(LAYOUTS)
def test_bounds_tell_what_every_token_sees(layout):
    own, _, first, last, _, _ = tree_attention.bounds(layout).long()
    rows, keys = torch.arange(layout.num_tokens)[:, None], torch.arange(layout.num_tokens)[None]
    within = (keys >= own[:, None]) & (keys <= rows)
    assert torch.equal(within | ((keys >= first[:, None]) & (keys < last[:, None])), visible(layout))


@settings(deadline=None)
@given(LAYOUTS)
def test_bounds_tell_who_sees_every_token(layout):
    """Up to the ends of its own segment, and in the branches."""
    _, end, _, _, first, last = tree_attention.bounds(layout).long()
    rows, keys = torch.arange(layout.num_tokens)[:, None], torch.arange(layout.num_tokens)[None]
    within = (rows >= keys) & (rows < end[None])
    assert torch.equal(within | ((rows >= first[None]) & (rows < last[None])), visible(layout))


def test_rows_that_are_taken():
    longest = tree_attention.LONGEST
    assert tree_attention.takes(layout_of([(20, [7, 13])]))
    assert tree_attention.takes(layout_of([(longest, [7]), (0, [longest])]))
    assert not tree_attention.takes(layout_of([(longest + 1, [7])]))
    assert not tree_attention.takes(layout_of([(20, [longest + 1])]))
    assert not tree_attention.takes(layout_of([(0, [20])]))


@pytest.mark.parametrize("layout", checks.LAYOUTS.values(), ids=checks.LAYOUTS)
@pytest.mark.parametrize("sizes", checks.SIZES.values(), ids=checks.SIZES)
@pytest.mark.parametrize("turn", [True, False])
def test_kernels(layout, sizes, turn):
    checks.check(HERE, layout, sizes, turn=turn)


def test_kernels_within_a_window():
    checks.check(HERE, checks.LAYOUTS["no-branches"], checks.SIZES["grouped"], window=10)
