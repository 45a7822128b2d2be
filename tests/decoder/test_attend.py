"""Attention over a packed row against PyTorch's with a mask, for random layouts."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decoder.rows import LAYOUTS, sides, visible

from tenbin.decoder import attend as attend_module
from tenbin.decoder import plain_attention
from tenbin.decoder.attend import Plan, attend, attend_backward
from tenbin.decoder.layout import Layout
from tenbin.decoder.pointwise import heads_gradient

CPU = torch.device("cpu")
HEADS = [(4, 4), (4, 2), (3, 1)]
WIDTH = 8
SCALE = 0.3


def heads(rows, num_heads, num_kv_heads, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    sizes = (num_heads, num_kv_heads, num_kv_heads, num_heads)
    return [torch.randn(rows, n, WIDTH, generator=generator, dtype=torch.float64).to(dtype) for n in sizes]


def plain(q, k, v, grad, layout, window):
    """Output and gradients by PyTorch's attention with the whole mask."""
    q, k, v = (x.detach().clone().requires_grad_() for x in (q, k, v))
    groups = q.shape[1] // k.shape[1]
    rows = (x.transpose(0, 1) for x in (q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)))
    out = torch.nn.functional.scaled_dot_product_attention(
        *rows, attn_mask=visible(layout, window), scale=SCALE
    ).transpose(0, 1)
    out.backward(grad)
    return out.detach(), (q.grad, k.grad, v.grad)


def check(layout, sizes, window, seed):
    q, k, v, grad = heads(layout.num_tokens, *sizes, seed=seed)
    expected, gradients = plain(q, k, v, grad, layout, window)
    plan = Plan.make(layout, CPU)
    attended = attend(q, k, v, plan, scale=SCALE, window=window)
    assert torch.allclose(attended.out, expected, rtol=0, atol=1e-12)
    found = attend_backward(grad, q, k, v, attended, plan, scale=SCALE, window=window)
    for one, other in zip(sides(found, *sizes), gradients, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(LAYOUTS, st.sampled_from(HEADS), st.integers(0, 99))
def test_output_and_gradients(layout, sizes, seed):
    check(layout, sizes, None, seed)


@settings(deadline=None)
@given(LAYOUTS, st.sampled_from(HEADS), st.integers(0, 8), st.integers(0, 99))
def test_output_and_gradients_within_a_window(layout, sizes, more, seed):
    check(layout, sizes, max(1, layout.longest_shared() + more), seed)


@settings(deadline=None)
@given(LAYOUTS, st.sampled_from(HEADS), st.none() | st.integers(0, 8), st.integers(0, 99))
def test_the_plain_kind_gives_the_same(layout, sizes, more, seed):
    """What a GPU or type without flash attention gets."""
    window = None if more is None else max(1, layout.longest_shared() + more)

    with patch.object(attend_module, "cpu_attention", plain_attention):
        check(layout, sizes, window, seed)


def test_a_window_that_a_prefix_and_branch_just_fit():
    layout = Layout((0, 5, 8, 9, 30), (2,))
    check(layout, (4, 2), 8, 0)


def test_a_window_that_would_cut_a_shared_prefix_is_refused():
    layout = Layout((0, 5, 8, 9), (2,))
    q, k, v, _ = heads(9, 4, 2)
    with pytest.raises(AssertionError, match="would cut a shared prefix"):
        attend(q, k, v, Plan.make(layout, CPU), scale=SCALE, window=7)


def test_the_logarithms_of_sums_are_those_of_all_that_is_seen():
    layout = Layout((0, 5, 8, 9, 14), (2,))
    q, k, v, _ = heads(14, 3, 1)
    found = attend(q, k, v, Plan.make(layout, CPU), scale=SCALE, window=None).log_sum
    scores = torch.einsum("thd,sd->ths", q, k[:, 0]) * SCALE
    expected = scores.masked_fill(~visible(layout)[:, None], -torch.inf).logsumexp(-1)
    assert torch.allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("window", [None, 6])
def test_what_others_hold_is_not_seen(window):
    """Other sequences are changed: not a bit of this one's output moves."""
    layout = Layout((0, 3, 6, 5 + 3, 20), (2,))
    q, k, v, _ = heads(20, 4, 2)
    before = attend(q, k, v, Plan.make(layout, CPU), scale=SCALE, window=window).out
    k[6:], v[6:] = 9.0, 9.0  # the second branch and the text after it
    after = attend(q, k, v, Plan.make(layout, CPU), scale=SCALE, window=window).out
    assert torch.equal(before[:6], after[:6])
    assert not torch.allclose(before[6:], after[6:])


def test_gradients_are_turned_back():
    layout = Layout((0, 4, 6, 9), (2,))
    q, k, v, grad = heads(9, 4, 2)
    plan = Plan.make(layout, CPU)
    attended = attend(q, k, v, plan, scale=SCALE, window=None)
    angles = torch.rand(9, WIDTH // 2, dtype=torch.float64).repeat(1, 2)
    tables = angles.cos(), angles.sin()
    plain = attend_backward(grad, q, k, v, attended, plan, scale=SCALE, window=None)
    turned = attend_backward(grad, q, k, v, attended, plan, scale=SCALE, window=None, tables=tables)
    expected = heads_gradient(*sides(plain, 4, 2), *tables)
    assert torch.equal(turned, expected)
    assert not torch.allclose(turned, plain)


def test_bfloat16_is_within_its_rounding():
    layout = Layout((0, 40, 60, 90), (2,))
    exact = heads(90, 4, 2)
    expected, gradients = plain(*(x.bfloat16().double() for x in exact), layout, None)
    q, k, v, grad = (x.bfloat16() for x in exact)
    plan = Plan.make(layout, CPU)
    attended = attend(q, k, v, plan, scale=SCALE, window=None)
    found = attend_backward(grad, q, k, v, attended, plan, scale=SCALE, window=None)
    for one, other in zip((attended.out, *sides(found, 4, 2)), (expected, *gradients), strict=True):
        assert one.dtype == torch.bfloat16
        assert (one.double() - other).norm() < 0.01 * other.norm()
