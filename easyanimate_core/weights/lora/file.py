"""Reading a LoRA file and checking it against a denoiser, layer by layer.

Shapes: O output features, I input features, R rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...errors import CheckpointError, InputError, printable
from ...models.specs import Head, Version
from ..files import TensorFiles, TensorInfo, read_tensor_files
from .blocks import BlockStrengths
from .card import LoraCard
from .facts import Facts, read_facts
from .names import LoraMatch, match_lora

#: Name endings to parts of a layer; peft's have the adapter's name before `.weight`.
_PARTS = tuple(
    (re.compile(pattern), part)
    for pattern, part in (
        (r"(lora_down|lora\.down|lora_linear_layer\.down|lora_A(\.\w+)?)\.weight|lora_A", "down"),
        (r"(lora_up|lora\.up|lora_linear_layer\.up|lora_B(\.\w+)?)\.weight|lora_B", "up"),
        (r"alpha", "alpha"),
        (r"dora_scale|lora_magnitude_vector(\.\w+)?(\.weight)?", "magnitude"),
        (r"(?P<part>hada_w[12]_[ab])(\.\w+)?", ""),
        (r"(?P<part>lokr_w[12](_[ab])?)(\.\w+)?", ""),
        (r"diff", "difference"),
        (r"diff_b", "bias"),
    )
)
#: What a layer may consist of, apart from alpha, magnitude and bias.
LOW_RANK, DIFFERENCE, NOTHING = ("down", "up"), ("difference",), ()
LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_LARGEST_SCALE = 1e6


@dataclass(frozen=True)
class Lora:
    """A LoRA file to use.

    Args:
        path: A safetensors file, with names of kohya, peft, diffusers or the original trainer.
        strength: The strength; 0 is off.
        blocks: Factors on the strength by block, such as "0-17=0.5,18-35=1"; "" is 1 everywhere.
        partial: Whether to accept keys that match no layer, if others match.
    """

    path: str | Path
    strength: float = 1.0
    blocks: str = ""
    partial: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise InputError(
                f"The strength of {self.path} is {self.strength}; it must be a finite number."
            )
        BlockStrengths.parse(self.blocks)  # raises if invalid


@dataclass(frozen=True)
class LoraLayer:
    """A file's tensors for one layer.

    `tensors` are those of `LOW_RANK`, `LOHA`, LoKr (`lokr_w1`, `lokr_w1_a` and so on) or
    `DIFFERENCE`, or none; their product is multiplied by `scale`. `magnitude` is DoRA's, [O, 1] or
    [1, I]; `bias` is added to the layer's own.
    """

    tensors: Mapping[str, Tensor]
    scale: float
    magnitude: Tensor | None = None
    bias: Tensor | None = None

    @property
    def rank(self) -> int | None:
        """The inner dimension; None if there is none."""
        return _rank({part: tuple(tensor.shape) for part, tensor in self.tensors.items()})


@dataclass(frozen=True)
class LoraFile:
    """The layers that a file changes, by the denoiser's modules, and notes for the user.

    `card` is what its header says about it.
    """

    name: str
    layers: Mapping[str, LoraLayer]
    match: LoraMatch
    notes: tuple[str, ...]
    card: LoraCard

    def report(self, num_changed: int) -> str:
        """What matched, how many layers are changed, and the notes."""
        return printable(" ".join([self.match.report(num_changed), *self.notes]))


def read_lora(
    lora: Lora,
    shapes: Mapping[str, tuple[int, ...]],
    base: tuple[Version, Head] | None = None,
) -> LoraFile:
    """Read a file into memory; it may be replaced afterwards.

    Args:
        lora: The file, and whether keys may remain unmatched.
        shapes: Shapes of the denoiser's matrices by module; see `matrix_shapes`.
        base: What the denoiser is; None if that is not known.

    Raises:
        CheckpointError: The file is missing, damaged, does not fit the denoiser or was trained for
            the other version, contains NaN or infinite values, or is of an unsupported kind.
    """
    files = read_tensor_files(Path(lora.path))
    name = Path(lora.path).name
    card = LoraCard.of(files.metadata)
    known = card.notes_for(name, *base) if base else ()
    match = match_lora(files, shapes)
    match.check(name, partial=lora.partial)
    facts, tensors = read_facts(files), files.read()
    layers, without_alpha, is_zero, is_by_facts = {}, set(), True, False
    for module, keys in _places(name, match).items():
        layer = _Layer(name, module, keys, files)
        layer.check(shapes[module], facts)
        parts = {part: tensors[key] for part, key in keys.items()}
        is_zero &= _check_values(name, keys, parts)
        is_by_facts |= "alpha" not in parts
        scale = layer.scale(parts.pop("alpha", None), facts)
        if scale is None:
            without_alpha.add(module)
        layers[module] = LoraLayer(
            {part: parts[part] for part in layer.kind},
            1.0 if scale is None else scale,
            layer.magnitude(parts.get("magnitude"), shapes[module]),
            parts.get("bias"),
        )
    notes = _notes(facts if is_by_facts else None, len(without_alpha), len(layers), is_zero=is_zero)
    return LoraFile(name, layers, match, (*known, *notes), card)


def matrix_shapes(files: Mapping[str, TensorInfo]) -> dict[str, tuple[int, ...]]:
    """Shapes of a denoiser's matrices by module (original names), from its files' headers."""
    from ..files.key_maps_transformer import to_original

    return {
        to_original(name).removesuffix(".weight"): info.shape
        for name, info in files.items()
        if name.endswith(".weight") and len(info.shape) == 2
    }


def _places(file: str, match: LoraMatch) -> dict[str, dict[str, str]]:
    """For each module, the parts of its layer and their names in the file."""
    places: dict[str, dict[str, str]] = {}
    for key, (module, rest) in match.names.items():
        keys, part = places.setdefault(module, {}), _part(file, key, rest)
        if part in keys:
            raise CheckpointError(
                f"{file} has {keys[part]} and {key} for one layer: it contains two LoRAs. Save "
                "each in its own file."
            )
        keys[part] = key
    return places


def _part(file: str, key: str, rest: str) -> str:
    for pattern, part in _PARTS:
        match = pattern.fullmatch(rest)
        if match is not None:
            return part or match["part"]
    raise CheckpointError(
        f"{key} of {file} is of an unsupported kind ({rest}). Supported are LoRA, LoHa and LoKr of "
        "linear layers, DoRA, and differences of weights and biases. Merge the file with the "
        "program that made it."
    )


class _Layer:
    """Checks one layer's tensors by their headers, and derives its kind and scale."""

    def __init__(self, file: str, module: str, keys: Mapping[str, str], files: TensorFiles) -> None:
        self._file, self._module, self._keys = file, module, keys
        self._shapes = {part: files[key].shape for part, key in keys.items()}
        self.kind = self._kind()

    def _kind(self) -> tuple[str, ...]:
        parts = tuple(p for p in self._keys if p not in ("alpha", "magnitude", "bias"))
        if not parts and "bias" in self._keys:
            return NOTHING
        wanted: tuple[str, ...] = DIFFERENCE if parts == DIFFERENCE else LOW_RANK
        if any(part.startswith("hada_") for part in parts):
            wanted = LOHA
        elif any(part.startswith("lokr_") for part in parts):
            wanted = self._lokr("lokr_w1") + self._lokr("lokr_w2")
        missing = [part for part in wanted if part not in parts]
        if missing:
            raise CheckpointError(
                f"{self._file} has no {' and no '.join(missing)} matrix for {self._module}: the "
                "file is incomplete. Download it again."
            )
        if len(wanted) != len(parts):
            raise CheckpointError(
                f"{self._file} has {', '.join(parts)} for {self._module}, which are of two kinds. "
                "Save each in its own file."
            )
        return wanted

    def _lokr(self, factor: str) -> tuple[str, ...]:
        """A factor of a Kronecker product is a single matrix, or a product itself."""
        whole = factor in self._keys or f"{factor}_a" not in self._keys
        return (factor,) if whole else (f"{factor}_a", f"{factor}_b")

    def check(self, weight_OI: tuple[int, ...], facts: Facts | None) -> None:
        """Raise `CheckpointError` unless the shapes fit the weight."""
        for part in self.kind:
            shape = self._shapes[part]
            if len(shape) != 2 or 0 in shape:
                raise self._misshapen(part, "a matrix with values")
        made = self._made()
        if made not in (None, weight_OI):
            raise CheckpointError(
                f"{self._keys[self.kind[0]]} of {self._file} and its other factors make {made}, "
                f"but the layer is {weight_OI}: the LoRA was made for another model. Choose the "
                "matching file."
            )
        if self._shapes.get("bias", weight_OI[:1]) != weight_OI[:1]:
            raise self._misshapen("bias", f"{weight_OI[:1]}")
        if facts is not None and facts.dora and "magnitude" not in self._keys:
            raise CheckpointError(
                f"{facts.where} has use_dora, but {self._file} has no magnitudes for "
                f"{self._module}: the file is incomplete. Download it again."
            )
        if "magnitude" in self._keys and not self.kind:
            raise self._misshapen("magnitude", "accompanied by a change of the weight")

    def _made(self) -> tuple[int, ...] | None:
        """The shape of the product; None if there is none."""
        shapes = self._shapes
        if self.kind == LOW_RANK:
            return self._product("up", "down")
        if self.kind == LOHA:
            one, other = self._product(*LOHA[:2]), self._product(*LOHA[2:])
            if one != other:
                raise self._misshapen("hada_w2_a", f"a part of {one}")
            return one
        if self.kind == DIFFERENCE:
            return shapes["difference"]
        if self.kind == NOTHING:
            return None
        first, second = (
            self._product(f"{name}_a", f"{name}_b") if name not in shapes else shapes[name]
            for name in ("lokr_w1", "lokr_w2")
        )
        return (first[0] * second[0], first[1] * second[1])

    def _product(self, left: str, right: str) -> tuple[int, ...]:
        if self._shapes[left][1] != self._shapes[right][0]:
            raise CheckpointError(
                f"{self._keys[right]} of {self._file} has the shape {self._shapes[right]} and "
                f"{self._keys[left]} {self._shapes[left]}; they must be [rank, inputs] and "
                "[outputs, rank]. The file is damaged: download it again."
            )
        return (self._shapes[left][0], self._shapes[right][1])

    def _misshapen(self, part: str, wanted: str) -> CheckpointError:
        return CheckpointError(
            f"{self._keys[part]} of {self._file} has the shape {self._shapes[part]}; it must be "
            f"{wanted}. The file is damaged or made for another model: download it again."
        )

    def scale(self, alpha: Tensor | None, facts: Facts | None) -> float | None:
        """Alpha divided by the rank, or by its square root; None if alpha is unknown."""
        rank = _rank(self._shapes)
        if rank is None:
            return 1.0  # a difference, or a product of unfactorised matrices, has no rank
        if alpha is None:
            return None if facts is None else facts.scale(self._module, rank)
        if alpha.numel() != 1:
            raise self._misshapen("alpha", "one number")
        scale = float(alpha) / rank
        if abs(scale) > _LARGEST_SCALE:
            raise CheckpointError(
                f"{self._keys['alpha']} of {self._file} is {float(alpha):g}, at a rank of {rank}. "
                "The file is damaged: download it again."
            )
        return scale

    def magnitude(self, tensor: Tensor | None, weight_OI: tuple[int, ...]) -> Tensor | None:
        """DoRA's magnitudes as [O, 1] or [1, I]."""
        if tensor is None:
            return None
        rows, columns = weight_OI
        shape = tuple(tensor.shape)
        if shape in ((rows,), (rows, 1)):
            return tensor.reshape(rows, 1)
        if shape == (1, columns):
            return tensor
        raise self._misshapen("magnitude", f"{(rows, 1)} or {(1, columns)}")


