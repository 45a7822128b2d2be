"""HostMemory on a CPU: what comes back is what went away, in any mixture and over many passes."""

import torch

from tenbin.decoder.block import Saved
from tenbin.decoder.host import HostMemory

CPU = torch.device("cpu")


def saved(index, rows, dtype=torch.float32):
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(100 * index + rows)).to(dtype)
    return Saved(x, up_low=torch.full((rows, 2), float(index)))


def passed(host, rows, away, dtype=torch.float32):
    """A forward and backward pass over six blocks, some of whose inputs are away."""
    kept = [saved(i, rows, dtype) for i in range(6)]
    held = [host.away(i, s) if i in away else s for i, s in enumerate(kept)]
    for i in away:
        assert held[i].x.numel() == 0
    for i in reversed(range(6)):
        back = host.back(i, held[i])
        assert torch.equal(back.x, kept[i].x)
        assert torch.equal(back.up_low, kept[i].up_low)


def test_inputs_come_back():
    host = HostMemory(CPU)
    for away in ([0], [5], [0, 1, 2], [1, 3, 5], [2, 3], list(range(6)), []):
        passed(host, 7, away)


def test_rows_of_other_lengths_and_types_use_the_memory_again():
    host = HostMemory(CPU)
    passed(host, 9, [0, 1, 2])
    places = {index: place.data_ptr() for index, place in host._places.items()}
    passed(host, 4, [0, 1, 2])
    assert {index: place.data_ptr() for index, place in host._places.items()} == places
    passed(host, 20, [0, 1, 2])
    passed(host, 3, [0, 1, 2], torch.float64)


def test_what_came_back_is_not_overwritten_by_the_next_pass():
    host = HostMemory(CPU)
    first = saved(0, 5)
    back = host.back(0, host.away(0, first)).x
    host.away(0, saved(1, 5))
    assert torch.equal(back, first.x)


def test_a_pass_that_did_not_end_is_forgotten():
    host = HostMemory(CPU)
    host.away(0, saved(0, 5))
    host.away(1, saved(1, 5))
    host.forget()
    kept = saved(1, 5)
    assert host.back(1, kept) is kept
    passed(host, 6, [0, 1])
