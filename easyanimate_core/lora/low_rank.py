"""LoRA files as low-rank changes of a denoiser's matrices.

Shapes: O output features, I input features, R rank (of all LoRAs of a layer together).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..checkpoint import TensorFiles, TensorInfo, read_tensor_files
from ..checkpoint.key_maps_transformer import to_original
from ..errors import CheckpointError, InputError
from .blocks import BlockStrengths, num_blocks
from .names import match_lora

_DOWN, _UP = ("lora_down.weight", "lora_A.weight"), ("lora_up.weight", "lora_B.weight")
_ALPHA = "alpha"


@dataclass(frozen=True)
class Lora:
    """A LoRA file to use.

    Args:
        path: A safetensors file, with names of kohya, peft, diffusers or the original trainer.
        strength: How strongly it acts; 0 is off.
        blocks: Factors on the strength by block, such as "0-17=0.5,18-35=1"; "" is 1 everywhere.
        partial: Whether keys that fit no layer are accepted where others fit.
    """

    path: str | Path
    strength: float = 1.0
    blocks: str = ""
    partial: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise InputError(f"The strength of {self.path} is {self.strength}; give a number.")
        BlockStrengths.parse(self.blocks)  # its own checks


class LowRank(NamedTuple):
    """A change `up_OR @ down_RI` of a weight, with every strength in it; float32."""

    down_RI: Tensor
    up_OR: Tensor


@dataclass(frozen=True)
class _Part:
    """One LoRA's share of one layer: names in its file, and the factor on `up @ down`."""

    tensors: Mapping[str, Tensor]
    down: str
    up: str
    factor: float


class LoraSet:
    """LoRAs of one denoiser, checked against it; their tensors are read when they are asked for.

    `reports` has a sentence about every LoRA's coverage.
    """

    def __init__(self, parts: Mapping[str, Sequence[_Part]], reports: tuple[str, ...]) -> None:
        self._parts = parts
        self.reports = reports

    @classmethod
    def read(cls, loras: Sequence[Lora], shapes: Mapping[str, tuple[int, ...]]) -> LoraSet:
        """Read the files' headers.

        Args:
            loras: What to use, in any order.
            shapes: Of the denoiser's matrices by module; see `matrix_shapes`.

        Raises:
            CheckpointError: A file is missing, damaged, or does not fit the denoiser.
            InputError: A block is named that the denoiser does not have.
        """
        parts: dict[str, list[_Part]] = {}
        reports = []
        for lora in loras:
            found, report = _read(lora, shapes)
            reports.append(f"{Path(lora.path).name}: {report}")
            for module, part in found.items():
                if part.factor != 0:
                    parts.setdefault(module, []).append(part)
        return cls(parts, tuple(reports))

    @property
    def modules(self) -> tuple[str, ...]:
        """The layers that are changed; those with strength 0 are not among them."""
        return tuple(self._parts)

    def low_rank(self, module: str) -> LowRank:
        """The change of one of `modules`; several LoRAs make one of their ranks' sum."""
        parts = self._parts[module]
        downs = [part.tensors[part.down].float() for part in parts]
        ups = [part.tensors[part.up].float() * part.factor for part in parts]
        return LowRank(torch.cat(downs), torch.cat(ups, dim=1))

    def delta(self, module: str) -> Tensor:
        """What is added to the weight of one of `modules`: [O, I] in float32."""
        down_RI, up_OR = self.low_rank(module)
        return up_OR @ down_RI


def matrix_shapes(files: Mapping[str, TensorInfo]) -> dict[str, tuple[int, ...]]:
    """A denoiser's matrices by module under the original's names, from its files' headers."""
    return {
        to_original(name).removesuffix(".weight"): info.shape
        for name, info in files.items()
        if name.endswith(".weight") and len(info.shape) == 2
    }


def _read(lora: Lora, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, _Part], str]:
    files = read_tensor_files(Path(lora.path))
    name = Path(lora.path).name
    match = match_lora(files, shapes)
    known = {key: info.shape for key, info in files.items()}
    known |= {f"{module}.weight": shape for module, shape in shapes.items()}
    match.check(name, known, partial=lora.partial)
    strengths = BlockStrengths.parse(lora.blocks)
    strengths.check(num_blocks(set(shapes)))
    places: dict[str, dict[str, str]] = {}
    for key, (module, rest) in match.names.items():
        places.setdefault(module, {})[_kind(name, key, rest)] = key
    tensors = files.map()
    parts = {}
    for module, keys in places.items():
        scale = _scale(name, module, keys, files, tensors)
        factor = lora.strength * strengths.factor(module) * scale
        parts[module] = _Part(tensors, keys["down"], keys["up"], factor)
    return parts, match.report()


def _kind(file: str, key: str, rest: str) -> str:
    if rest in _DOWN:
        return "down"
    if rest in _UP:
        return "up"
    if rest == _ALPHA:
        return "alpha"
    raise CheckpointError(
        f"{key} of {file} is no part of a LoRA ({rest}): LoHa, LoKr, DoRA and full differences are "
        "not read here. Merge the file with the program that made it."
    )


def _scale(
    file: str,
    module: str,
    keys: Mapping[str, str],
    files: TensorFiles,
    tensors: Mapping[str, Tensor],
) -> float:
    """Alpha divided by the rank; without an alpha it is 1."""
    missing = [part for part in ("down", "up") if part not in keys]
    if missing:
        raise CheckpointError(
            f"{file} has no {' and no '.join(missing)} matrix of {module}: the file is not "
            "complete. Download it again."
        )
    down, up = files[keys["down"]].shape, files[keys["up"]].shape
    if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
        raise CheckpointError(
            f"{keys['down']} of {file} has the shape {down} and {keys['up']} {up}; they must be "
            "[rank, inputs] and [outputs, rank]. The file is damaged: download it again."
        )
    return float(tensors[keys["alpha"]]) / down[0] if "alpha" in keys else 1.0
