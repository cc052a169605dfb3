"""Names of scaled weights in files: the weight, its scale, and a note about its format.

The names are ComfyUI's: `X.weight` (fp8 or int8) comes with `X.weight_scale` (float32, one value or
one per output channel) and, for ComfyUI's loader, `X.comfy_quant` (JSON as bytes). `X.input_scale`
is for activations, which are not quantised here. Reading a file converts other spellings to these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from ...errors import CheckpointError

SCALE, NOTE, INPUT_SCALE = ".weight_scale", ".comfy_quant", ".input_scale"
SIDE_TENSORS = (SCALE, NOTE, INPUT_SCALE)
#: An empty tensor that marks a file with scales; with two values, the weights are to be multiplied
#: in full precision.
MARKER = "scaled_fp8"
#: Dtypes of scaled weights, as in safetensors headers.
SCALED_DTYPES = ("F8_E4M3", "I8")
_SHOWN = 4

Info = TypeVar("Info")


class Header(Protocol):
    """What a file's header contains about a tensor."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


def without_side_tensors(infos: Mapping[str, Info]) -> dict[str, Info]:
    """The tensors that a network has parameters for."""
    return {
        name: info
        for name, info in infos.items()
        if not name.endswith(SIDE_TENSORS) and name != MARKER
    }


def scale_name(weight: str) -> str:
    """The name of a weight's scale."""
    return weight.removesuffix(".weight") + SCALE


def note_name(weight: str) -> str:
    """The name of the note about a weight's format."""
    return weight.removesuffix(".weight") + NOTE


def input_scale_name(weight: str) -> str:
    """The name of the scale of a layer's activations."""
    return weight.removesuffix(".weight") + INPUT_SCALE


def own_names(weight: str) -> tuple[str, ...]:
    """The names of a weight and of the tensors that may come with it."""
    return (weight, scale_name(weight), note_name(weight), input_scale_name(weight))


def check_scales(infos: Mapping[str, Header], *, what: str) -> None:
    """Raise `CheckpointError` unless scaled weights and scales match one to one.

    fp8 in a file without any scale is a plain cast and passes.

    Args:
        infos: Headers by name.
        what: Name of the file or folder, for the message.
    """
    any_scale = any(name.endswith(SCALE) for name in infos)
    faults = []
    for name, info in infos.items():
        if name == MARKER:
            continue
        if name.endswith(SIDE_TENSORS):
            weight = name.rsplit(".", 1)[0] + ".weight"
            if weight not in infos:
                faults.append(f"{name} has no {weight}")
            elif name.endswith(NOTE) and scale_name(weight) not in infos:
                faults.append(f"{weight} has no scale ({scale_name(weight)})")
            elif name.endswith(SCALE) and not _fits(info.shape, infos[weight].shape):
                faults.append(
                    f"{name} is {info.shape} for a weight of {infos[weight].shape}; it must be one "
                    "value or one per row"
                )
        elif (info.dtype == "I8" or (info.dtype == "F8_E4M3" and any_scale)) and (
            scale_name(name) not in infos
        ):
            faults.append(f"{name} has no scale ({scale_name(name)})")
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        listed = "; ".join(dict.fromkeys(faults[:_SHOWN]))
        raise CheckpointError(
            f"The scaled weights of {what} are incomplete: {listed}{more}. Download or convert it "
            "again."
        )


def _fits(scale: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    rows = weight[:1]
    return scale in ((), (1,), rows, (*rows, *(1 for _ in weight[1:])))
