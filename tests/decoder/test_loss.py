"""Chunked cross entropy equals the plain one, value and gradient."""

import pytest
import torch

from tenbin.decoder import loss as loss_module
from tenbin.decoder.loss import cross_entropy


def parts(vocab=31, width=8, rows=7):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    head = torch.randn(vocab, width, generator=generator, dtype=torch.float64)
    labels = torch.randint(vocab, (rows,), generator=generator)
    scales = torch.rand(rows, generator=generator, dtype=torch.float64)
    return hidden, head, labels, scales


@pytest.mark.parametrize("chunk_rows", [1, 3, 7, 100])
def test_chunked_equals_whole(chunk_rows, monkeypatch):
    hidden, head, labels, scales = parts()
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", 4 * head.shape[0] * chunk_rows)
    plain = hidden.clone().requires_grad_()
    expected = torch.nn.functional.cross_entropy(plain @ head.T, labels, reduction="none")
    (expected * scales).sum().backward()
    losses, gradient = cross_entropy(hidden, head, labels, scales)
    assert torch.allclose(losses, expected, rtol=1e-12)
    assert torch.allclose(gradient, plain.grad, rtol=0, atol=1e-12)


def test_a_row_wider_than_a_chunk_is_one_row(monkeypatch):
    hidden, head, labels, _ = parts()
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", 1)
    losses, _ = cross_entropy(hidden, head, labels, None)
    expected = torch.nn.functional.cross_entropy(hidden @ head.T, labels, reduction="none")
    assert torch.allclose(losses, expected, rtol=1e-12)


def test_without_scales_no_gradient_is_made():
    losses, gradient = cross_entropy(torch.zeros(2, 4), torch.zeros(8, 4), torch.tensor([1, 2]), None)
    assert gradient is None
    assert losses.tolist() == pytest.approx([torch.log(torch.tensor(8.0)).item()] * 2)
    assert losses.dtype == torch.float32
