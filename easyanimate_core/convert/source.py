"""The source of a conversion: one component, from a folder or a single file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError, InputError, printable
from ..models.specs import TransformerConfig, VAEConfig
from ..models.transformer import EasyAnimateTransformer3DModel
from ..models.vae import AutoencoderKLMagvit
from ..weights.files import (
    TensorFiles,
    TensorInfo,
    denoiser_files,
    model_size,
    read_tensor_files,
    read_transformer_config,
    vae_files,
)
from ..weights.files.detect import config_as_json, stated_config
from ..weights.files.folder import is_folder
from ..weights.files.key_maps_transformer import to_original
from ..weights.files.scaled import check_scales
from ..weights.loading import Renamed, build_on_meta, check_complete
from ..weights.lora.card import VERSION, LoraCard, shown_of
from ..weights.lora.names import for_comfyui
from ..weights.stored import Stored, StoredWeights
from .options import PARTS

#: The part name of a LoRA file, never part of a checkpoint. It is only rewritten, with names that
#: ComfyUI's own loaders know.
LORA = "lora"
_LORA_NAME = re.compile(r"(?:^|[._])(?:lora|hada|lokr|dora)(?:_|\.)")
#: Name components that denoisers have and text encoders do not.
_DENOISER_NAME = re.compile(r"(?:^|\.)(?:transformer_blocks|double_blocks|blocks)\.\d+\.")
#: mT5's tokenizer inside its single file, as repackaged by ComfyUI.
SPIECE = "spiece_model"


@dataclass(frozen=True)
class Source:
    """An opened component.

    `names` maps the network's names (the original's for a denoiser) to those in the files; `config`
    is the content of its `config.json`, None if neither a file nor metadata has it; `extra` are
    additional tensors of a single file.
    """

    path: Path
    part: str
    files: TensorFiles
    names: Mapping[str, str]
    config: Mapping[str, Any] | None
    transformer: TransformerConfig | None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name of the checkpoint or file."""
        path = self.path.resolve()
        return path.parent.name if path.is_dir() and path.name in PARTS else path.stem

    @property
    def num_bytes(self) -> int:
        """Total size of the files."""
        return sum(file.stat().st_size for file in self.files.files)

    def info(self, name: str) -> TensorInfo:
        """Header entry of a weight, by the network's name."""
        return self.files[self.names[name]]

    def open(self) -> Mapping[str, Stored]:
        """The weights as stored, by the network's names; read on access."""
        plain = {stored: name for name, stored in self.names.items()}
        return Renamed(StoredWeights(self.files, mapped=False), plain.get)

    def header_sha256(self) -> str:
        """A hash of the names, dtypes and shapes of all tensors, to identify the source."""
        digest = hashlib.sha256()
        for name in sorted(self.files):
            digest.update(f"{name} {self.files[name].dtype} {self.files[name].shape}".encode())
        return digest.hexdigest()


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a whole checkpoint rather than one component."""
    return is_folder(path / "transformer") and is_folder(path / "vae")


def open_source(path: Path | str, part: str | None = None, *, pickles: bool = False) -> Source:
    """Open a component or a LoRA, and check that it belongs to EasyAnimate and is complete.

    Args:
        path: A checkpoint folder, a component's folder, or a `.safetensors` or `.gguf` file.
        part: One of `PARTS`. For a checkpoint folder, None means the transformer; otherwise the
            part is detected from the tensors, and `part` must match.
        pickles: Whether to accept pickles of plain tensors.

    Raises:
        CheckpointError: Something is missing, damaged, or belongs to another model.
        InputError: The path is another part.
    """
    path = Path(path)
    if is_checkpoint(path):
        path = path / (part or "transformer")
    found, files = _part_of(read_tensor_files(path, pickles=pickles))
    check_scales(files, what=str(path))
    if part not in (None, found):
        raise InputError(f"{path} is a {found}, not a {part}. Omit the part, or name {found}.")
    names = {name: name for name in files.weights}
    config = stated_config(path, files.metadata)
    if found == "transformer":
        names = {to_original(name): stored_name for name, stored_name in names.items()}
        transformer = _check_transformer(path, files, names)
        stated = config or config_as_json(transformer, _class_name="EasyAnimateTransformer3DModel")
        return Source(path, found, files, names, stated, transformer)
    if found == "vae" and config is not None:
        vae = VAEConfig.from_dict(config)
        _check(lambda: AutoencoderKLMagvit(vae), files, names, "VAE")
    if found == LORA:
        names = for_comfyui(names)
    names.pop(SPIECE, None)
    extra = _tokenizer(path, files) if found == "text_encoder_2" else {}
    return Source(path, found, files, names, config, None, extra)


def describe_file(path: Path) -> dict[str, Any]:
    """Describe a single file as JSON values: part, version, head, size, dtypes, provenance."""
    source = open_source(path)
    config, files = source.transformer, source.files
    card = LoraCard.of(files.metadata) if source.part == LORA else None
    version = files.metadata.get(VERSION) if card is None else card.version
    head = None if card is None else card.head
    return {
        "path": str(path),
        "part": source.part,
        "version": config.version.value if config else version and shown_of(version),
        "head": config.head.value if config else head,
        "lora": card and {**card.facts, "trigger": card.trigger, "words": list(card.words)},
        "size": model_size(files.num_parameters),
        "tensors": len(files.weights),
        "parameters": files.num_parameters,
        "bytes": source.num_bytes,
        "dtypes": dict(files.dtypes.most_common()),
        "metadata": {
            printable(key): printable(text)
            for key, text in sorted(files.metadata.items())
            if key.startswith(("easyanimate.", "modelspec.")) and key != "easyanimate.config"
        },
    }


def _part_of(files: TensorFiles) -> tuple[str, TensorFiles]:
    """Detect which part the tensors are; returns it and the tensors under its names."""
    for part, named in (("transformer", denoiser_files(files)), ("vae", vae_files(files))):
        if named is not None:
            return part, named
    from ..text.single_file import is_text_encoder

    names = files.weights
    if is_text_encoder(names):
        second = any("relative_attention_bias" in name for name in names)
        return "text_encoder_2" if second else "text_encoder", files
    if any(map(_LORA_NAME.search, names)):
        return LORA, files
    blocks = next((name for name in names if _DENOISER_NAME.search(name)), None)
    what = "not part of an EasyAnimate checkpoint: neither denoiser nor VAE nor text encoder"
    if blocks is not None:
        what = f"a denoiser, but not one of EasyAnimate with known tensor names ({blocks})"
    raise CheckpointError(
        f"The {len(names)} tensors of {files.path} are {what}. Choose another file, or save it "
        "with its original tensor names."
    )


def _check_transformer(
    path: Path, files: TensorFiles, names: Mapping[str, str]
) -> TransformerConfig:
    infos = {name: files[stored] for name, stored in names.items()}
    config = read_transformer_config(path, infos, files.metadata)
    what = f"{config.version.value} {config.head.value} denoiser"
    _check(lambda: EasyAnimateTransformer3DModel(config), files, names, what)
    return config


def _check(build: Any, files: TensorFiles, names: Mapping[str, str], what: str) -> None:
    network: torch.nn.Module = build_on_meta(build, what=what)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    check_complete(expected, {name: files[names[name]].shape for name in names}, what=what)


def _tokenizer(path: Path, files: TensorFiles) -> dict[str, Tensor]:
    """mT5's tokenizer, from inside a single file or from the checkpoint folder."""
    if SPIECE in files:
        return {SPIECE: files.read()[SPIECE]}
    model = path.parent / "tokenizer_2" / "spiece.model"
    if not path.is_dir() or not model.is_file():
        return {}
    return {SPIECE: torch.from_numpy(np.fromfile(model, np.uint8))}
