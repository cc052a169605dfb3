"""The attention kernel of a run, chosen by card and tested before it is used."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...errors import InputError
from .kernel import AttentionFunction, scaled_dot_product

logger = logging.getLogger(__name__)

#: The package that each of these needs; the other choices are part of PyTorch.
PACKAGES = {"flash3": "flash_attn_interface", "sage": "sageattention"}
#: Largest error of a kernel, relative to the largest value of attention in float32. Half precision
#: has 0.01; Sage multiplies queries and keys in 8 bits.
TOLERANCE, SAGE_TOLERANCE = 0.02, 0.1
_FLASH_FIRST = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION)
_CUDNN_FIRST = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION)
#: A size that is no multiple of a kernel's tiles: heads, tokens, head dimension.
_TESTED = (3, 333, 64)


def attention_of(
    name: str, device: torch.device, dtype: torch.dtype, capability: int | None
) -> AttentionFunction:
    """The kernel for one of `memory.options.ATTENTIONS`.

    Args:
        name: "auto" asks cuDNN first on NVIDIA's cards from Hopper on, and flash on older ones.
        device: Where the denoiser runs.
        dtype: Its compute dtype.
        capability: NVIDIA's compute capability of the device, None for any other device.

    A kernel that fails its test is replaced by PyTorch's own choice, with a warning.

    Raises:
        InputError: The device or this installation lacks the kernel.
    """
    if name == "auto" and (capability is None or dtype is torch.float32):
        return scaled_dot_product
    if capability is None:
        raise InputError(
            f"The attention kernel {name} is for NVIDIA's cards; this run is on {device.type}. Use "
            "auto."
        )
    package = PACKAGES.get(name)
    if package is not None and find_spec(package) is None:
        raise InputError(
            f"The attention kernel {name} needs the Python package {package}, which is not "
            "installed. Install it, or use auto."
        )
    if name == "auto":
        name = "cudnn" if capability >= 90 else "flash"
    return tested(name, _KERNELS[name], device, dtype)


def tested(
    name: str, kernel: AttentionFunction, device: torch.device, dtype: torch.dtype
) -> AttentionFunction:
    """`kernel` if it gives the right result on this device, else PyTorch's choice."""
    fault = _fault_of(kernel, device, dtype, SAGE_TOLERANCE if name == "sage" else TOLERANCE)
    if fault is None:
        return kernel
    logger.warning("The attention kernel %s is not used: %s. PyTorch chooses one.", name, fault)
    return scaled_dot_product


def _fault_of(
    kernel: AttentionFunction, device: torch.device, dtype: torch.dtype, tolerance: float
) -> str | None:
    """What is wrong with a kernel; None if nothing is."""
    generator = torch.Generator().manual_seed(0)
    heads, tokens, width = _TESTED
    drawn = torch.randn(3, 2, tokens, heads, width, generator=generator).to(device, dtype)
    q, k, v = drawn.transpose(2, 3)  # strided as the denoiser's
    wanted = F.softmax(q.float() @ k.float().mT / width**0.5, dim=-1) @ v.float()
    wanted = wanted.transpose(1, 2).flatten(2)
    try:
        found = kernel(q, k, v).float()
    except Exception as error:  # whatever a foreign kernel raises
        return f"it fails with {type(error).__name__} ({str(error).partition(chr(10))[0]})"
    if found.shape != wanted.shape:
        return f"its result has the shape {tuple(found.shape)} instead of {tuple(wanted.shape)}"
    apart = float((found - wanted).abs().max() / wanted.abs().max())
    return None if apart <= tolerance else f"its result is {apart:.0%} off"


def _in_order(first: tuple[SDPBackend, ...]) -> AttentionFunction:
    """PyTorch's attention with these implementations first."""
    order = [*first, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

    def attend(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
        with sdpa_kernel(order, set_priority=True):
            return scaled_dot_product(q_BHND, k_BHND, v_BHND)

    return attend


def _in_half_precision(kernel: AttentionFunction) -> AttentionFunction:
    """A package's kernel; what float16 repeats in float32 is left to PyTorch."""

    def attend(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
        if q_BHND.dtype is torch.float32:
            return scaled_dot_product(q_BHND, k_BHND, v_BHND)
        return kernel(q_BHND, k_BHND, v_BHND)

    return attend


def _flash3(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
    from flash_attn_interface import flash_attn_func

    out = flash_attn_func(*(x.transpose(1, 2) for x in (q_BHND, k_BHND, v_BHND)))
    return (out[0] if isinstance(out, tuple) else out).flatten(2)


def _sage(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
    from sageattention import sageattn

    out: Tensor = sageattn(q_BHND, k_BHND, v_BHND, tensor_layout="HND")
    return out.transpose(1, 2).flatten(2)


_KERNELS: dict[str, AttentionFunction] = {
    "flash": _in_order(_FLASH_FIRST),
    "cudnn": _in_order(_CUDNN_FIRST),
    "flash3": _in_half_precision(_flash3),
    "sage": _in_half_precision(_sage),
}
