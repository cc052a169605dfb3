"""Which device and dtype a run uses: chosen by itself, or told."""

from __future__ import annotations

import torch

from .errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """CUDA, else MPS, else CPU; or the one that is named ("cuda:1").

    Raises:
        InputError: The named device is unknown or not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"The device {name!r} cannot be used here ({str(error).splitlines()[0]}). "
            "Use auto, cpu, cuda, cuda:N or mps."
        ) from error
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The compute dtype: float32 on a CPU, else bfloat16 where the card has it, else float16.

    Raises:
        InputError: The dtype is unknown.
    """
    if name == "auto":
        if device.type == "cpu":
            return torch.float32
        fast = device.type != "cuda" or torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float16
    if name not in DTYPES:
        raise InputError(f"The dtype {name!r} is unknown. Use auto, {', '.join(DTYPES)}.")
    return DTYPES[name]
