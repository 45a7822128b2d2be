"""Attention over a packed row of short segments and shared prefixes as Triton kernels: nothing is joined.

A tile of rows may hold several segments. The keys that its rows see are two runs of the row: from where the
first row's segment begins to the tile's end, and the prefixes of its branches, which stand side by side. The
other way round, the rows that see a tile of keys are two runs. So every kernel is one loop over two runs, and
what a row sees of them is decided by the bounds of its token.

Source: flash attention (Dao et al. 2022, arXiv 2205.14135), its backward pass in two kernels.
"""

# fmt: off

import torch
import triton
import triton.language as tl
from torch import Tensor

from tenbin.decoder.low_rank_kernels import precision

# `bounds` (6, T) int32 of every token: its segment from 0 to 1, its prefix from 2 to 3, and, where it is a
# prefix's, the branches that see it from 4 to 5; what there is none of begins and ends at 0.
_FORWARD = (64, 16, 4, 3)
_QUERIES = (64, 32, 4, 3)
_KEYS = (32, 64, 4, 1)
"""Rows and keys of a tile, warps, stages: the quickest of some ten on an H200 (32 heads of 128)."""


@triton.jit
def _run(starts, ends):
    """From the first start to the last end of those that are not empty; where all are, it ends before it starts."""
    return tl.min(tl.where(ends > starts, starts, 2147483647), 0), tl.max(ends, 0)


@triton.jit
def _sees(rows, keys, own, first, last, is_own, end, window, WINDOW: tl.constexpr):
    """Whether rows see keys; the arguments broadcast against one another."""
    within = (keys >= own) & (keys <= rows)
    if WINDOW:
        within = within & (rows - keys < window)
    before = (keys >= first) & (keys < last)
    return tl.where(is_own, within, before) & (keys < end)


@triton.jit
def _keys_of_rows(bounds, rows, there, begin, T, BM: tl.constexpr, BN: tl.constexpr):
    """Bounds of a tile's rows; the two runs of keys that they see, [own_low, own_high) and [low, high), and how many
    tiles of keys each has.
    """
    own = tl.load(bounds + rows, mask=there, other=0)
    first = tl.load(bounds + 2 * T + rows, mask=there, other=0)
    last = tl.load(bounds + 3 * T + rows, mask=there, other=0)
    own_low, own_high = tl.load(bounds + begin), tl.minimum(begin + BM, T)
    low, high = _run(first, last)
    num_own = tl.cdiv(own_high - own_low, BN)
    num_before = tl.where(high > low, tl.cdiv(high - low, BN), 0)
    return own, first, last, own_low, own_high, low, high, num_own, num_before


@triton.jit
def _tile_of_keys(
    k, v, i, num_own, own_low, own_high, low, high, rows, own, first, last, window, k_t, k_h, v_t, v_h, kv_head,
    D: tl.constexpr, WIDTH: tl.constexpr, BN: tl.constexpr, WINDOW: tl.constexpr,
):
    """The i-th tile of keys and values that a tile of rows sees, and which of the rows see which."""
    is_own = i < num_own
    start = tl.where(is_own, own_low + i * BN, low + (i - num_own) * BN)
    end = tl.where(is_own, own_high, high)
    n = tl.arange(0, WIDTH)
    keys = start + tl.arange(0, BN)
    place = keys.to(tl.int64)
    held = (keys < end)[:, None] & (n < D)[None, :]
    y = tl.load(k + place[:, None] * k_t + kv_head * k_h + n[None, :], mask=held, other=0.0)
    z = tl.load(v + place[:, None] * v_t + kv_head * v_h + n[None, :], mask=held, other=0.0)
    seen = _sees(
        rows[:, None], keys[None, :], own[:, None], first[:, None], last[:, None], is_own, end, window, WINDOW
    )
    return y, z, seen


