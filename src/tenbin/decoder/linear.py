"""LinearGroup: frozen linear maps of one input as one product, with their adapters, forward and backward.

Queries, keys and values share their input, and so do gate and up: one matrix product each instead of three
and two. The low-rank products of all adapters and maps of a group are one thin product too; each token keeps
only the columns of its own adapter, so several adapters train over one frozen weight in one pass.

    low = (x A^T) * routing                 (T, R), R = ranks of all adapters of all maps of the group;
                                            A is alpha / rank times the adapter's
    y   = x W^T + bias + low B^T
    dx  = dy W + dlow A,  dlow = (dy B) * routing
    dA  = dlow^T x,       dB   = dy^T low

Source: Hu et al. 2021 (arXiv 2106.09685). Nothing but x and low is needed for the backward pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.decoder.frozen import Frozen
from tenbin.decoder.low_rank import LowRank
from tenbin.decoder.norm import Norm
from tenbin.decoder.pack import placed
from tenbin.decoder.pointwise import has_kernels, joins, low_gradients, wide
from tenbin.models.lora import LoraLinear


@dataclass(frozen=True, slots=True)
class Part:
    """One linear map of a group: its columns of the output, and where its adapters are."""

    start: int
    end: int
    layer: LoraLinear | None
    """None: this map holds no adapters."""


@dataclass(slots=True)
class _Low:
    """The adapters of one part: their columns of `low`, and B in the model's type."""

    part: Part
    names: tuple[str, ...]
    start: int
    end: int
    b: Tensor  # (N_i, r of all adapters)
    grad_b: Tensor  # (N_i, r), float32 or float64


@dataclass(frozen=True, slots=True)
class Routing:
    """Which tokens of a pack belong to which adapter."""

    names: tuple[str, ...]
    """Of the adapter of each span: one may have several."""
    spans: tuple[tuple[int, int], ...]
    """Tokens [start, end)."""
    draws: tuple[tuple[tuple[int, int, int], ...], ...] = ()
    """Of each span, for dropout: (start, end, number) of runs of its tokens that draw a mask, end to end; ()
    where nothing is dropped: not in training."""
    owners: Tensor | None = None
    """(T,) int64, number of each token's adapter among those in use: instead of names and spans, where they
    are not known beforehand. (A CUDA graph is made once for many packs.)"""
    masks: dict[tuple[tuple[str, int], ...], Tensor] = field(default_factory=dict, compare=False)
    """Made of the owners by the first group that needs them, for all of the pass."""


