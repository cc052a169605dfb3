"""Metadata of a LoRA file: alpha, rank, and how they determine the scale.

Trainers that do not store alpha as tensors write it to the file's header (diffusers since 0.34,
kohya's) or to an `adapter_config.json` next to the file (peft).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from ...files import json_value
from ..files import TensorFiles, read_json
from ..files.folder import is_file
from ..files.key_maps_transformer import to_diffusers
from ..files.spellings import without_words
from .names import LORA_WORDS

_DIFFUSERS, _CONFIG = "lora_adapter_metadata", "adapter_config.json"
_OWN_FILE = "adapter_model"
#: Header keys: kohya's, and those of scripts that write peft's config values one by one.
_PLAIN = {
    "alpha": ("ss_network_alpha", "lora_alpha", "network_alpha", "alpha"),
    "rank": ("ss_network_dim", "lora_rank", "network_dim", "rank", "r"),
    "rslora": ("use_rslora", "rs_lora"),
}
_LORA_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_LARGEST = 1e6


@dataclass(frozen=True)
class Facts:
    """Alpha and rank of a file, with those of individual layers in `alphas` and `ranks`.

    `where` is their source, for messages; `dora` is whether every layer must have magnitudes.
    """

    where: str
    alpha: float | None = None
    rank: float | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, float] = field(default_factory=dict)
    rslora: bool = False
    dora: bool = False

    def scale(self, module: str, rank: int) -> float | None:
        """The scale of a layer's change; None if its alpha is unknown or its rank disagrees."""
        stated = _for_module(self.ranks, module, self.rank)
        alpha = _for_module(self.alphas, module, self.alpha)
        if alpha is None or (stated is not None and stated != rank):
            return None
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def read_facts(files: TensorFiles) -> Facts | None:
    """The facts in the file's header and in the config next to it; None if there are none.

    Raises:
        CheckpointError: They are damaged, contradict each other, or cannot be read without
            guessing.
    """
    inside, beside = _header_facts(files), _config_facts(files.path)
    if inside is None or beside is None:
        return inside or beside
    for name in ("alpha", "rank"):
        one, other = getattr(inside, name), getattr(beside, name)
        if one is not None and other is not None and one != other:
            raise CheckpointError(
                f"{inside.where} has {name} = {one:g}, but {beside.where} has {other:g}: it is not "
                "clear how strong the LoRA is. Remove the one that does not belong to this file."
            )
    return replace(
        beside,
        alpha=beside.alpha if inside.alpha is None else inside.alpha,
        rank=beside.rank if inside.rank is None else inside.rank,
        alphas={**beside.alphas, **inside.alphas},
        ranks={**beside.ranks, **inside.ranks},
        rslora=inside.rslora or beside.rslora,
        dora=inside.dora or beside.dora,
    )


def _header_facts(files: TensorFiles) -> Facts | None:
    if _DIFFUSERS in files.metadata:
        where = f"{_DIFFUSERS} in the header of {files.path.name}"
        return _facts(_parsed(files.metadata[_DIFFUSERS], where), where)
    metadata = {without_words(key, LORA_WORDS): text for key, text in files.metadata.items()}
    plain = {name: _first(metadata, keys) for name, keys in _PLAIN.items()}
    return None if plain["alpha"] is None else _plain_facts(plain, files)


def _config_facts(file: Path) -> Facts | None:
    config = file.with_name(_CONFIG)
    if file.is_file() and is_file(config) and _belongs(file):
        return _facts(read_json(config), f"{_CONFIG} next to {file.name}")
    return None


def stated_beside(path: Path) -> dict[str, str]:
    """The config next to a LoRA, as header metadata for a file that is written elsewhere."""
    config = path.with_name(_CONFIG)
    if not path.is_file() or not is_file(config) or not _belongs(path):
        return {}
    return {_DIFFUSERS: json.dumps(read_json(config), ensure_ascii=False, sort_keys=True)}


