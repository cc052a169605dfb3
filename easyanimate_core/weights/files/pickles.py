"""Tensors from PyTorch's pickled files, read with `weights_only` so that no code runs.

The only place that reads pickles: for `convert`, and for detectors, whose published weights are
pickles. `weights_only` refuses all objects except tensors and plain containers; it is set
explicitly, because its default depends on the PyTorch version.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Keys under which trainers save a network's tensors, next to other data.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "module", "model", "params",
             "network", "weights")  # fmt: skip
_MOST_TENSORS = 100_000
_SHOWN = 4


def read_pickle(path: Path, *, mapped: bool = False) -> dict[Any, Any]:
    """The dict in a pickled file; `mapped` leaves its tensors on disk if the format allows it.

    Raises:
        CheckpointError: It is damaged, contains objects that could run code, or is not a dict.
    """
    import torch

    try:
        is_archive = zipfile.is_zipfile(path)
        if is_archive:
            _refuse_packed(path)
        mapped = mapped and is_archive
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except CheckpointError:
        raise
    except MemoryError as error:
        raise CheckpointError(
            f"{path} needs more memory than is available: it is damaged, or too large for this "
            "machine. Download it again, or the .safetensors version."
        ) from error
    except Exception as error:  # pickle's own error among others, and pickle is not imported here
        raise CheckpointError(
            f"{path} cannot be read as plain tensors ({_reason(error)}). It is damaged, or it "
            "contains objects that could run code, which are refused. Download it again, or the "
            ".safetensors version."
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} contains a {type(state).__name__}, not a network's tensors.")
    return state


def _reason(error: Exception) -> str:
    """Only the fault: PyTorch's message goes on to explain how to open the file anyway."""
    text = str(error)
    found = re.search(
        r"unsupported (?:global: )?(?:GLOBAL|class|operand) [\w.]+", text, re.IGNORECASE
    )
    lines = text.splitlines()
    if found is not None:
        return found[0]
    return lines[0] if lines and "Weights only" not in lines[0] else type(error).__name__


def _refuse_packed(path: Path) -> None:
    """PyTorch does not compress; unpacked, a compressed file could be a thousand times larger."""
    with zipfile.ZipFile(path) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise CheckpointError(
                f"{path} is a compressed archive or a TorchScript program, not weights written by "
                "torch.save. Unpack it, or download the weights themselves."
            )


class PickleFile:
    """The tensors of a pickled file by name; `left_out` names its other entries."""

    def __init__(self, file: Path) -> None:
        self._file = file
        state = _unwrapped(read_pickle(file, mapped=True))
        self._tensors = {str(name): value for name, value in state.items() if _is_tensor(value)}
        self.left_out = tuple(str(name) for name, value in state.items() if not _is_tensor(value))
        if not self._tensors or len(self._tensors) > _MOST_TENSORS:
            raise CheckpointError(
                f"{file} contains {len(self._tensors)} tensors; other entries: "
                f"{', '.join(self.left_out[:_SHOWN]) or 'none'}. It is not a network's weights: "
                "choose another file."
            )
        for name, tensor in self._tensors.items():
            self._check(name, tensor)

    def keys(self) -> list[str]:
        """The tensors' names."""
        return list(self._tensors)

    def metadata(self) -> dict[str, str]:
        """Always empty: pickles have none."""
        return {}

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        """The dtype as in a safetensors header, and the shape."""
        tensor = self._tensors[name]
        return _words()[tensor.dtype], tuple(tensor.shape)

    def get_tensor(self, name: str) -> Tensor:
        """A tensor that shares memory with the loaded file."""
        return self._tensors[name].detach()

    read_tensor = get_tensor

    def _check(self, name: str, tensor: Tensor) -> None:
        """Raise unless it is an ordinary tensor whose values are all in the file."""
        import torch

        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
        if not plain or tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise CheckpointError(
                f"{name} of {self._file} is a {type(tensor).__name__} ({tensor.layout}), not a "
                "plain tensor. Save its values as a plain tensor, or use another file."
            )
        if tensor.dtype not in _words():
            raise CheckpointError(
                f"{name} of {self._file} is {tensor.dtype}, which cannot be converted to "
                "safetensors. Use a file in float32, bfloat16 or float16."
            )
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                f"{name} of {self._file} claims {tensor.numel()} values, more than are stored. The "
                "file is damaged or malicious: download it again."
            )


def _unwrapped(state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The innermost dict, which contains the tensors themselves."""
    while not any(map(_is_tensor, state.values())):
        inner = next((state[name] for name in _WRAPPERS if isinstance(state.get(name), dict)), None)
        if inner is None:
            break
        state = inner
    return state


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _words() -> dict[torch.dtype, str]:
    import torch

    return {
        torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
        torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64",
        torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
        torch.bool: "BOOL",
    }  # fmt: skip
