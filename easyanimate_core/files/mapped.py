"""The bytes of weight files: memory-mapped once per process, or copied.

Maps are copy-on-write, because ComfyUI patches weights in place, and Windows charges each such map
as memory of the file's size. Windows also refuses to replace or remove a mapped file. So a file has
one map at a time, which lives as long as any tensor that uses it; small files are not mapped.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

#: Smaller files are copied into memory, so that they can be rewritten while in use.
SMALL_BYTES = 64 * 1024 * 1024
#: When Windows cannot commit the memory, PyTorch's map kills the process while Python's raises.
#: Elsewhere PyTorch maps the file: on macOS Python's map waits for the disk every time.
BY_PYTHON = os.name == "nt"
#: Windows' error codes for memory that cannot be committed; the last: the page file is too small.
_NO_MEMORY = (8, 14, 1455)

_maps: weakref.WeakValueDictionary[tuple[object, ...], Any] = weakref.WeakValueDictionary()
_making = threading.Lock()


class FileBytes:
    """The content of a file at construction time. The file is open only while it is read.

    Raises:
        CheckpointError: The file has been rewritten since.
        OSError: The file cannot be read or mapped.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        status = file.stat()
        self._stamp = _stamp(status)
        self.size = status.st_size

    def kept(self, start: int, count: int) -> Tensor:
        """`count` bytes from `start`, backed by the file's map; a copy if the file is small."""
        if self.size < SMALL_BYTES or not count:
            return self.copied(start, count)
        import torch

        whole = self._map()
        if isinstance(whole, mmap.mmap):
            return torch.frombuffer(whole, dtype=torch.uint8, count=count, offset=start)
        return torch.asarray(whole[start : start + count], dtype=torch.uint8, device="cpu")

    def copied(self, start: int, count: int) -> Tensor:
        """`count` bytes from `start` in memory of their own."""
        import torch

        content = torch.empty(count, dtype=torch.uint8, device="cpu")
        with self._file.open("rb") as opened:
            self._check(os.fstat(opened.fileno()))
            opened.seek(start)
            if opened.readinto(content.numpy().data) != count:
                raise self._changed()
        return content

    def _map(self) -> Any:
        with _making:
            status = self._file.stat()
            self._check(status)
            key = (os.path.realpath(self._file), status.st_dev, status.st_ino, *self._stamp)
            whole = _maps.get(key)
            if whole is None:
                whole = self._mapped_by_python() if BY_PYTHON else self._mapped_by_torch()
                _maps[key] = whole
            return whole

    def _mapped_by_python(self) -> mmap.mmap:
        with self._file.open("rb") as opened:
            try:
                return mmap.mmap(opened.fileno(), self.size, access=mmap.ACCESS_COPY)
            except OSError as error:
                if getattr(error, "winerror", None) in _NO_MEMORY:
                    raise OSError(errno.ENOMEM, str(error), str(self._file)) from error
                raise

    def _mapped_by_torch(self) -> Any:
        import torch

        try:
            return torch.UntypedStorage.from_file(str(self._file), False, self.size)
        except RuntimeError as error:
            kind = errno.ENOMEM if f"({errno.ENOMEM})" in str(error) else errno.EIO
            raise OSError(kind, str(error).splitlines()[0], str(self._file)) from error

    def _check(self, status: os.stat_result) -> None:
        if _stamp(status) != self._stamp:
            raise self._changed()

    def _changed(self) -> CheckpointError:
        return CheckpointError(f"{self._file} was rewritten after it was opened: load it again.")


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
