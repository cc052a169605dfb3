"""The bytes of weight files: of the one map that a file has in this process, or copied out of it.

A map is copy-on-write, because ComfyUI writes patched weights in place, and Windows charges every
such map like memory of the file's size. It also lets nobody replace or remove a mapped file. So a
file has one map at a time, which lives as long as a tensor of it; a small file has none.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

#: Smaller files are copied into memory, so that they can be written again while they are in use.
SMALL_BYTES = 64 * 1024 * 1024
#: PyTorch's words for "no memory" where a map cannot be made: ENOMEM, and Windows' page file.
_NO_MEMORY = re.compile(r"\(12\)|<(8|14|1455)>")

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

        return torch.asarray(self._map()[start : start + count], dtype=torch.uint8, device="cpu")

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
        import torch

        with _making:
            status = self._file.stat()
            self._check(status)
            key = (os.path.realpath(self._file), status.st_dev, status.st_ino, *self._stamp)
            whole = _maps.get(key)
            if whole is None:
                try:
                    whole = torch.UntypedStorage.from_file(str(self._file), False, self.size)
                except RuntimeError as error:
                    kind = errno.ENOMEM if _NO_MEMORY.search(str(error)) else errno.EIO
                    raise OSError(kind, str(error).splitlines()[0], str(self._file)) from error
                _maps[key] = whole
            return whole

    def _check(self, status: os.stat_result) -> None:
        if _stamp(status) != self._stamp:
            raise self._changed()

    def _changed(self) -> CheckpointError:
        return CheckpointError(
            f"{self._file} was written again after it was opened: load it once more."
        )


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
