"""Cross entropy from hidden states, on label positions only, in chunks; sums, never means.

The output head is frozen, so the gradient of the hidden states can be made in the forward pass, chunk by
chunk, and the logits (V wide: 262,144 for Gemma) are never kept. Sums are divided once per optimizer step
by the step's target tokens, so that micro-batches of different lengths weigh what they should.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_BYTES = 256 * 2**20
"""Most bytes of float32 logits held at once."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:  # noqa: ANN401
        """hidden (N, D), weight (V, D), labels (N,) -> scalar sum of -log p in float32 (or float64)."""
        rows = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
        exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        total = torch.zeros((), dtype=exact, device=hidden.device)
        grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, hidden.shape[0], rows):
            span = slice(start, start + rows)
            logits = (hidden[span] @ weight.T).to(exact)  # (n, V)
            target = labels[span, None]
            log_z = logits.logsumexp(dim=-1, keepdim=True)
            total += (log_z - logits.gather(-1, target)).sum()
            if grad is not None:
                # d loss / d logits = softmax - onehot
                probs = logits.sub_(log_z).exp_()
                probs.scatter_add_(-1, target, torch.full_like(probs[:, :1], -1.0))
                grad[span] = probs.to(hidden.dtype) @ weight
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (grad,) = ctx.saved_tensors
        return grad * upstream.to(grad.dtype), None, None


def cross_entropy_sum(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Sum of the negative log-likelihoods of `labels`, in nats.

    Args:
        hidden: (N, D), the states that predict.
        weight: (V, D), the frozen output head.
        labels: (N,) int64.
    """
    assert not weight.requires_grad, "the output head is frozen: its gradient is not computed here"
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, labels)  # type: ignore[no-untyped-call]
    return loss
