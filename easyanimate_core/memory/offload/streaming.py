"""Streaming the blocks of a network to the device one by one.

Two slots on the device hold the running block and the next one, so the device needs memory for two
blocks, regardless of how many are streamed. On CUDA, the next block is sent on a separate stream
while the current one computes.

Only transfers from page-locked memory overlap with the computation, so a block's tensors are packed
into a page-locked buffer first. That takes longer than a block computes, so a thread does it, and
for as many blocks as memory may be locked (`memory.locked`) only once. The others are packed anew
for every call, into one buffer per slot, and their weights stay memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..locked import locked_bytes
from .weights import Weight, parts_of, rebuilt, weights_of

#: Bytes; every tensor is aligned so that kernels for aligned memory can be used.
_ALIGNMENT = 256


@contextmanager
def streamed(
    blocks: Sequence[nn.Module], device: torch.device, *, lockable: int = 0
) -> Iterator[None]:
    """Within the `with` block, `blocks` compute on `device`, which holds at most two of them.

    They may be called in any order; called in their own order, repeatedly, each is prefetched.
    Afterwards the modules are as before, even after an exception. `lockable`: bytes of main memory
    that packed blocks may take, which pays for blocks that are called often.
    """
    stream = _BlockStream(blocks, device, lockable)
    try:
        stream.attach()
        yield
    finally:
        stream.detach()


class _BlockStream:
    """The schedule: which block is in which slot, and when the next one is fetched."""

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device, lockable: int) -> None:
        self._blocks = blocks
        self._weights = [weights_of(block.modules()) for block in blocks]
        sizes = (_packed_size(_parts(weights)) for weights in self._weights)
        self._slots = _make_slots(max(sizes, default=0), device, lockable)
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
        slot.fill(index, _parts(self._weights[index]))
        slot.block = index
        return slot


class _Slot:
    """Memory for one block on a device, filled synchronously."""

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        self.block: int | None = None
        self.room = torch.empty(num_bytes, dtype=torch.uint8, device=device)

    def fill(self, index: int, parts: Sequence[Tensor]) -> None:  # noqa: ARG002
        """Copy the tensors of block `index` to the device."""
        _pack(parts, self.room)

    def wait(self) -> None:
        """Make the computation wait until they have arrived."""

    def release(self) -> None:
        """Allow the next block to be sent once the computation is done."""

    def close(self) -> None:
        """Free the memory; an exception's traceback may keep this object alive for longer."""
        self.room = self.room.new_empty(0)


class _LockedBlocks:
    """Packed blocks in page-locked memory, as many as `num_bytes` hold; they are packed once."""

    def __init__(self, num_bytes: int) -> None:
        self._left = num_bytes
        self._blocks: dict[int, Tensor] = {}

    def packed(self, index: int, parts: Sequence[Tensor]) -> Tensor | None:
        """The block's buffer, packed at the first call; None if there is no memory for it."""
        if index not in self._blocks:
            num_bytes = _packed_size(parts)
            if locked_bytes(num_bytes) > self._left:
                return None
            try:
                buffer = _locked(num_bytes)
            except RuntimeError:  # the system locks no more
                self._left = 0
                return None
            self._left -= locked_bytes(num_bytes)
            _pack(parts, buffer)
            self._blocks[index] = buffer
        return self._blocks[index]

    def close(self) -> None:
        """Free the memory."""
        self._blocks.clear()


def _locked(num_bytes: int) -> Tensor:
    return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)


class _CudaSlot(_Slot):
    """The same, filled asynchronously: a thread packs, a stream sends."""

    def __init__(self, num_bytes: int, device: torch.device, lane: _Lane) -> None:
        super().__init__(num_bytes, device)
        self._device = device
        self._lane = lane
        self._staging: Tensor | None = None
        self._filled: Future[None] | None = None
        self._sent, self._used = torch.cuda.Event(), torch.cuda.Event()
        self.release()  # the memory may be from a tensor that the device still computes with

    def fill(self, index: int, parts: Sequence[Tensor]) -> None:
        """Have the tensors packed and sent; returns at once."""
        self._filled = self._lane.thread.submit(self._send, index, parts)

    @torch.inference_mode()
    def _send(self, index: int, parts: Sequence[Tensor]) -> None:
        packed = self._lane.locked.packed(index, parts)
        if packed is None:
            if self._staging is None:
                self._staging = _locked(len(self.room))
            self._sent.synchronize()  # what was sent last was packed there
            packed = self._staging[: _pack(parts, self._staging)]
        with torch.cuda.device(self._device), torch.cuda.stream(self._lane.stream):
            self._lane.stream.wait_event(self._used)
            self.room[: len(packed)].copy_(packed, non_blocking=True)
            self._sent.record()

    def wait(self) -> None:
        """Make the computation wait until they have arrived."""
        if self._filled is not None:
            self._filled.result()
        torch.cuda.current_stream(self._device).wait_event(self._sent)

    def release(self) -> None:
        """Allow the next block to be sent once the computation is done."""
        self._used.record(torch.cuda.current_stream(self._device))

    def close(self) -> None:
        """Free the memory after the last transfer has finished."""
        self._lane.close()
        self._staging = None
        super().close()


class _Lane:
    """What the slots share: the thread that packs, the stream that sends, the packed blocks."""

    def __init__(self, device: torch.device, lockable: int) -> None:
        self.stream = torch.cuda.Stream(device)
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="blocks")
        self.locked = _LockedBlocks(lockable)

    def close(self) -> None:
        """End the thread, then free the blocks after the last transfer."""
        self.thread.shutdown(cancel_futures=True)
        self.stream.synchronize()
        self.locked.close()


def _make_slots(num_bytes: int, device: torch.device, lockable: int) -> tuple[_Slot, _Slot]:
    if device.type != "cuda":
        return _Slot(num_bytes, device), _Slot(num_bytes, device)
    lane = _Lane(device, lockable)
    return _CudaSlot(num_bytes, device, lane), _CudaSlot(num_bytes, device, lane)


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
