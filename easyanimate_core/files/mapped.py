"""The bytes of weight files: of the one map that a file has in this process, or copied out of it.

A map is copy-on-write, because ComfyUI writes patched weights in place, and Windows charges every
such map like memory of the file's size. It also lets nobody replace or remove a mapped file. So a
file has one map at a time, which lives as long as a tensor of it; a small file has none.
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

#: Smaller files are copied into memory, so that they can be written again while they are in use.
SMALL_BYTES = 64 * 1024 * 1024
#: Where Windows does not promise the memory, PyTorch's map ends the process and Python's raises.
#: Elsewhere PyTorch makes it: on macOS Python's waits for the disk every time.
BY_PYTHON = os.name == "nt"
#: Windows' codes where it has no memory to promise: the last one is of the page file.
_NO_MEMORY = (8, 14, 1455)

_maps: weakref.WeakValueDictionary[tuple[object, ...], Any] = weakref.WeakValueDictionary()
_making = threading.Lock()


class FileBytes:
    """The content of a file as it is now. It is open while it is read, and not in between.

    Raises:
        CheckpointError: The file was written again since.
        OSError: It cannot be read or mapped.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        status = file.stat()
        self._stamp = _stamp(status)
        self.size = status.st_size

    def kept(self, start: int, count: int) -> Tensor:
        """`count` bytes from `start`, of the file's map; of a small file a copy."""
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
        return CheckpointError(
            f"{self._file} was written again after it was opened: load it once more."
        )


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
