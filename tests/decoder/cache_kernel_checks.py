"""The cache's Triton kernel against its plain counterpart, interpreted on a CPU or run on a GPU."""

import torch

from tenbin.decoder import cache_kernels


def check_write(on, heads, d):
    """Keys and values are parts of wider rows, and go to slots in any order."""
    wide = on.rand(7, 3 * heads * d, seed=1)
    slots = torch.tensor([4, 0, 9, 2, 11, 5, 7])
    expected = [on.rand(12, heads, d, seed=2), on.rand(12, heads, d, seed=3)]
    found = [on(part) for part in expected]

    def parts(x):
        return x[:, heads * d :].unflatten(1, (-1, d)).split(heads, dim=1)

    cache_kernels.write(*parts(on(wide)), slots.to(on.device), *found)
    for cache, part in zip(expected, parts(wide), strict=True):
        cache[slots] = part
    for there, here in zip(found, expected, strict=True):
        assert torch.equal(there.cpu().float(), here)
