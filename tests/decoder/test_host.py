"""HostMemory on a CPU: what comes back is what went away, in any mixture and over many passes."""

import pytest
import torch

from tenbin.decoder.block import Keep, Saved
from tenbin.decoder.host import HELD, LEAVE, HostMemory, _Place, leaves

CPU = torch.device("cpu")
INPUT, WIDE = LEAVE[Keep.HOST], LEAVE[Keep.AWAY]


def saved(index, rows, dtype=torch.float32):
    generator = torch.Generator().manual_seed(100 * index + rows)
    x, qkv, up = (torch.randn(rows, width, generator=generator).to(dtype) for width in (6, 18, 32))
    return Saved(x, qkv=qkv, up=up, up_low=torch.full((rows, 2), float(index)))


def passed(host, rows, away, dtype=torch.float32):
    """A forward and backward pass over six blocks; `away`: what some of them leave."""
    kept = [saved(i, rows, dtype) for i in range(6)]
    held = []
    for i, s in enumerate(kept):
        if i in away:
            held.append(host.away(i, s, away[i]))
        else:
            held.append(s)
            host.passed(i)
    for i, parts in away.items():
        assert all(getattr(held[i], name) is None or getattr(held[i], name).numel() == 0 for name in parts)
    for i in reversed(range(6)):
        back = host.back(i, held[i])
        for name in ("x", "qkv", "up", "up_low"):
            assert torch.equal(getattr(back, name), getattr(kept[i], name))


@pytest.mark.parametrize("blocks", [[0], [5], [0, 1, 2], [1, 3, 5], [2, 3], list(range(6)), []])
def test_what_left_comes_back(blocks):
    host = HostMemory(CPU)
    for parts in (INPUT, WIDE):
        passed(host, 7, dict.fromkeys(blocks, parts))
    passed(host, 7, {i: INPUT if i % 2 else WIDE for i in blocks})


def test_rows_of_other_lengths_and_types_use_the_memory_again():
    host = HostMemory(CPU)
    away = {0: INPUT, 1: WIDE, 2: INPUT}
    passed(host, 9, away)
    places = [place.memory.data_ptr() for place in host._places]
    passed(host, 4, away)
    assert [place.memory.data_ptr() for place in host._places] == places
    passed(host, 20, away)
    passed(host, 3, away, torch.float64)


def test_as_much_is_held_as_the_largest_pass_left_whichever_blocks_left_it():
    """Rows of other lengths leave other blocks, and what may be locked is one limit for all of them."""
    host = HostMemory(CPU)
    most = 0
    for rows, blocks in [
        (9, [1, 3]),
        (6, [0, 2, 4]),
        (4, [0, 1, 2, 3, 4]),
        (9, [0, 2]),
        (11, [3]),
        (7, [4, 5]),
    ]:
        passed(host, rows, dict.fromkeys(blocks, WIDE))
        most = max(most, len(blocks) * rows * (18 + 32) * 4)
        assert host.size == most
    passed(host, 5, {0: INPUT, 1: WIDE, 2: WIDE, 3: INPUT})  # over places of other sizes
    assert host.size == most


def test_memory_that_cannot_be_had_whole_is_given_back(monkeypatch):
    """The step is done again with nothing away: what was got until then would be locked for nobody."""
    host, make, made = HostMemory(CPU), _Place.make, []

    def failing(size, device):
        if made:
            raise torch.OutOfMemoryError("cannot be locked")
        made.append(size)
        return make(size, device)

    monkeypatch.setattr(_Place, "make", failing)
    host.away(0, saved(0, 5), WIDE)
    assert host.size == made[0]
    with pytest.raises(torch.OutOfMemoryError):
        host.away(1, saved(1, 5), WIDE)
    assert host.size == 0
    assert host._going is None
    kept = saved(0, 5)
    assert host.back(0, kept) is kept
    monkeypatch.undo()
    passed(host, 5, {0: WIDE, 1: WIDE})


def test_what_came_back_is_not_overwritten_by_the_next_pass():
    host = HostMemory(CPU)
    first = saved(0, 5)
    back = host.back(0, host.away(0, first, INPUT)).x
    host.away(0, saved(1, 5), INPUT)
    assert torch.equal(back, first.x)


def test_a_pass_that_did_not_end_is_forgotten():
    host = HostMemory(CPU)
    host.away(0, saved(0, 5), INPUT)
    host.away(1, saved(1, 5), WIDE)
    host.forget()
    kept = saved(1, 5)
    assert host.back(1, kept) is kept
    passed(host, 6, {0: INPUT, 1: WIDE})


class FailingCuda:
    """CUDA that locks nothing. As the real one, it tells of the failure again at the next launch."""

    def __init__(self):
        self.told = []

    def cudaHostRegister(self, address, size, flags):
        self.told.append(2)
        return 2

    def launch(self, *args, **kwargs):
        if self.told:
            raise RuntimeError(f"CUDA error: {self.told.pop()}")


def test_a_failure_to_lock_is_told_once(monkeypatch):
    """What is tried with less memory must not fail for what was too much."""
    cuda = FailingCuda()
    monkeypatch.setattr("tenbin.decoder.host._runtime", lambda: cuda)
    monkeypatch.setattr("tenbin.decoder.host.torch.zeros", cuda.launch)
    with pytest.raises(torch.OutOfMemoryError, match="100 bytes of the computer's memory cannot be locked"):
        _Place.make(100, torch.device("cuda"))
    cuda.launch()


def test_what_leaves_is_held_on_to_for_two_blocks():
    """The plan counts on it: see `KeepLevels`."""
    host = HostMemory(CPU)
    for left in (3, 4):  # another one lets go of the one before
        host.away(left, saved(left, 5), WIDE)
        assert host._going.index == left
    for index in range(5, 4 + HELD):
        host.passed(index)
        assert host._going is not None
    host.passed(4 + HELD)
    assert host._going is None


def test_which_levels_leave_something():
    assert [leaves([Keep.ALL, level]) for level in Keep] == [True, False, False, False, False, True]
    assert not leaves(None)
