"""Plain attention against PyTorch's flash kernel for CPUs, forward and backward."""

import pytest
import torch

from tenbin.decoder import cpu_attention, plain_attention


def rand(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("queries", "keys", "causal", "window"),
    [
        ((0, 5, 6, 13), (0, 5, 6, 13), True, None),
        ((0, 5, 6, 13), (0, 5, 6, 13), True, 3),
        ((0, 4, 13), (0, 6, 9), False, None),
    ],
)
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_equals_the_flash_kernel(queries, keys, causal, window, kv_heads):
    q, grad = rand(13, 4, 8, seed=0), rand(13, 4, 8, seed=1)
    k, v = rand(keys[-1], kv_heads, 8, seed=2), rand(keys[-1], kv_heads, 8, seed=3)
    options = {"scale": 0.3, "causal": causal, "window": window}
    out, log_sum = plain_attention.forward(q, k, v, (queries, keys), **options)
    expected, expected_sum = cpu_attention.forward(q, k, v, (queries, keys), **options)
    assert torch.allclose(out, expected, rtol=0, atol=1e-12)
    assert torch.allclose(log_sum, expected_sum, rtol=0, atol=1e-12)
    # as part of a larger softmax: another output and a larger sum
    other, larger = out + 0.1, log_sum + 0.5
    found = plain_attention.backward(grad, q, k, v, other, larger, (queries, keys), **options)
    theirs = cpu_attention.backward(grad, q, k, v, other, larger, (queries, keys), **options)
    for a, b in zip(found, theirs, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)
