"""Block: one decoder block, forward and backward, keeping as much in between as it is told to.

One layout serves Llama, GPT-2 and Gemma 3, with the parts that only some have left out:

    x -> norm -> q,k,v -> (norm of q and k) -> (rotation) -> attention -> o -> (norm) -> + x = h
    h -> norm -> (gate,) up -> activation -> down -> (norm) -> + h

N rows go on after attention: all T, but in the last block those that are selected, if some are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from tenbin.decoder import pointwise
from tenbin.decoder.attend import Attended, Plan, Tables, attend, attend_backward
from tenbin.decoder.linear import LinearGroup, Routing
from tenbin.decoder.norm import Norm
from tenbin.decoder.pointwise import Activation
from tenbin.decoder.some_rows import Selected, runs_of_rows


class Keep(IntEnum):
    """What a block keeps of its forward pass for its backward pass; the rest is computed again."""

    HOST = 0
    """x alone, in the computer's own memory: the last resort."""
    INPUT = 1
    """x alone: everything is recomputed."""
    ATTENTION = 2
    """x, attention's output and h: attention and the maps after it are not repeated."""
    PROJECTIONS = 3
    """And queries, keys and values."""
    ALL = 4
    """And the gate and up products: nothing but norms and activations is repeated."""
    AWAY = 5
    """As ALL, but queries, keys and values and the gate and up products wait in the computer's memory."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every block of a pass needs to know of the pack."""

    plan: Plan | None
    """Who attends to whom; None: `Block.read` is told how to attend."""
    routing: Routing
    tables: dict[str, tuple[Tensor, Tensor]]
    """Cosines and sines (T, Dh) of each kind of layer; {} where positions are not rotated."""
    mlp_rows: int
    """Rows of the wide products that are in memory at once, where they are not kept."""
    selected: Selected | None = None
    """The rows that go on after attention; None: all. For the last block."""

    @property
    def routing_after(self) -> Routing:
        """Of the rows that go on after attention."""
        return self.routing if self.selected is None else self.selected.routing

    def taken(self, x: Tensor) -> Tensor:
        """(T, ...) -> (N, ...) of the rows that go on after attention."""
        return x if self.selected is None else self.selected.taken(x)

    def put_back(self, x: Tensor) -> Tensor:
        """(N, ...) -> (T, ...), 0 in the rows that do not go on after attention."""
        return x if self.selected is None else self.selected.put_back(x)


@dataclass(frozen=True, slots=True)
class Saved:
    """What a block kept. None: to be computed again."""

    x: Tensor  # (T, D)
    qkv: Tensor | None = None  # (T, (H + 2 Hkv) Dh), rotated where there is no norm of q and k
    qkv_low: Tensor | None = None
    attended: Attended | None = None
    o: Tensor | None = None  # (N, D): only where a norm follows
    o_low: Tensor | None = None
    h: Tensor | None = None  # (N, D)
    up: Tensor | None = None  # (N, 2 I) or (N, I)
    up_low: Tensor | None = None
    down: Tensor | None = None  # (N, D): only where a norm follows
    down_low: Tensor | None = None


class Heads(NamedTuple):
    """Queries, keys and values as attention takes them."""

    q: Tensor  # (T, H, Dh)
    k: Tensor  # (T, Hkv, Dh)
    v: Tensor


