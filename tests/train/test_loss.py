"""Chunked cross entropy equals the plain one, value and gradient."""

import pytest
import torch

from tenbin import memory
from tenbin.train import loss as loss_module
from tenbin.train.loss import cross_entropy_sum


@pytest.mark.parametrize("chunk_rows", [1, 3, 7, 100])
def test_chunked_equals_whole(chunk_rows, monkeypatch):
    vocab, width, rows = 31, 8, 7
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", 4 * vocab * chunk_rows)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocab, width, generator=generator, dtype=torch.float64)
    labels = torch.randint(vocab, (rows,), generator=generator)
    ours, plain = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    loss = cross_entropy_sum(ours, weight, labels)
    expected = torch.nn.functional.cross_entropy(plain @ weight.T, labels, reduction="sum")
    assert torch.allclose(loss, expected, rtol=1e-12)
    (3 * loss).backward()
    (3 * expected).backward()
    assert torch.allclose(ours.grad, plain.grad, rtol=0, atol=1e-12)


def test_without_a_gradient_none_is_made():
    with torch.no_grad():
        loss = cross_entropy_sum(torch.zeros(2, 4), torch.zeros(8, 4), torch.tensor([1, 2]))
    assert loss.item() == pytest.approx(2 * torch.log(torch.tensor(8.0)).item())


def test_the_plan_knows_the_chunk():
    assert memory.LOGIT_CHUNK_BYTES == loss_module.CHUNK_BYTES
