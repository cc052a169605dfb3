"""Streaming the blocks of a network to the device one by one.

Two slots on the device hold the running block and the next one, so the device needs memory for two
blocks, regardless of the network's depth. On CUDA, the next block is sent on a separate stream
while the current one computes.

Each slot has a page-locked buffer, because only transfers from page-locked memory overlap with the
computation. Locking two blocks instead of the whole network (23.6 GB for the 12B in bfloat16)
leaves the weights memory-mapped: main memory never holds them twice. The price is a copy in main
memory per block, which the CPU makes while the device computes the previous block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .weights import Weight, parts_of, rebuilt, weights_of

#: Bytes; every tensor is aligned so that kernels for aligned memory can be used.
_ALIGNMENT = 256


@contextmanager
def streamed(blocks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Within the `with` block, `blocks` compute on `device`, which holds at most two of them.

    They may be called in any order; called in their own order, repeatedly, each is prefetched.
    Afterwards the modules are as before, even after an exception.
    """
    stream = _BlockStream(blocks, device)
    try:
        stream.attach()
        yield
    finally:
        stream.detach()


class _BlockStream:
    """The schedule: which block is in which slot, and when the next one is fetched."""

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device) -> None:
        self._blocks = blocks
        self._weights = [weights_of(block.modules()) for block in blocks]
        size = max(_packed_size(_parts(weights)) for weights in self._weights)
        self._slots = _make_slots(size, device)
        self._last = self._slots[1]  # the slot whose block was used last
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Add hooks that fetch a block's weights when it is called."""
        for index, block in enumerate(self._blocks):
            self._handles.append(block.register_forward_pre_hook(partial(self._before, index)))
            self._handles.append(block.register_forward_hook(partial(self._after, index)))

    def detach(self) -> None:
        """Restore every module's stored weights, then wait for running transfers."""
        for handle in self._handles:
            handle.remove()
        for weights in self._weights:
            for weight in weights:
                weight.restore()
        for slot in self._slots:
            slot.close()

    def _before(self, index: int, *_: Any) -> None:
        self._last = self._fetch(index)
        self._last.wait()
        parts = iter(_unpacked(self._last.room, _parts(self._weights[index])))
        for weight in self._weights[index]:
            weight.put(rebuilt(weight.tensor, parts))

    def _after(self, index: int, *_: Any) -> None:
        for weight in self._weights[index]:
            weight.restore()
        self._last.release()
        self._fetch((index + 1) % len(self._blocks))

    def _fetch(self, index: int) -> _Slot:
        """The slot with block `index`; if none has it, the least recently used one, filled."""
        for slot in self._slots:
            if slot.block == index:
                return slot
        slot = next(slot for slot in self._slots if slot is not self._last)
        slot.block = None  # until it is filled
        slot.fill(_parts(self._weights[index]))
        slot.block = index
        return slot


class _Slot:
    """Memory for one block on a device, filled synchronously."""

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        self.block: int | None = None
        self.room = torch.empty(num_bytes, dtype=torch.uint8, device=device)

    def fill(self, parts: Sequence[Tensor]) -> None:
        """Copy a block's tensors to the device."""
        _pack(parts, self.room)

    def wait(self) -> None:
        """Make the computation wait until they have arrived."""

    def release(self) -> None:
        """Allow the next block to be sent once the computation is done."""

    def close(self) -> None:
        """Free the memory; an exception's traceback may keep this object alive for longer."""
        self.room = self.room.new_empty(0)


class _CudaSlot(_Slot):
    """The same, filled asynchronously during the computation."""

    def __init__(self, num_bytes: int, device: torch.device, stream: torch.cuda.Stream) -> None:
        super().__init__(num_bytes, device)
        self._device = device
        self._stream = stream
        self._staging = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)
        self._sent, self._used = torch.cuda.Event(), torch.cuda.Event()
        self.release()  # the memory may be from a tensor that the device still computes with

    def fill(self, parts: Sequence[Tensor]) -> None:
        """Pack the tensors and send them; returns before they have arrived."""
        self._sent.synchronize()
        num_bytes = _pack(parts, self._staging)
        self._stream.wait_event(self._used)
        with torch.cuda.stream(self._stream):
            self.room[:num_bytes].copy_(self._staging[:num_bytes], non_blocking=True)
            self._sent.record()

    def wait(self) -> None:
        """Make the computation wait until they have arrived."""
        torch.cuda.current_stream(self._device).wait_event(self._sent)

    def release(self) -> None:
        """Allow the next block to be sent once the computation is done."""
        self._used.record(torch.cuda.current_stream(self._device))

    def close(self) -> None:
        """Free the memory after the last transfer has finished."""
        self._stream.synchronize()
        self._staging = self._staging.new_empty(0)
        super().close()


def _make_slots(num_bytes: int, device: torch.device) -> tuple[_Slot, _Slot]:
    if device.type != "cuda":
        return _Slot(num_bytes, device), _Slot(num_bytes, device)
    stream = torch.cuda.Stream(device)
    return _CudaSlot(num_bytes, device, stream), _CudaSlot(num_bytes, device, stream)


def _parts(weights: Sequence[Weight]) -> list[Tensor]:
    return [part for weight in weights for part in parts_of(weight.tensor)]


def _places(parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, int, int]]:
    """Each tensor with its first byte and the byte after its last, in one buffer."""
    start = 0
    for part in parts:
        yield part, start, start + part.nbytes
        start += -(-part.nbytes // _ALIGNMENT) * _ALIGNMENT


def _packed_size(parts: Sequence[Tensor]) -> int:
    return max((end for _, _, end in _places(parts)), default=0)


def _unpacked(room: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """Views of `room` where `_pack` has put the tensors of `parts`."""
    return [room[start:end].view(p.dtype).view(p.shape) for p, start, end in _places(parts)]


def _pack(parts: Sequence[Tensor], room: Tensor) -> int:
    """Copy the tensors into one buffer, `room`; returns the number of bytes used."""
    for place, part in zip(_unpacked(room, parts), parts, strict=True):
        place.copy_(part)
    return _packed_size(parts)
