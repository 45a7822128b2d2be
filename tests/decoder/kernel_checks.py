"""The Triton kernels against their plain counterparts, interpreted on a CPU or run on a GPU."""

from dataclasses import dataclass

import pytest
import torch

from tenbin.decoder import joining, joining_kernels, kernels, low_gradient_kernels, pointwise
from tenbin.decoder.low_rank import LowRank


@dataclass(frozen=True)
class Place:
    """Where the kernels run, in which type, and how near they must come to float32 on a CPU."""

    device: str
    dtype: torch.dtype
    tolerance: float

    def __call__(self, x):
        """A copy there; None stays None."""
        if isinstance(x, LowRank):
            return LowRank(self(x.low), self(x.b), x.parts)
        return None if x is None else x.to(self.device, self.dtype, copy=True)

    def rand(self, *shape, seed=0, std=1.0):
        """On the CPU in float32, rounded to the type."""
        values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * std
        return values.to(self.dtype).float()

    def low_rank(self, rows, width, parts, rank):
        return LowRank(self.rand(rows, parts * rank, seed=3), self.rand(width, rank, seed=4), parts)

    def close(self, found, expected, tolerance=None):
        assert found.shape == expected.shape
        found, expected = found.cpu().float(), expected.cpu().float()
        error = (found - expected).norm() / expected.norm()
        assert error < (tolerance or self.tolerance), error


NORMS = [
    pytest.mark.parametrize(("layer", "offset"), [(False, False), (False, True), (True, False)]),
    pytest.mark.parametrize("shape", [(5, 48), (5, 3, 16)]),
]
HEADS = [
    pytest.mark.parametrize("heads", [(4, 4, 4), (4, 2, 2), (3, 0, 0)]),
    pytest.mark.parametrize("rank", [0, 3, 16, 24]),
    pytest.mark.parametrize("turn", [True, False]),
]
ACTIVATIONS = [
    pytest.mark.parametrize("kind", ["silu", "gelu_tanh"]),
    pytest.mark.parametrize("gated", [True, False]),
    pytest.mark.parametrize("rank", [0, 4, 20]),
]
SUMS = [pytest.mark.parametrize("rank", [0, 5]), pytest.mark.parametrize("residual", [True, False])]

LOW_GRADIENTS = [
    pytest.mark.parametrize(
        ("widths", "rank"),
        [((96, 32, 32), 3), ((70, 70), 16), ((130,), 8), ((64, 64), 40), ((96, 48, 48), 64)],
    ),
    pytest.mark.parametrize("masked", [True, False]),
]


def over(marks):
    """All combinations."""

    def decorate(test):
        for mark in marks:
            test = mark(test)
        return test

    return decorate


def check_norms(on, layer, offset, shape):
    """Rows that are parts of wider ones."""
    width, inner = shape[-1], shape[1] * (shape[2] if len(shape) == 3 else 1)
    wider = on.rand(shape[0], 2 * inner, seed=1)

    def part(whole):
        rows = whole[:, :inner]
        return rows if len(shape) == 2 else rows.unflatten(1, (-1, width))

    x, there = part(wider), part(on(wider))
    grad, bypass = on.rand(*shape, seed=2), on.rand(*shape, seed=5)
    weight, bias = on.rand(width, seed=6), on.rand(width, seed=7) if layer else None
    on.close(
        kernels.norm(there, on(weight), on(bias), 1e-5, offset),
        pointwise.norm(x, weight, bias, 1e-5, unit_offset=offset),
    )
    for extra in (None, bypass):
        found = kernels.norm_backward(there, on(grad), on(extra), on(weight), on(bias), 1e-5, offset)
        expected = pointwise.norm_backward(x, grad, extra, weight, bias, 1e-5, unit_offset=offset)
        for a, b in zip(found, expected, strict=True):
            on.close(a, b)


def check_quantized_norms(on, layer, offset, width, tolerance):
    """The norm is that without, and its rows are its own quantized."""
    x, weight, bias = on.rand(5, width), on.rand(width, seed=6), on.rand(width, seed=7) if layer else None
    there = on(x), on(weight), on(bias), 1e-5, offset
    n, bits, scale = kernels.norm_quantized(*there)
    on.close(n, kernels.norm(*there))  # its sums may be added in another order
    again = kernels.quantized(n, None)
    assert torch.equal(bits.view(torch.uint8), again[0].view(torch.uint8))
    assert torch.equal(scale, again[1])
    expected = pointwise.norm_quantized(x, weight, bias, 1e-5, unit_offset=offset)
    on.close(n, expected[0])
    on.close(bits.float() * scale, expected[1].float() * expected[2], tolerance)