def _belongs(file: Path) -> bool:
    """Whether the config in the folder is this LoRA's: it has peft's name, or is the only one."""
    others = [other for other in file.parent.iterdir() if other.suffix.lower() in _LORA_SUFFIXES]
    return file.stem.startswith(_OWN_FILE) or others == [file]


def _plain_facts(plain: Mapping[str, str | None], files: TensorFiles) -> Facts:
    where = f"The header of {files.path.name}"
    rank, alpha = plain["rank"], plain["alpha"]
    arguments = _network_arguments(files.metadata.get("ss_network_args"))
    rslora = plain["rslora"] or arguments.get("rs_lora") or arguments.get("use_rslora")
    return Facts(
        where,
        _number(alpha, where, "alpha"),
        # Resized files have "Dynamic": every layer has its own rank.
        None if rank is None or not _is_number(rank) else _number(rank, where, "rank"),
        rslora=_is_true(rslora),
    )


def _network_arguments(text: str | None) -> Mapping[str, Any]:
    try:
        return json_value(text or "{}", dict, "ss_network_args", error=CheckpointError)
    except CheckpointError:
        return {}


def _facts(config: Mapping[str, Any], where: str) -> Facts:
    """Facts from peft's config, whose keys diffusers prefixes with the network's name."""
    plain = {without_words(name, LORA_WORDS): value for name, value in config.items()}
    alpha, rank = plain.get("lora_alpha", plain.get("alpha")), plain.get("r", plain.get("rank"))
    return Facts(
        where,
        None if alpha is None else _number(alpha, where, "lora_alpha"),
        None if rank is None else _number(rank, where, "r"),
        _patterns(plain.get("alpha_pattern"), where, "alpha_pattern"),
        _patterns(plain.get("rank_pattern"), where, "rank_pattern"),
        rslora=_is_true(plain.get("use_rslora")),
        dora=_is_true(plain.get("use_dora")),
    )


def _patterns(given: Any, where: str, name: str) -> dict[str, float]:
    """Layer names, or their endings, to numbers. Not expressions, which could run forever."""
    if not given:
        return {}
    if not isinstance(given, dict):
        raise CheckpointError(f"{where} has {name} = {str(given)[:80]}; it must be an object.")
    found = {}
    for pattern, value in given.items():
        layer = pattern.removesuffix("$").replace("\\.", ".")
        start = "^" if layer.startswith("^") else ""
        layer = without_words(layer.removeprefix("^"), LORA_WORDS)
        if not layer.replace(".", "").replace("_", "").isalnum():
            raise CheckpointError(
                f"{where} has the expression {pattern[:80]!r} in {name}; only names of layers are "
                "read. Write a line for each layer, or save the LoRA with alpha in its tensors."
            )
        found[start + layer] = _number(value, where, name)
    return found


def _for_module(
    patterns: Mapping[str, float], module: str, otherwise: float | None
) -> float | None:
    names = (module, to_diffusers(f"{module}.").removesuffix("."))
    for pattern, value in patterns.items():
        whole = pattern.removeprefix("^")
        ends = not pattern.startswith("^") and any(name.endswith(f".{whole}") for name in names)
        if whole in names or ends:
            return value
    return otherwise


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    remedy = "So the LoRA's alpha is unknown. The file is damaged: download it again."
    return json_value(text, dict, where, error=CheckpointError, remedy=remedy)


def _first(metadata: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    found = (metadata.get(key) for key in keys)
    return next((value for value in found if value not in (None, "", "None")), None)


def _is_true(value: Any) -> bool:
    return value is True or str(value).lower() in ("true", "1")


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _number(value: Any, where: str, name: str) -> float:
    if isinstance(value, bool) or not _is_number(value) or abs(float(value)) > _LARGEST:
        raise CheckpointError(
            f"{where} has {name} = {str(value)[:80]}; it must be a number up to {_LARGEST:g}. The "
            "file is damaged: download it again."
        )
    return float(value)
