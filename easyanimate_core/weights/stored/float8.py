"""Reads 8-bit floats quickly on a CPU, where PyTorch converts them one by one."""

from __future__ import annotations

import torch
from torch import Tensor


def to_float32(values: Tensor) -> Tensor:
    """Like `values.float()`, to the bit, at a third of the time for float8 on a CPU.

    Moved to the place of float16's exponent, the bits of a float8_e5m2 are the same value, and
    those of a finite float8_e4m3fn are 2^-8 of it.
    """
    if values.device.type != "cpu" or values.dtype not in (torch.float8_e4m3fn, torch.float8_e5m2):
        return values.float()
    codes = values.view(torch.int8)
    if values.dtype == torch.float8_e5m2:
        return codes.to(torch.int16).bitwise_left_shift_(8).view(torch.float16).float()
    if _has_nan(codes):
        return values.float()
    shifted = codes.to(torch.int16).bitwise_left_shift_(7).bitwise_and_(~0x4000)
    return shifted.view(torch.float16).float().mul_(2.0**8)


def _has_nan(codes: Tensor) -> bool:
    """Whether a float8_e4m3fn is NaN: all bits but the sign are set."""
    return bool(codes.numel()) and int(codes.bitwise_and(0x7F).amax()) == 0x7F