Attention = Callable[[Heads], Tensor]
"""(T, H, Dh) of queries, keys and values: what `Block.read` attends with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Frozen parts and adapters of one block."""

    attention_norm: Norm
    qkv: LinearGroup
    o: LinearGroup
    mlp_norm: Norm
    up: LinearGroup
    down: LinearGroup
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    """Of the products of queries and keys."""
    activation: Activation
    gated: bool
    rotation: str | None = None
    """Key of the context's tables; None: no rotation."""
    window: int | None = None
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    after_attention: Norm | None = None
    after_mlp: Norm | None = None

    @property
    def groups(self) -> tuple[LinearGroup, LinearGroup, LinearGroup, LinearGroup]:
        """All linear maps, in the order of the forward pass."""
        return (self.qkv, self.o, self.up, self.down)

    def forward(self, x: Tensor, ctx: Context, keep: Keep) -> tuple[Tensor, Saved]:
        """x (T, D) -> (the block's output (N, D), what it kept)."""
        s = self._attention(Saved(x), ctx)
        h = s.h
        assert h is not None
        if keep <= Keep.INPUT:
            s = Saved(x)
        elif keep < Keep.PROJECTIONS:
            s = replace(s, qkv=None)
        y, s = self._mlp(h, s, ctx, keep)
        return y, s

    def read(self, x: Tensor, ctx: Context, attention: Attention) -> Tensor:
        """x (T, D) -> the block's output (N, D), attending as told; nothing is kept."""
        h, _, _ = self._after(x, attention(self.heads(x, ctx)), ctx)
        y, _ = self._mlp(h, Saved(x), ctx, Keep.INPUT)
        return y

    def heads(self, x: Tensor, ctx: Context) -> Heads:
        """x (T, D) -> queries, keys and values."""
        return self._heads(self._projections(x, ctx)[0], ctx)

    def backward(self, grad: Tensor, s: Saved, ctx: Context) -> Tensor:
        """dy (N, D) -> dx (T, D); gradients of the adapters gather in the groups."""
        s = self._attention(s, ctx)
        dh = self._mlp_backward(grad, s, ctx)
        s = replace(s, up=None)  # the largest part: it is not needed any more
        assert s.attended is not None
        assert s.qkv is not None
        assert ctx.plan is not None
        do = dh
        if self.after_attention is not None:
            assert s.o is not None
            do, _ = self.after_attention.backward(s.o, dh)
        dattn, dlow = self.o.backward(do, s.o_low, ctx.routing_after)
        self.o.add_to_input(dattn, dlow, ctx.routing_after)
        self.o.gather_a(dlow, ctx.taken(s.attended.out).flatten(1), ctx.routing_after)
        dattn = ctx.put_back(dattn)
        heads = self._heads(s.qkv, ctx)
        dqkv = attend_backward(
            dattn.view(-1, self.num_heads, self.head_dim),
            *heads,
            s.attended,
            ctx.plan,
            scale=self.scale,
            window=self.window,
            tables=self._tables(ctx),
        )
        del dattn, heads
        self._norms_backward_(s.qkv, dqkv)
        dn, dlow = self.qkv.backward(dqkv, s.qkv_low, ctx.routing)
        self.qkv.add_to_input(dn, dlow, ctx.routing)
        dx, n = self.attention_norm.backward(s.x, dn, ctx.put_back(dh))
        self.qkv.gather_a(dlow, n, ctx.routing)
        return dx

    def _attention(self, s: Saved, ctx: Context) -> Saved:
        """Everything up to h that is not there yet."""
        if s.qkv is None:
            qkv, low = self._projections(s.x, ctx)
            s = replace(s, qkv=qkv, qkv_low=low)
        assert s.qkv is not None
        if s.attended is None:
            assert ctx.plan is not None
            attended = attend(*self._heads(s.qkv, ctx), ctx.plan, scale=self.scale, window=self.window)
            s = replace(s, attended=attended)
        if s.h is None:
            assert s.attended is not None
            h, o, low = self._after(s.x, s.attended.out, ctx)
            s = replace(s, o=o, o_low=low, h=h)
        return s

    def _projections(self, x: Tensor, ctx: Context) -> tuple[Tensor, Tensor | None]:
        """x (T, D) -> (T, (H + 2 Hkv) Dh), rotated where there is no norm of q and k, and their low."""
        qkv, low = self.qkv.forward_normed(self.attention_norm, x, ctx.routing)
        heads = (self.num_heads, self.num_kv_heads, self.num_kv_heads)
        tables = self._tables(ctx) if self.q_norm is None else (None, None)
        pointwise.finish_heads_(qkv, self.qkv.pending(low), self.head_dim, heads, *tables)
        return qkv, low

    def _after(
        self, x: Tensor, attended: Tensor, ctx: Context
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """x (T, D) and attention's output (T, H, Dh) -> (h (N, D), o where a norm follows, o's low)."""
        x = ctx.taken(x)
        o, low = self.o.forward(ctx.taken(attended).flatten(1), ctx.routing_after)
        pending = self.o.pending(low)
        if self.after_attention is None:
            pointwise.add(o, x, pending, o)
            return o, None, low
        if pending is not None:
            pointwise.add(o, None, pending, o)
        return x + self.after_attention.forward(o), o, low

    def _tables(self, ctx: Context) -> Tables:
        return (None, None) if self.rotation is None else ctx.tables[self.rotation]

    def _heads(self, qkv: Tensor, ctx: Context) -> Heads:
        widths = [n * self.head_dim for n in (self.num_heads, self.num_kv_heads, self.num_kv_heads)]
        q, k, v = (torch.unflatten(part, 1, (-1, self.head_dim)) for part in torch.split(qkv, widths, dim=1))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm.forward(q), self.k_norm.forward(k)
            for x in (q, k):
                pointwise.finish_heads_(
                    x.flatten(1), None, self.head_dim, (x.shape[1], 0, 0), *self._tables(ctx)
                )
        return Heads(q, k, v)

    def _norms_backward_(self, qkv: Tensor, flat: Tensor) -> None:
        """Where q and k have norms, gradients of the heads (T, (H + 2 Hkv) Dh) become the projections'."""
        if self.q_norm is None or self.k_norm is None:
            return
        widths = (self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim)
        start = 0
        for norm, width in zip((self.q_norm, self.k_norm), widths, strict=True):
            span = slice(start, start + width)
            raw, grad = (torch.unflatten(t[:, span], 1, (-1, self.head_dim)) for t in (qkv, flat))
            grad.copy_(norm.backward(raw, grad)[0])
            start += width

    def _mlp(self, h: Tensor, s: Saved, ctx: Context, keep: Keep) -> tuple[Tensor, Saved]:
        """h (N, D) -> the block's output, in runs of rows where the wide products are not kept."""
        rows = h.shape[0] if keep >= Keep.ALL else ctx.mlp_rows
        ups, up_lows, downs, down_lows = [], [], [], []
        y = torch.empty_like(h)
        for span, routing in runs_of_rows(h.shape[0], rows, ctx.routing_after):
            up, up_low = self.up.forward_normed(self.mlp_norm, h[span], routing)
            down, down_low = self.down.forward(self._activated(up, up_low), routing)
            pending = self.down.pending(down_low)
            if self.after_mlp is not None:
                if pending is not None:
                    pointwise.add(down, None, pending, down)
                torch.add(h[span], self.after_mlp.forward(down), out=y[span])
                downs.append(down)
            else:
                pointwise.add(down, h[span], pending, y[span])
            if keep >= Keep.ALL:
                ups.append(up)
            up_lows.append(up_low)
            down_lows.append(down_low)
        kept_down = downs if keep > Keep.INPUT else downs[:0]
        s = replace(
            s,
            up=_joined(ups),
            up_low=_joined(up_lows),
            down=_joined(kept_down),
            down_low=_joined(down_lows),
        )
        return y, s

    def _activated(self, up: Tensor, low: Tensor | None) -> Tensor:
        return pointwise.activation(up, self.activation, gated=self.gated, low=self.up.pending(low))

    def _mlp_backward(self, grad: Tensor, s: Saved, ctx: Context) -> Tensor:
        """dy (N, D) -> dh (N, D)."""
        assert s.h is not None
        rows = grad.shape[0] if s.up is not None else ctx.mlp_rows
        parts = []
        for span, routing in runs_of_rows(grad.shape[0], rows, ctx.routing_after):
            h, dy = s.h[span], grad[span]
            if s.up is not None:
                up = s.up[span]
            else:
                up, _ = self.up.forward_normed(self.mlp_norm, h, routing)
            dd = dy
            if self.after_mlp is not None:
                if s.down is None:
                    down, low = self.down.forward(self._activated(up, _rows(s.up_low, span)), routing)
                    pointwise.add(down, None, self.down.pending(low), down)
                else:
                    down = s.down[span]
                dd, _ = self.after_mlp.backward(down, dy)
            da, dlow = self.down.backward(dd, _rows(s.down_low, span), routing)
            up_low = _rows(s.up_low, span)
            later = None if self.down.drops else dlow
            if later is None:
                self.down.add_to_input(da, dlow, routing)
            pointwise.activation_backward_(
                up,
                da,
                self.activation,
                gated=self.gated,
                low=self.up.pending(up_low),
                dlow=later,
                a=self.down.a,
            )  # up is its gradient now, da the activation
            self.down.gather_a(dlow, da, routing)
            del da
            dn, dlow = self.up.backward(up, up_low, routing)
            self.up.add_to_input(dn, dlow, routing)
            dh, n = self.mlp_norm.backward(h, dn, dy)
            self.up.gather_a(dlow, n, routing)
            parts.append(dh)
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rows(x: Tensor | None, span: slice) -> Tensor | None:
    return None if x is None else x[span]


def _joined(parts: list[Tensor] | list[Tensor | None]) -> Tensor | None:
    """The parts end to end; None where there are none."""
    there = [part for part in parts if part is not None]
    if len(there) < 2:
        return there[0] if there else None
    return torch.cat(there)
