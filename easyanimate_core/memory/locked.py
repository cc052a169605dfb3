"""How much main memory packed blocks may lock, so that they are sent without another copy."""

from __future__ import annotations

import psutil

#: Main memory that locked blocks leave to everything else.
_LEFT_BYTES = 4 * 10**9


def lockable_memory() -> int:
    """How much may be locked on this machine now."""
    memory = psutil.virtual_memory()
    return lockable_within(memory.available, memory.total)


def lockable_within(free: int, total: int) -> int:
    """How much of the free memory may be locked: at most half of all of it.

    Windows locks no more than that, and what is locked cannot be swapped out.
    """
    return max(0, min(free - _LEFT_BYTES, total // 2))


def locked_bytes(num_bytes: int) -> int:
    """What a page-locked buffer takes: PyTorch's allocator rounds up to a power of two."""
    return 1 << max(num_bytes - 1, 0).bit_length()
