"""Cross entropy from hidden states, on label positions only, in chunks; sums, never means.

The output head is frozen, so the gradient of the hidden states is made with the loss, chunk by chunk, and
the logits (V wide: 262,144 for Gemma) are never kept. Each target's gradient is scaled by its own factor:
1 / targets of its adapter's step, so that micro-batches of different lengths weigh what they should.
"""

import torch
from torch import Tensor

from tenbin.decoder.pointwise import cross_entropy_

CHUNK_BYTES = 256 * 2**20
"""Most bytes of logits held at once, counted in float32."""


def cross_entropy(
    hidden: Tensor, head: Tensor, labels: Tensor, scales: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Losses, and the gradient of their scaled sum.

    Args:
        hidden: (N, D), the states that predict.
        head: (V, D), the frozen output head.
        labels: (N,) int64.
        scales: (N,), factor of each target in the gradient; None: no gradient is wanted.

    Returns:
        -log p of each label (N,) in nats, float32 (or float64), and the gradient of `hidden` (N, D).
    """
    rows = max(1, CHUNK_BYTES // (4 * head.shape[0]))
    losses, grads = [], []
    for start in range(0, hidden.shape[0], rows):
        span = slice(start, start + rows)
        logits = hidden[span] @ head.t()  # (n, V)
        losses.append(cross_entropy_(logits, labels[span], None if scales is None else scales[span]))
        if scales is not None:
            grads.append(logits @ head)  # the logits are their gradient by now
    return torch.cat(losses), None if scales is None else torch.cat(grads)