@triton.jit
def _store_head(
    flat, x, cos, sin, rows, there, head, stride, D: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    TURN: tl.constexpr,
):
    """A head's gradient (ROWS, WIDTH) to its columns, turned back by the angles of the rows where it was turned."""
    n = tl.arange(0, WIDTH)
    place = flat + rows.to(tl.int64)[:, None] * stride + head * D
    if TURN:  # D is WIDTH
        a, b = tl.split(tl.permute(tl.reshape(x, [ROWS, 2, WIDTH // 2]), [0, 2, 1]))
        n = tl.arange(0, WIDTH // 2)
        table = rows[:, None] * D + n[None, :]
        mask = there[:, None]
        c = tl.load(cos + table, mask=mask, other=1.0).to(tl.float32)
        s = tl.load(sin + table, mask=mask, other=0.0).to(tl.float32)
        tl.store(place + n[None, :], (a * c + b * s).to(flat.dtype.element_ty), mask=mask)
        tl.store(place + WIDTH // 2 + n[None, :], (b * c - a * s).to(flat.dtype.element_ty), mask=mask)
    else:
        mask = there[:, None] & (n < D)[None, :]
        tl.store(place + n[None, :], x.to(flat.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["T", "window"])
def _forward_kernel(
    q, k, v, out, log_sum, bounds, T, scale, window, q_t, q_h, k_t, k_h, v_t, v_h, GROUP: tl.constexpr,
    D: tl.constexpr, WIDTH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, WINDOW: tl.constexpr,
    PRECISION: tl.constexpr,
):
    head = tl.program_id(1)
    begin = tl.program_id(0) * BM
    rows = begin + tl.arange(0, BM)
    n = tl.arange(0, WIDTH)
    there, inside = rows < T, n < D
    mask = there[:, None] & inside[None, :]
    r64 = rows.to(tl.int64)
    own, first, last, own_low, own_high, low, high, num_own, num_before = _keys_of_rows(
        bounds, rows, there, begin, T, BM, BN
    )
    x = tl.load(q + r64[:, None] * q_t + head * q_h + n[None, :], mask=mask, other=0.0)
    most = tl.full([BM], -1e30, tl.float32)
    total = tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, WIDTH], tl.float32)
    rate = scale * 1.4426950408889634
    for i in range(0, num_own + num_before):
        y, z, seen = _tile_of_keys(
            k, v, i, num_own, own_low, own_high, low, high, rows, own, first, last, window, k_t, k_h, v_t, v_h,
            head // GROUP, D, WIDTH, BN, WINDOW,
        )
        s = tl.where(seen, tl.dot(x, tl.trans(y), input_precision=PRECISION) * rate, -1e30)
        higher = tl.maximum(most, tl.max(s, 1))
        p = tl.where(seen, tl.exp2(s - higher[:, None]), 0.0)
        shrink = tl.exp2(most - higher)
        total = total * shrink + tl.sum(p, 1)
        acc = acc * shrink[:, None] + tl.dot(p.to(z.dtype), z, input_precision=PRECISION)
        most = higher
    here = (r64[:, None] * tl.num_programs(1) + head) * D + n[None, :]
    tl.store(out + here, (acc / tl.where(there, total, 1.0)[:, None]).to(out.dtype.element_ty), mask=mask)
    tl.store(log_sum + head.to(tl.int64) * T + rows, (most + tl.log2(tl.where(there, total, 1.0))) * 0.6931471805599453, mask=there)


@triton.jit(do_not_specialize=["T", "window"])
def _queries_kernel(
    grad, q, k, v, out, log_sum, delta, flat, cos, sin, bounds, T, scale, window, flat_t, g_t, g_h, q_t, q_h, k_t,
    k_h, v_t, v_h, GROUP: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, TURN: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr, WINDOW: tl.constexpr, PRECISION: tl.constexpr,
):
    """dq in `flat`, and delta = sum(grad * out) of every row and head on the way."""
    head = tl.program_id(1)
    begin = tl.program_id(0) * BM
    rows = begin + tl.arange(0, BM)
    n = tl.arange(0, WIDTH)
    there, inside = rows < T, n < D
    mask = there[:, None] & inside[None, :]
    r64 = rows.to(tl.int64)
    own, first, last, own_low, own_high, low, high, num_own, num_before = _keys_of_rows(
        bounds, rows, there, begin, T, BM, BN
    )
    here = (r64[:, None] * tl.num_programs(1) + head) * D + n[None, :]
    x = tl.load(q + r64[:, None] * q_t + head * q_h + n[None, :], mask=mask, other=0.0)
    g = tl.load(grad + r64[:, None] * g_t + head * g_h + n[None, :], mask=mask, other=0.0)
    o = tl.load(out + here, mask=mask, other=0.0)
    d = tl.sum(g.to(tl.float32) * o.to(tl.float32), 1)
    side = head.to(tl.int64) * T + rows
    tl.store(delta + side, d, mask=there)
    sums = tl.load(log_sum + side, mask=there, other=0.0) * 1.4426950408889634
    acc = tl.zeros([BM, WIDTH], tl.float32)
    rate = scale * 1.4426950408889634
    for i in range(0, num_own + num_before):
        y, z, seen = _tile_of_keys(
            k, v, i, num_own, own_low, own_high, low, high, rows, own, first, last, window, k_t, k_h, v_t, v_h,
            head // GROUP, D, WIDTH, BN, WINDOW,
        )
        s = tl.dot(x, tl.trans(y), input_precision=PRECISION) * rate
        p = tl.where(seen, tl.exp2(s - sums[:, None]), 0.0)
        dp = tl.dot(g, tl.trans(z), input_precision=PRECISION)
        acc += tl.dot((p * (dp - d[:, None])).to(y.dtype), y, input_precision=PRECISION)
    _store_head(flat, acc * scale, cos, sin, rows, there, head, flat_t, D, WIDTH, BM, TURN)


@triton.jit(do_not_specialize=["T", "window"])
def _keys_kernel(
    grad, q, k, v, log_sum, delta, flat, cos, sin, bounds, T, scale, window, flat_t, g_t, g_h, q_t, q_h, k_t, k_h,
    v_t, v_h, GROUP: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, TURN: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr, WINDOW: tl.constexpr, PRECISION: tl.constexpr,
):
    """dk and dv in `flat`, of a tile of keys: of the rows of its own segments, and of the branches that see it."""
    kv_head = tl.program_id(1)
    begin = tl.program_id(0) * BN
    keys = begin + tl.arange(0, BN)
    n = tl.arange(0, WIDTH)
    there, inside = keys < T, n < D
    mask = there[:, None] & inside[None, :]
    place = keys.to(tl.int64)
    y = tl.load(k + place[:, None] * k_t + kv_head * k_h + n[None, :], mask=mask, other=0.0)
    z = tl.load(v + place[:, None] * v_t + kv_head * v_h + n[None, :], mask=mask, other=0.0)
    own_high = tl.load(bounds + T + tl.minimum(begin + BN, T) - 1)
    low, high = _run(
        tl.load(bounds + 4 * T + keys, mask=there, other=0), tl.load(bounds + 5 * T + keys, mask=there, other=0)
    )
    num_own = tl.cdiv(own_high - begin, BM)
    num_after = tl.where(high > low, tl.cdiv(high - low, BM), 0)
    num = num_own + num_after
    dy = tl.zeros([BN, WIDTH], tl.float32)
    dz = tl.zeros([BN, WIDTH], tl.float32)
    rate = scale * 1.4426950408889634
    for j in range(0, num * GROUP):
        i = j % num
        head = kv_head * GROUP + j // num
        is_own = i < num_own
        start = tl.where(is_own, begin + i * BM, low + (i - num_own) * BM)
        end = tl.where(is_own, own_high, high)
        rows = start + tl.arange(0, BM)
        r64 = rows.to(tl.int64)
        held = rows < end
        loaded = held[:, None] & inside[None, :]
        x = tl.load(q + r64[:, None] * q_t + head * q_h + n[None, :], mask=loaded, other=0.0)
        g = tl.load(grad + r64[:, None] * g_t + head * g_h + n[None, :], mask=loaded, other=0.0)
        side = head.to(tl.int64) * T + rows
        sums = tl.load(log_sum + side, mask=held, other=0.0) * 1.4426950408889634
        d = tl.load(delta + side, mask=held, other=0.0)
        own = tl.load(bounds + rows, mask=held, other=0)
        first = tl.load(bounds + 2 * T + rows, mask=held, other=0)
        last = tl.load(bounds + 3 * T + rows, mask=held, other=0)
        seen = _sees(
            rows[None, :], keys[:, None], own[None, :], first[None, :], last[None, :], is_own, T, window, WINDOW
        ) & held[None, :]
        s = tl.dot(y, tl.trans(x), input_precision=PRECISION) * rate
        p = tl.where(seen, tl.exp2(s - sums[None, :]), 0.0)
        dz += tl.dot(p.to(g.dtype), g, input_precision=PRECISION)
        dp = tl.dot(z, tl.trans(g), input_precision=PRECISION)
        dy += tl.dot((p * (dp - d[None, :])).to(x.dtype), x, input_precision=PRECISION)
    kv_heads = tl.num_programs(1)
    head = kv_heads * GROUP + kv_head
    _store_head(flat, dy * scale, cos, sin, keys, there, head, flat_t, D, WIDTH, BN, TURN)
    _store_head(flat, dz, cos, sin, keys, there, head + kv_heads, flat_t, D, WIDTH, BN, False)


def forward(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, *, scale: float, window: int | None
) -> tuple[Tensor, Tensor]:
    """(T, H, Dh) output, contiguous, and (H, T) logarithms of sums in float32."""
    rows, heads, d = q.shape
    out = torch.empty(rows, heads, d, dtype=q.dtype, device=q.device)
    log_sum = torch.empty(heads, rows, dtype=torch.float32, device=q.device)
    bm, bn, warps, stages = _FORWARD
    _forward_kernel[(triton.cdiv(rows, bm), heads)](
        q, k, v, out, log_sum, bounds, rows, scale, window or 0, *_strides(q, k, v), heads // k.shape[1], d,
        triton.next_power_of_2(d), bm, bn, window is not None, precision(q), num_warps=warps, num_stages=stages,
    )
    return out, log_sum


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sum: Tensor, bounds: Tensor, *, scale: float,
    window: int | None, tables: tuple[Tensor, Tensor] | tuple[None, None] = (None, None),
) -> Tensor:
    """Gradients of q, k and v side by side, (T, (H + 2 Hkv) Dh); `out` and `log_sum` as `forward` gave them.

    Args:
        tables: cosines and sines (T, Dh) by which q and k were turned: their gradients are turned back. Dh has
            to be a power of two.
    """
    rows, heads, d = q.shape
    kv_heads, width = k.shape[1], triton.next_power_of_2(d)
    cos, sin = tables
    assert cos is None or d == width
    flat = torch.empty(rows, (heads + 2 * kv_heads) * d, dtype=q.dtype, device=q.device)
    delta = torch.empty(heads, rows, dtype=torch.float32, device=q.device)
    rest = (flat.stride(0), *_strides(grad, q, k, v), heads // kv_heads, d, width, cos is not None)
    bm, bn, warps, stages = _QUERIES
    _queries_kernel[(triton.cdiv(rows, bm), heads)](
        grad, q, k, v, out, log_sum, delta, flat, q if cos is None else cos, q if sin is None else sin, bounds, rows, scale, window or 0, *rest, bm, bn,
        window is not None, precision(q), num_warps=warps, num_stages=stages,
    )
    bm, bn, warps, stages = _KEYS
    _keys_kernel[(triton.cdiv(rows, bn), kv_heads)](
        grad, q, k, v, log_sum, delta, flat, q if cos is None else cos, q if sin is None else sin, bounds, rows, scale, window or 0, *rest, bm, bn,
        window is not None, precision(q), num_warps=warps, num_stages=stages,
    )
    return flat


def _strides(*tensors: Tensor) -> list[int]:
    """Of tokens and heads; the values of a head lie side by side."""
    assert all(x.stride(2) == 1 for x in tensors)
    return [stride for x in tensors for stride in x.stride()[:2]]