def check_heads(on, heads, rank, turn):
    """Rows beyond a block's 32, a head dimension that is no power of two."""
    rows, d = 37, 24
    qkv = on.rand(rows, sum(heads) * d)
    cos, sin = (on.rand(rows, d, seed=8), on.rand(rows, d, seed=9)) if turn else (None, None)
    parts = [n * d for n in heads if n]
    low = None
    expected = qkv.clone()
    if rank:
        low = LowRank(on.rand(rows, len(parts) * rank, seed=3), on.rand(sum(parts), rank, seed=4), len(parts))
        start = 0
        for p, width in enumerate(parts):
            of_part = low.low[:, p * rank : (p + 1) * rank]
            expected[:, start : start + width] += of_part @ low.b[start : start + width].t()
            start += width
    pointwise.finish_heads_(expected, None, d, heads, cos, sin)
    found = on(qkv)
    kernels.finish_heads_(found, on(low), d, heads, on(cos), on(sin))
    on.close(found, expected)


def check_heads_of_one_map(on):
    """GPT-2's map makes queries, keys and values at once: one adapter for all."""
    qkv, low = on.rand(5, 3 * 32), on.low_rank(5, 96, 1, 4)
    found = on(qkv)
    kernels.finish_heads_(found, on(low), 16, (2, 2, 2), None, None)
    on.close(found, pointwise.completed(qkv, low))


def check_gradients_of_heads(on, turn):
    rows, d = 35, 24
    dq, dk = on.rand(rows, 4, d), on.rand(rows, 2, d, seed=1)
    dv = on.rand(2, rows, d, seed=2)
    cos, sin = (on.rand(rows, d, seed=8), on.rand(rows, d, seed=9)) if turn else (None, None)
    found = kernels.heads_gradient(
        on(dq), on(dk), on(dv).transpose(0, 1), on(cos), on(sin)
    )  # as cuDNN may lay it out
    on.close(found, pointwise.heads_gradient(dq, dk, dv.transpose(0, 1), cos, sin))


def check_activations(on, kind, gated, rank, rows=35):
    width = 150
    up = on.rand(rows, width * (2 if gated else 1))
    low = on.low_rank(rows, up.shape[1], 2 if gated else 1, rank) if rank else None
    tolerance = max(1e-4, on.tolerance)
    expected = pointwise.activation(up, kind, gated=gated, low=low)
    on.close(kernels.activation(on(up), kind, gated, on(low)), expected, tolerance)
    grad, dlow, a = on.rand(rows, width, seed=5), on.rand(rows, 6, seed=6), on.rand(6, width, seed=7)
    for more in ((None, None), (dlow, a)):
        found, plain = (on(up), on(grad)), (up.clone(), grad.clone())
        kernels.activation_backward_(*found, kind, gated, on(low), on(more[0]), on(more[1]))
        pointwise.activation_backward_(*plain, kind, gated=gated, low=low, dlow=more[0], a=more[1])
        for f, e in zip(found, plain, strict=True):
            on.close(f, e, tolerance)


def check_sums(on, rank, residual, rows=35):
    y, other = on.rand(rows, 150), on.rand(rows, 150, seed=1) if residual else None
    low = on.low_rank(rows, 150, 1, rank) if rank else None
    found, expected = on(y), y.clone()
    kernels.add(found, on(other), on(low), found)
    pointwise.add(expected, other, low, expected)
    on.close(found, expected)


def check_merge(on, bounded):
    """Two queries saw no key of the other kind, and the rows outside hold what they may not hand on."""
    out, other = on.rand(19, 6, 24), on.rand(19, 6, 24, seed=1)
    sums, more = on.rand(6, 19, seed=2).float().t() * 5, on.rand(19, 6, seed=3).float() * 5
    more[8], more[9], other[8:10] = torch.inf, -torch.inf, torch.nan
    rows = joining.Rows(0, 19, torch.tensor([0, 19], dtype=torch.int32))
    if bounded:
        rows = joining.Rows(4, 13, torch.tensor([4, 6, 13, 13], dtype=torch.int32))
        other[:4], other[13:] = torch.nan, torch.nan
    expected, expected_sums = out.clone(), sums.clone()
    found, found_sums = on(out.clone()), sums.to(on.device).t().clone().t()
    bounds = rows.bounds.to(on.device) if bounded else None
    joining_kernels.merge_(found, found_sums, on(other), more.to(on.device), bounds)
    joining.merge_(expected, expected_sums, other, more, rows)
    on.close(found, expected)
    on.close(found_sums, expected_sums, 1e-5)
    assert torch.equal(expected[8:10], out[8:10])
    assert torch.equal(found[8:10].cpu().float(), out[8:10])


