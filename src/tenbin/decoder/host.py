"""HostMemory: inputs of blocks kept in the computer's own memory between forward and backward.

The copies run on a stream of their own beside the computation; on the way back each block's input is asked
for one block early. The memory is page-locked and used again in every pass.
"""

from dataclasses import replace

import torch
from torch import Tensor

from tenbin.decoder.block import Saved


class HostMemory:
    """Places for the inputs of blocks, by block."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._places: dict[int, Tensor] = {}
        self._there: dict[int, tuple[int, ...]] = {}
        """Shape of what is away now, by block."""
        self._coming: dict[int, tuple[Tensor, torch.cuda.Event | None]] = {}

    def away(self, index: int, s: Saved) -> Saved:
        """Copy the input of a block out; the saved record no longer holds it."""
        x = s.x
        place = self._places.get(index)
        if place is None or place.numel() < x.numel() or place.dtype != x.dtype:
            pin = self._stream is not None
            place = torch.empty(x.numel(), dtype=x.dtype, pin_memory=pin)
            self._places[index] = place
        target = place[: x.numel()].view(x.shape)
        if self._stream is None:
            target.copy_(x)
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                target.copy_(x, non_blocking=True)
            x.record_stream(self._stream)
        self._there[index] = tuple(x.shape)
        return replace(s, x=x.new_empty(0))

    def back(self, index: int, s: Saved) -> Saved:
        """The saved record with its input again, where it was away; the block before is asked for."""
        if index in self._there and index not in self._coming:
            self._fetch(index)
        if index - 1 in self._there:
            self._fetch(index - 1)
        if index not in self._there:
            return s
        x, event = self._coming.pop(index)
        if event is not None:
            torch.cuda.current_stream(self._device).wait_event(event)
            x.record_stream(torch.cuda.current_stream(self._device))
        del self._there[index]
        return replace(s, x=x)

    def forget(self) -> None:
        """Nothing is away any more."""
        self._there.clear()
        self._coming.clear()

    def _fetch(self, index: int) -> None:
        shape = self._there[index]
        place = self._places[index]
        source = place[: torch.Size(shape).numel()].view(shape)
        if self._stream is None:
            self._coming[index] = (source.clone(), None)
            return
        # Not before the computation so far: memory that it freed may be what is written now.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            x = torch.empty(shape, dtype=place.dtype, device=self._device)
            x.copy_(source, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(self._stream)
        self._coming[index] = (x, event)
