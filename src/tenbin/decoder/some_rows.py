"""Some rows of a pack, and the adapter of each: those that the last block goes on with, and runs of all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import placed


@dataclass(frozen=True, slots=True)
class Selected:
    """N of a pack's T rows: after attention of the last block nothing else is read.

    Keys and values of a row are seen by others, but what the last block makes of attention's output is seen
    by the head alone, and by that only where a target is predicted.
    """

    rows: Tensor  # (N,) int64, each once
    num_tokens: int
    """T."""
    routing: Routing
    """Of these rows."""

    @classmethod
    def of(
        cls, predicts: Tensor, routing: Routing, num_tokens: int, names: Sequence[str]
    ) -> "Selected | None":
        """The rows (N,) that predict; None: all rows go on.

        It follows from the numbers of rows alone, and nothing of it waits for the device: so it can be a part
        of a CUDA graph, whose rows are other ones each time. All rows go on where more than half of them
        predict, and where something is dropped, because masks are drawn for whole examples.

        Args:
            routing: of all rows.
            names: of the adapters in use.
        """
        count = predicts.shape[0]
        if not 0 < 2 * count <= num_tokens or routing.draws:
            return None
        return cls(predicts, num_tokens, _of_rows(routing, predicts, num_tokens, names))

    def taken(self, x: Tensor) -> Tensor:
        """(T, ...) -> (N, ...)."""
        return x[self.rows]

    def put_back(self, x: Tensor) -> Tensor:
        """(N, ...) -> (T, ...), 0 in all other rows."""
        return put_back(x, self.rows, self.num_tokens)


def put_back(x: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """(N, ...) and where its rows (N,) stand among `num_rows` -> (num_rows, ...), 0 in all others."""
    whole = x.new_zeros(num_rows, *x.shape[1:])
    whole[rows] = x
    return whole


def _of_rows(routing: Routing, rows: Tensor, num_tokens: int, names: Sequence[str]) -> Routing:
    """The routing of some rows, with masks of its own."""
    count = rows.shape[0]
    if routing.owners is not None:
        spans = ((0, count),) * len(routing.names)
        return Routing(routing.names, spans, owners=routing.owners[rows])
    whole = sum(end - start for start, end in routing.spans) == num_tokens
    one = tuple(set(routing.names))
    if not one or (whole and len(one) == 1):  # all rows are of the same adapter, or of none
        return Routing(one, ((0, count),) * len(one))
    owners = placed(owners_of(routing, num_tokens, names), rows.device)
    return Routing((), (), owners=owners[rows])


def owners_of(routing: Routing, num_tokens: int, names: Sequence[str]) -> Tensor:
    """(T,) int64 on the CPU: the number of each token's adapter among `names`, -1 where it has none.

    Args:
        routing: one that knows the spans.
    """
    owners = torch.full((num_tokens,), -1, dtype=torch.int64)
    for name, (start, end) in zip(routing.names, routing.spans, strict=True):
        owners[start:end] = names.index(name)
    return owners


def runs_of_rows(num_rows: int, most: int, routing: Routing) -> list[tuple[slice, Routing]]:
    """Runs of at most `most` rows, and the routing in each."""
    if num_rows <= most or routing.draws:  # dropout's masks are drawn for whole examples
        return [(slice(0, num_rows), routing)]
    spans = [(start, min(start + most, num_rows)) for start in range(0, num_rows, most)]
    return [(slice(start, end), _within(routing, start, end)) for start, end in spans]


def _within(routing: Routing, start: int, end: int) -> Routing:
    """The routing of the rows [start, end)."""
    clipped = [(max(a, start) - start, min(b, end) - start) for a, b in routing.spans]
    inside = [i for i, (a, b) in enumerate(clipped) if a < b]
    owners = None if routing.owners is None else routing.owners[start:end]
    return replace(
        routing,
        names=tuple(routing.names[i] for i in inside),
        spans=tuple(clipped[i] for i in inside),
        owners=owners,
        masks={},
    )