@dataclass(slots=True)
class LinearGroup:
    """Frozen maps (N_i, K) side by side, N = sum of N_i, and the adapters that are trained on them."""

    frozen: Frozen
    parts: tuple[Part, ...]
    lows: list[_Low] = field(default_factory=list)
    a: Tensor | None = None  # (R, K)
    grad_a: Tensor | None = None
    drops: bool = False
    """Some adapter has dropout."""
    _b: Tensor | None = None
    """(N, r) of all parts, where all parts have the same adapters and kernels add them."""
    _grad_b: Tensor | None = None
    """(N, r) of all parts, where there is `_b`."""
    _pairs: list[tuple[Tensor, Tensor, float]] = field(default_factory=list)
    _columns: tuple[tuple[str, int], ...] = ()
    """(adapter, its rank) in the order of low's columns."""
    _owners: Tensor | None = None
    """(R,) number of each column's adapter among those in use."""

    @property
    def rank(self) -> int:
        """R: columns of `low`."""
        return 0 if self.a is None else self.a.shape[0]

    def use(self, names: Sequence[str]) -> None:
        """Make room for copies of these adapters in the model's type."""
        weight = self.frozen
        held = [(p, p.layer, tuple(n for n in names if n in p.layer.configs)) for p in self.parts if p.layer]
        held = [one for one in held if one[2]]
        ranks = [sum(layer.configs[n].rank for n in adapters) for _, layer, adapters in held]
        size: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
        self.a = torch.empty(sum(ranks), weight.in_features, **size) if held else None
        self._b, self._grad_b = None, None
        gathers = wide(torch.empty(0, dtype=weight.dtype)).dtype
        alike = len(held) == len(self.parts) and len({adapters for *_, adapters in held}) == 1
        if self.a is not None and has_kernels(self.a) and alike:
            self._b = torch.empty(self.parts[-1].end, ranks[0], **size)
            self._grad_b = torch.zeros_like(self._b, dtype=gathers)
        self.lows, width = [], 0
        for (part, _, adapters), r in zip(held, ranks, strict=True):
            rows = slice(part.start, part.end)
            b = torch.empty(part.end - part.start, r, **size) if self._b is None else self._b[rows]
            grad_b = torch.zeros_like(b, dtype=gathers) if self._grad_b is None else self._grad_b[rows]
            self.lows.append(_Low(part, adapters, width, width + r, b, grad_b))
            width += r
        self.drops = any(layer.configs[n].dropout > 0 for _, layer, adapters in held for n in adapters)
        self._columns = tuple((n, layer.configs[n].rank) for _, layer, adapters in held for n in adapters)
        self._pairs = self._find_pairs()
        self.grad_a = None if self.a is None else torch.zeros_like(self.a, dtype=gathers)
        owners = [names.index(n) for n, rank in self._columns for _ in range(rank)]
        self._owners = torch.tensor(owners, device=weight.device)

    def pairs(self) -> list[tuple[Tensor, Tensor, float]]:
        """(copy in the model's type, master weight, factor) of every adapter matrix in use.

        A's copy is alpha / rank times the master: so nothing else has to be scaled.
        """
        return self._pairs

    def _find_pairs(self) -> list[tuple[Tensor, Tensor, float]]:
        found = []
        for low, layer, name, rows, columns in self._matrices():
            assert self.a is not None
            found.append((self.a[rows], layer.lora_A[name], layer.scaling(name)))
            found.append((low.b[:, columns], layer.lora_B[name], 1.0))
        return found

    def gradients(self) -> list[tuple[Tensor, Tensor, float]]:
        """(master weight, its copy's gradient so far, the copy's factor) of every adapter in use."""
        found = []
        for low, layer, name, rows, columns in self._matrices():
            assert self.grad_a is not None
            found.append((layer.lora_A[name], self.grad_a[rows], layer.scaling(name)))
            found.append((layer.lora_B[name], low.grad_b[:, columns], 1.0))
        return found

    def _matrices(self) -> Iterator[tuple[_Low, LoraLinear, str, slice, slice]]:
        """(part, its layer, adapter, its rows of A, its columns of the part's B)."""
        for low in self.lows:
            layer = low.part.layer
            assert layer is not None
            start = 0
            for name in low.names:
                end = start + layer.configs[name].rank
                yield low, layer, name, slice(low.start + start, low.start + end), slice(start, end)
                start = end

    def gathered(self) -> list[Tensor]:
        """Where the gradients of the adapters' copies gather; the same memory from `use` to `use`."""
        return [] if self.grad_a is None else [self.grad_a, *(low.grad_b for low in self.lows)]

    def forward(self, x: Tensor, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """x (T, K) -> y (T, N), and low (T, R), which the backward pass needs.

        Where there are kernels, y may still lack what `pending` says.
        """
        return self._with_low(self.frozen.forward(x), x, routing)

    def forward_normed(self, norm: Norm, x: Tensor, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """`forward` of norm(x): for a weight in 8 bits the norm makes its rows in 8 bits on the way."""
        if not isinstance(self.frozen, Fp8Frozen):
            return self.forward(norm.forward(x), routing)
        n, rows, scale = norm.quantized(x)
        return self._with_low(self.frozen.product(rows, scale), n, routing)

    def _with_low(self, y: Tensor, x: Tensor, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """The adapters' part of `forward`, added to y = x W^T + bias."""
        if self.a is None:
            return y, None
        low = self._down(x, routing)
        if self._b is not None:
            return y, low
        for one in self.lows:
            y[:, one.part.start : one.part.end].addmm_(low[:, one.start : one.end], one.b.t())
        return y, low

    def pending(self, low: Tensor | None) -> LowRank | None:
        """What `forward` left for the next kernel to add; None: nothing."""
        if low is None or self._b is None:
            return None
        return LowRank(low, self._b, len(self.parts))

    def backward(self, grad: Tensor, low: Tensor | None, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """dy (T, N) -> what W gives dx, (T, K), and dlow (T, R) before dropout's masks; dB gathers.

        `add_to_input` adds the rest of dx.
        """
        return self.frozen.backward(grad), self._low_backward(grad, low, routing)

    def _low_backward(self, grad: Tensor, low: Tensor | None, routing: Routing) -> Tensor | None:
        if low is None:
            return None
        pending = self.pending(low)
        if pending is not None and self._grad_b is not None and joins(pending):
            mask = self._mask_of(low.shape[0], routing)
            return low_gradients(grad, pending, [part.start for part in self.parts], mask, self._grad_b)
        dlow = grad.new_empty(grad.shape[0], self.rank)
        for one in self.lows:
            columns = grad[:, one.part.start : one.part.end]
            _gather(one.grad_b, columns.t(), low[:, one.start : one.end])
            torch.mm(columns, one.b, out=dlow[:, one.start : one.end])
        return self._routed(dlow, routing)

    def add_to_input(self, dx: Tensor, dlow: Tensor | None, routing: Routing) -> None:
        """Add dlow A to dx (T, K) in place."""
        if dlow is None or self.a is None:
            return
        if not self.drops:
            dx.addmm_(dlow, self.a)
            return
        for one, number, rows, columns in self._each(routing):
            keep = _keep(one, number, dx[rows], routing)
            dx[rows] += (dlow[rows, columns] @ self.a[columns]) * keep

    def gather_a(self, dlow: Tensor | None, x: Tensor, routing: Routing) -> None:
        """Gather dA from dlow (T, R) and the group's input x (T, K)."""
        if dlow is None or self.grad_a is None:
            return
        if not self.drops:
            _gather(self.grad_a, dlow.t(), x)
            return
        for one, number, rows, columns in self._each(routing):
            keep = _keep(one, number, x[rows], routing)
            _gather(self.grad_a[columns], dlow[rows, columns].t(), x[rows] * keep)

    def _down(self, x: Tensor, routing: Routing) -> Tensor:
        assert self.a is not None
        if not self.drops or not routing.draws:
            low = linear(x, self.a)
        else:
            low = x.new_zeros(x.shape[0], self.rank)
            for one, number, rows, columns in self._each(routing):
                keep = _keep(one, number, x[rows], routing)
                low[rows, columns] = linear(x[rows] * keep, self.a[columns])
        return self._routed(low, routing)

    def _each(self, routing: Routing) -> list[tuple[_Low, int, slice, slice]]:
        """(part, number of a span of one of its adapters, the span's rows of the pack, columns of low)."""
        return [
            (low, number, slice(*span), columns)
            for low, _, name, columns, _ in self._matrices()
            for number, (owner, span) in enumerate(zip(routing.names, routing.spans, strict=True))
            if owner == name
        ]

    def _routed(self, low: Tensor, routing: Routing) -> Tensor:
        """0 where a column is not of the row's own adapter, in place."""
        mask = self._mask_of(low.shape[0], routing)
        return low if mask is None else low.mul_(mask)

    def _mask_of(self, rows: int, routing: Routing) -> Tensor | None:
        """(T, R): 0 where a column is not of the row's own adapter; None: 1 everywhere."""
        dtype = self.frozen.dtype
        if routing.owners is not None:
            mask = routing.masks.get(self._columns)
            if mask is None:
                assert self._owners is not None
                mask = torch.eq(routing.owners[:, None], self._owners).to(dtype)
                routing.masks[self._columns] = mask
            return mask
        whole = sum(end - start for start, end in routing.spans) == rows  # no token is of no adapter
        names = set(routing.names)
        if whole and len(names) == 1 and all(set(one.names) == names for one in self.lows):
            return None
        spans = tuple(zip(routing.names, routing.spans, strict=True))
        return _mask(rows, spans, self._columns, dtype, self.frozen.device)


@lru_cache(maxsize=8)
def _mask(
    rows: int,
    spans: tuple[tuple[str, tuple[int, int]], ...],
    columns: tuple[tuple[str, int], ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """(T, R) of 0 and 1. Kept for the layers of a pack: as many differ as there are groups in a block."""
    mask = torch.zeros(rows, sum(rank for _, rank in columns), dtype=dtype)
    start = 0
    for name, rank in columns:
        for owner, place in spans:
            if owner == name:
                mask[slice(*place), start : start + rank] = 1
        start += rank
    return placed(mask, device)


def _keep(one: _Low, number: int, rows: Tensor, routing: Routing) -> Tensor:
    """Dropout's masks of one map for the rows of one span, the same in every pass."""
    layer = one.part.layer
    assert layer is not None
    assert routing.draws, "dropout needs to know which tokens draw together"
    draws, name = routing.draws[number], routing.names[number]
    first = draws[0][0]
    assert draws[-1][1] - first == rows.shape[0], "every token of the span draws once"
    return torch.cat([layer.dropout_mask(name, n, rows[a - first : b - first]) for a, b, n in draws])


def _gather(total: Tensor, x: Tensor, y: Tensor) -> None:
    """Add x y to a gradient; gradients gather in float32, or wider."""
    if x.is_cuda and x.dtype == torch.bfloat16:
        torch.addmm(total, x, y, out_dtype=torch.float32, out=total)
    else:
        total.add_(x @ y)
