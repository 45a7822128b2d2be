"""HostMemory: parts of what blocks keep, in the computer's own memory between forward and backward.

The copies run on a stream of their own beside the computation; on the way back each block's parts are asked
for one block early. At any time the parts of two blocks at most are on their way. The memory is page-locked
and used again in every pass, from its beginning: it is as large as what the largest pass left, whichever
blocks left it.
"""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from tenbin.decoder.block import Keep, Saved

LEAVE: Mapping[Keep, tuple[str, ...]] = {Keep.HOST: ("x",), Keep.AWAY: ("qkv", "up")}
"""What a block of a level leaves in the computer's memory."""
HELD = 2
"""Blocks for whose forward pass the parts of the one before them are on their way at most."""


def leaves(keep: Sequence[Keep] | None) -> bool:
    """Whether a pass in which blocks keep so much copies to the computer's memory."""
    return any(level in LEAVE for level in keep or ())


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _Place:
    """A piece of the computer's memory."""

    memory: Tensor  # (bytes,) uint8

    @classmethod
    def make(cls, size: int, device: torch.device) -> "_Place":
        """Of so many bytes, page-locked where copies come from a GPU.

        Raises:
            torch.OutOfMemoryError: there is not so much, or it cannot be locked.
        """
        memory = torch.empty(size, dtype=torch.uint8)
        place = cls(memory)
        if device.type == "cuda":
            # Not `pin_memory`, which takes the next power of two.
            failed = int(_runtime().cudaHostRegister(memory.data_ptr(), size, 0))
            if failed:
                with suppress(RuntimeError):  # CUDA tells it once more, to whatever is launched next
                    torch.zeros(1, device=device)
                raise torch.OutOfMemoryError(
                    f"{size} bytes of the computer's memory cannot be locked: CUDA error {failed}"
                )
            weakref.finalize(place, _unlock, memory).atexit = False
        return place


def _unlock(memory: Tensor) -> None:
    _runtime().cudaHostUnregister(memory.data_ptr())


class _Runtime(Protocol):
    """Of CUDA's own, what PyTorch passes on without types; 0 is success."""

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int: ...  # noqa: N802  (its name)

    def cudaHostUnregister(self, address: int) -> int: ...  # noqa: N802


def _runtime() -> _Runtime:
    return cast(_Runtime, torch.cuda.cudart())  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class _Moving:
    """Tensors on the GPU that are copied from or to."""

    index: int
    """Of the block."""
    parts: Mapping[str, Tensor]
    done: torch.cuda.Event | None


@dataclass(frozen=True, slots=True)
class _Left:
    """A part that is away."""

    start: int
    """Of its bytes, in all places end to end."""
    shape: torch.Size
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """In bytes."""
        return self.shape.numel() * self.dtype.itemsize


class HostMemory:
    """Parts of blocks, by block."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._places: list[_Place] = []
        self._there: dict[int, dict[str, _Left]] = {}
        """What is away now, by block."""
        self._going: _Moving | None = None
        self._coming: dict[int, _Moving] = {}

    def away(self, index: int, s: Saved, parts: Sequence[str]) -> Saved:
        """Copy parts of what a block kept out; the saved record no longer holds them."""
        leaving: dict[str, Tensor] = {name: getattr(s, name).contiguous() for name in parts}
        self._there[index] = left = self._laid_out(leaving)
        self._begin()
        with torch.cuda.stream(self._stream):
            for name, x in leaving.items():
                for place, piece in self._pieces(left[name], x):
                    place.copy_(piece, non_blocking=True)
            going = _Moving(index, leaving, self._event())
        self._arrived()  # of the block before: one at a time holds on to its memory here
        self._going = going
        gone: dict[str, Any] = {name: x.new_empty(0) if name == "x" else None for name, x in leaving.items()}
        return replace(s, **gone)

    def passed(self, index: int) -> None:
        """A block that leaves nothing here is done: what left long before has to be away by now."""
        if self._going is not None and index - self._going.index >= HELD:
            self._arrived()

    def back(self, index: int, s: Saved) -> Saved:
        """The saved record with its parts again, where some were away; those of the block before are asked
        for."""
        self._arrived()
        if index in self._there and index not in self._coming:
            self._fetch(index)
        if index - 1 in self._there:
            self._fetch(index - 1)
        if index not in self._there:
            return s
        found = self._coming.pop(index)
        self._wait(found)
        del self._there[index]
        parts: dict[str, Any] = dict(found.parts)
        return replace(s, **parts)

    def forget(self) -> None:
        """Nothing is away any more."""
        self._arrived()
        for found in self._coming.values():
            self._wait(found)
        self._there.clear()
        self._coming.clear()

    @property
    def size(self) -> int:
        """Bytes that are held, whether something is there or not."""
        return sum(place.memory.numel() for place in self._places)

    def _laid_out(self, leaving: Mapping[str, Tensor]) -> dict[str, _Left]:
        """Where parts of a block will be: behind what is away already."""
        end = max((one.start + one.size for left in self._there.values() for one in left.values()), default=0)
        found: dict[str, _Left] = {}
        for name, x in leaving.items():
            found[name] = _Left(end, x.shape, x.dtype)
            end += x.nbytes
        missing = end - self.size
        if missing > 0:
            try:
                self._places.append(_Place.make(missing, self._device))
            except RuntimeError:
                self._give_back()  # what cannot be had whole serves nobody
                raise
        return found

    def _give_back(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()
        self.forget()
        self._places.clear()

    def _pieces(self, left: _Left, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """(place, piece of x), in bytes: a part may lie in several places."""
        flat = x.view(-1).view(torch.uint8)
        before, done = 0, 0
        for place in self._places:
            start = max(left.start - before, 0)
            memory = place.memory[start : max(left.start + left.size - before, 0)]
            if memory.numel():
                yield memory, flat[done : done + memory.numel()]
                done += memory.numel()
            before += place.memory.numel()

    def _fetch(self, index: int) -> None:
        """Into memory of the computation's own stream: it is used again as soon as the block is done."""
        there = self._there[index]
        parts = {
            name: torch.empty(left.shape, dtype=left.dtype, device=self._device)
            for name, left in there.items()
        }
        self._begin()
        with torch.cuda.stream(self._stream):
            for name, x in parts.items():
                for place, piece in self._pieces(there[name], x):
                    piece.copy_(place, non_blocking=True)
            self._coming[index] = _Moving(index, parts, self._event())

    def _begin(self) -> None:
        """Not before the computation so far: it makes what is read, or is done with what is written over."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def _event(self) -> torch.cuda.Event | None:
        return None if self._stream is None else self._stream.record_event()

    def _arrived(self) -> None:
        """What went away last may be overwritten here, from now on in the computation."""
        if self._going is not None:
            self._wait(self._going)
            self._going = None

    def _wait(self, moving: _Moving) -> None:
        if moving.done is not None:
            torch.cuda.current_stream(self._device).wait_event(moving.done)