def check_added_rows(on):
    total, part = on.rand(19, 6, 24), on.rand(19, 6, 24, seed=1)
    part[:4], part[13:] = torch.nan, torch.nan
    rows = joining.Rows(4, 13, torch.tensor([4, 6, 13, 13], dtype=torch.int32))
    found, expected = on(total.clone()), total.clone()
    joining_kernels.add_rows_(found, on(part), rows.bounds.to(on.device))
    joining.add_rows_(expected, part, rows)
    on.close(found, expected)
    assert torch.equal(found[:4].cpu().float(), total[:4].to(found.dtype).float())


def check_quantization(on, scaled, tolerance, width=9000):
    x = on.rand(7, width) * torch.logspace(-6, 6, 7)[:, None].to(on.dtype).float()
    x = x.to(on.dtype).float()
    by = on.rand(width, seed=1).abs() if scaled else None
    found = kernels.quantized(on(x), by if by is None else by.to(on.device))
    expected = pointwise.quantized(x, by)
    on.close(found[1], expected[1], 1e-6)
    on.close(found[0].float() * found[1], expected[0].float() * expected[1], tolerance)


def check_rows_that_overflow(on):
    """What is no number stays none, instead of a large one."""
    x = on.rand(3, 700)
    x[1, 5], x[2, 600] = torch.nan, torch.inf
    found, scale = kernels.quantized(on(x), None)
    back = found.float() * scale
    assert back[0].isfinite().all()
    assert back[1].isnan().any()
    assert back[2].isnan().any()


def check_low_gradients(on, widths, rank, masked, rows=101):
    """Columns of parts that no tile divides, in rows of a wider matrix; dB is added to what is there."""
    columns, parts = sum(widths), len(widths)
    starts = [sum(widths[:p]) for p in range(parts)]
    wider = on.rand(rows, columns + 8)
    low = LowRank(on.rand(rows, parts * rank, seed=1), on.rand(columns, rank, seed=2), parts)
    mask = (on.rand(rows, parts * rank, seed=3) > 0).float() if masked else None
    found_b = torch.full((columns, rank), 2.0, device=on.device)
    expected_b = torch.full((columns, rank), 2.0)
    found = kernels.low_gradients(on(wider)[:, :columns], on(low), starts, on(mask), found_b)
    expected = pointwise.low_gradients(wider[:, :columns], low, starts, mask, expected_b)
    on.close(found, expected)
    on.close(found_b, expected_b, 1e-5)  # added up in float32


def check_low_gradients_in_runs(on, monkeypatch):
    """Sums that do not fit the scratch at once; the same to the last bit each time."""
    wider = on.rand(300, 200)
    low = on.low_rank(300, 200, 2, 16)
    expected_b = torch.zeros(200, 16)
    expected = pointwise.low_gradients(wider, low, [0, 100], None, expected_b)
    monkeypatch.setattr(low_gradient_kernels, "SCRATCH", 200_000)
    results = []
    for _ in range(2):
        found_b = torch.zeros(200, 16, device=on.device)
        found = kernels.low_gradients(on(wider), on(low), [0, 100], None, found_b)
        on.close(found, expected)
        on.close(found_b, expected_b, 1e-5)
        results.append((found, found_b))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def check_transposition(on):
    x = torch.randint(0, 255, (70, 130), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(kernels.transposed(x.to(on.device)).cpu(), x.t())


def check_cross_entropy(on):
    """Labels at the ends of the kernel's runs."""
    logits, scales = on.rand(6, 9001, std=4), on.rand(6, seed=1)
    labels = torch.tensor([0, 9000, 5, 8191, 8192, 77])
    whole, places = on(logits), labels.to(on.device)
    on.close(
        kernels.cross_entropy_(whole, places, None), pointwise.cross_entropy_(logits.clone(), labels, None)
    )
    assert torch.equal(whole.cpu().float(), logits)
    expected = logits.clone()
    kernels.cross_entropy_(whole, places, scales.to(on.device))
    pointwise.cross_entropy_(expected, labels, scales)
    on.close(whole, expected)