def _rank(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    parts = ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
    return next((shapes[part][0] for part in parts if part in shapes), None)


def _check_values(file: str, keys: Mapping[str, str], parts: Mapping[str, Tensor]) -> bool:
    """Raise unless all values are finite; return whether the change is zero."""
    for part, tensor in parts.items():
        if part != "alpha" and not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{keys[part]} of {file} is stored as {kind}; LoRAs must be in floating point. "
                "Save it in float16, bfloat16 or float32."
            )
        if not tensor.float().isfinite().all():
            raise CheckpointError(
                f"{keys[part]} of {file} contains NaN or infinite values: its training failed, or "
                "the file is damaged. Use an earlier checkpoint, or download it again."
            )
    factors = [parts[part] for part in parts if part not in ("alpha", "magnitude", "bias")]
    is_zero = not factors or any(not factor.float().any() for factor in factors)
    return is_zero and "magnitude" not in parts and not _any(parts.get("bias"))


def _any(tensor: Tensor | None) -> bool:
    return tensor is not None and bool(torch.any(tensor.float()))


def _notes(
    facts: Facts | None, num_without_alpha: int, total: int, *, is_zero: bool
) -> tuple[str, ...]:
    notes = []
    if num_without_alpha:
        some = f" of {num_without_alpha} layer{'s' * (num_without_alpha > 1)}"
        share = "" if num_without_alpha == total else some
        why = "it is not in the tensors, the header or an adapter_config.json"
        if facts is not None:
            why = f"{facts.where} has another rank, or no alpha"
        notes.append(f"The alpha{share} is unknown ({why}): the rank is used, a scale of 1.")
    elif facts is not None and facts.alpha is not None:
        kind = " (rank-stabilised)" if facts.rslora else ""
        notes.append(f"Layers without an alpha use {facts.alpha:g}{kind}, from {facts.where}.")
    if is_zero:
        notes.append("All its values are zero: it has no effect.")
    return tuple(notes)
