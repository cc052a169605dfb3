"""Which device and dtype a run uses, by default or on request, and which devices stay unused."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import torch

from ..errors import InputError
from ..files.graphics import graphics_makers
from .cards import Card, usual_dtype
from .device_names import DEVICE_NAMES, DTYPE_NAMES

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CPU = torch.device("cpu")
_INSTALL = "https://pytorch.org/get-started/locally"


def pick_device(name: str = "auto") -> torch.device:
    """The named device ("cuda:1"), or the best one for "auto".

    "auto" is the first card that PyTorch can compute on (CUDA, then XPU, then MPS), else the CPU.

    Raises:
        InputError: The named device is unknown or not on this machine, or this PyTorch was built
            for none of the machine's cards.
    """
    if name == "auto":
        found = graphics_cards()
        usable = [card for card in found if card.has_kernels]
        if found and not usable:
            raise InputError(f"{_without_kernels(found[0])} Or compute on the CPU: --device cpu.")
        return torch.device(usable[0].device.removesuffix(":0")) if usable else _CPU
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"The device {name!r} cannot be used here ({_first_sentence(error)}). "
            f"Use {DEVICE_NAMES}."
        ) from error
    card = card_of(device)
    if not card.has_kernels:
        raise InputError(_without_kernels(card))
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The named compute dtype, or the device's `usual_dtype` for "auto".

    Raises:
        InputError: The dtype is unknown.
    """
    if name == "auto":
        return usual_dtype(card_of(device)).dtype
    if name not in DTYPES:
        raise InputError(f"The dtype {name!r} is unknown. Use {DTYPE_NAMES}.")
    return DTYPES[name]


def text_dtype(compute: torch.dtype, device: torch.device) -> torch.dtype:
    """The text encoders' dtype on `device` if the denoiser computes in `compute`.

    Their states overflow float16: mT5's always, Qwen2-VL's for some prompts. bfloat16 takes the
    same memory, and even emulated, a prompt takes only a second. Before macOS 14, Macs have no
    bfloat16 at all.
    """
    if compute is not torch.float16:
        return compute
    lacks = device.type == "mps" and not card_of(device).bfloat16
    return torch.float32 if lacks else torch.bfloat16


def card_of(device: torch.device) -> Card:
    """The properties of a device, as reported by PyTorch."""
    if device.type == "cuda":
        return _cuda_card(torch.cuda.current_device() if device.index is None else device.index)
    if device.type == "xpu":
        return _xpu_card(torch.xpu.current_device() if device.index is None else device.index)
    if device.type == "mps":
        bfloat16 = torch.backends.mps.is_macos_or_newer(14, 0)
        num_bytes = torch.mps.recommended_max_memory()
        return Card("mps", "Apple GPU", "", num_bytes, shares_memory=True, bfloat16=bfloat16)
    return Card(device.type, platform.processor() or platform.machine(), shares_memory=True)


def graphics_cards() -> tuple[Card, ...]:
    """All cards that PyTorch reports, in order of preference."""
    return tuple(_graphics_cards())


def device_notes(asked: str, device: torch.device, compute: torch.dtype) -> tuple[str, ...]:
    """Notes for the user on the device, which was requested as `asked`, and on its dtype.

    They list cards that "auto" leaves idle, and warn of a dtype that the device only emulates.
    """
    notes = list(_unused_cards(device)) if asked == "auto" else []
    card = card_of(device)
    usual = usual_dtype(card)
    if compute is torch.bfloat16 and card.kind != "cpu" and usual.dtype is not torch.bfloat16:
        name = str(usual.dtype).removeprefix("torch.")
        notes.append(
            f"bfloat16 was requested on {card.device} ({card.name}), which does not support it: it "
            f"is slow, and convolutions may fail. Use --dtype {name} on this card."
        )
    return tuple(notes)


def _graphics_cards() -> Iterator[Card]:
    if torch.cuda.is_available():
        yield from (_cuda_card(index) for index in range(torch.cuda.device_count()))
    if torch.xpu.is_available():
        yield from (_xpu_card(index) for index in range(torch.xpu.device_count()))
    if torch.backends.mps.is_available():
        yield card_of(torch.device("mps"))


def _cuda_card(index: int) -> Card:
    facts = torch.cuda.get_device_properties(index)
    amd = torch.version.hip is not None
    return Card(
        device=f"cuda:{index}",
        name=facts.name,
        architecture=facts.gcnArchName.partition(":")[0] if amd
        else f"sm_{facts.major}{facts.minor}",
        num_bytes=facts.total_memory,
        shares_memory=bool(getattr(facts, "is_integrated", False)),
        kernels=tuple(torch.cuda.get_arch_list()),
    )  # fmt: skip


def _xpu_card(index: int) -> Card:
    facts = torch.xpu.get_device_properties(index)
    return Card(
        device=f"xpu:{index}",
        name=facts.name,
        num_bytes=facts.total_memory,
        bfloat16=bool(getattr(facts, "has_bfloat16_conversions", True)),
        float16=bool(getattr(facts, "has_fp16", True)),
    )


def _unused_cards(chosen: torch.device) -> Iterator[str]:
    used = card_of(chosen).device
    found = graphics_cards()
    others = [card for card in found if card.device != used]
    if others:
        listed = ", ".join(f"{card.device} ({card.name})" for card in others if card.has_kernels)
        if listed:
            yield f"Only {used} is used; also available: {listed}. Choose with --device."
        yield from (_without_kernels(card) for card in others if not card.has_kernels)
    if not found:
        for maker in graphics_makers():
            yield (
                f"This machine has {maker} graphics hardware that this PyTorch "
                f"({torch.__version__}) cannot use: install the build for it ({_INSTALL})."
            )


def _first_sentence(error: Exception) -> str:
    return str(error).splitlines()[0].partition(". ")[0].removesuffix(".")


def _without_kernels(card: Card) -> str:
    """Why this PyTorch cannot compute on a card, and which build can."""
    own = card.capability
    numbers = [int(kind.split("_")[1]) for kind in card.kernels if kind.startswith("sm_")]
    older = own is not None and numbers != [] and own < min(numbers)
    remedy = "a newer one"
    if own is None:
        remedy = "AMD's build for this card"
    elif older:
        remedy = "the build for CUDA 12.6 (--index-url https://download.pytorch.org/whl/cu126)"
    return (
        f"{card.device} ({card.name}, {card.architecture}) cannot be used: PyTorch "
        f"{torch.__version__} was built for {', '.join(card.kernels)}. Install {remedy}; see "
        f"{_INSTALL}."
    )
