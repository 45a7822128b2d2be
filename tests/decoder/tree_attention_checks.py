"""The kernels of short segments against attention run by run, interpreted on a CPU or run on a GPU."""

import torch
from tests.decoder.rows import layout_of

from tenbin.decoder import tree_attention, tree_attention_kernels
from tenbin.decoder.attend import Plan, attend, attend_backward

CPU = torch.device("cpu")
SCALE = 0.3
LAYOUTS = {
    "branches": layout_of([(20, [7, 13, 9]), (33, [1]), (0, [11, 60])]),
    "no-branches": layout_of([(0, [7, 63, 30, 31])]),
    "one-token": layout_of([(1, [1, 1]), (0, [1])]),
    "longer-than-a-tile": layout_of([(150, [40, 3]), (70, [100]), (0, [130])]),
}
SIZES = {"heads": (4, 4, 16), "grouped": (6, 2, 32), "one-key-head": (3, 1, 16)}


def check(on, layout, sizes, window=None, turn=False):
    """Output, logarithms of sums and gradients, of projections side by side in memory as blocks have them."""
    heads, kv_heads, width = sizes
    rows = layout.num_tokens
    qkv = on.rand(rows, (heads + 2 * kv_heads) * width)
    grad = on.rand(rows, heads, width, seed=1)
    split = [n * width for n in (heads, kv_heads, kv_heads)]
    here = [x.unflatten(1, (-1, width)) for x in qkv.split(split, dim=1)]
    there = [x.unflatten(1, (-1, width)) for x in on(qkv).split(split, dim=1)]
    plan = Plan.make(layout, CPU)
    expected = attend(*here, plan, scale=SCALE, window=window)
    bounds = tree_attention.bounds(layout).to(on.device)
    out, log_sum = tree_attention_kernels.forward(*there, bounds, scale=SCALE, window=window)
    on.close(out, expected.out)
    on.close(log_sum.t(), expected.log_sum)
    rest = {"scale": SCALE, "window": window}
    tables = [on.rand(rows, width, seed=n).cos() for n in (2, 3)] if turn else [None, None]
    found = tree_attention_kernels.backward(
        on(grad), *there, out, log_sum, bounds, **rest, tables=[on(x) for x in tables]
    )
    on.close(found, attend_backward(grad, *here, expected, plan, **rest, tables=tables))
