"""The networks of a run: from a checkpoint, or new ones with the config's sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import InputError
from ..files.commands import own_command
from ..models.specs import Head, TransformerConfig, VAEConfig
from ..models.transformer import EasyAnimateTransformer3DModel
from ..models.vae import AutoencoderKLMagvit
from ..small_model import NAMES
from ..weights.files import (
    in_original_names,
    read_denoiser_files,
    read_json,
    read_tensor_files,
)
from ..weights.loading import load_network
from ..weights.stored import StoredWeights
from .config import ModelConfig, TrainConfig
from .data.cache import digest_of_files
from .initial import copy_weights, initialise, treat_frames_as_pictures

#: Endings of the files that make up a network.
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".json")
Config = TypeVar("Config", TransformerConfig, VAEConfig)


def load_or_build_vae(config: TrainConfig) -> AutoencoderKLMagvit:
    """The VAE to train, in float32."""
    model = config.model
    if model.network is None:
        return load_vae(model)
    vae = AutoencoderKLMagvit(_vae_sizes(model.network, model.weights))
    initialise(vae, config.seed)
    if model.weights is not None:
        _fill(vae, model.weights)
        if config.vae_objective.from_pictures:
            treat_frames_as_pictures(vae)
    return vae


def load_vae(model: ModelConfig, device: torch.device | str = "cpu") -> AutoencoderKLMagvit:
    """The VAE that encodes clips, in float32."""
    folder = part_folder(model, "vae")
    config = VAEConfig.from_dict(read_json(folder / "config.json"))
    tensors = read_tensor_files(folder).read()
    return load_network(
        lambda: AutoencoderKLMagvit(config),
        tensors,
        what="VAE",
        dtype=torch.float32,
        device=device,
    )


def load_or_build_transformer(
    config: TrainConfig, *, frozen: bool = False
) -> EasyAnimateTransformer3DModel:
    """The denoiser to train, in float32; `frozen`, as below a LoRA, in the run's precision."""
    model = config.model
    is_frozen = frozen or model.lora is not None
    frozen_in_bf16 = is_frozen and config.run.precision == "bf16"
    if model.network is None:
        folder = part_folder(model, "transformer")
        sizes = TransformerConfig.from_dict(read_json(folder / "config.json"))
        dtype = torch.bfloat16 if frozen_in_bf16 else torch.float32
        return load_network(
            lambda: EasyAnimateTransformer3DModel(sizes),
            _Weights(folder, dtype, mapped=is_frozen),
            what="denoiser",
            dtype=dtype,
        )
    transformer = EasyAnimateTransformer3DModel(_sizes(TransformerConfig, model.network))
    initialise(transformer, config.seed)
    if model.weights is not None:
        _fill(transformer, model.weights)
    return transformer


def head_of(model: ModelConfig) -> Head:
    """The head of the checkpoint's denoiser."""
    folder = part_folder(model, "transformer")
    return TransformerConfig.from_dict(read_json(folder / "config.json")).head


def part_folder(model: ModelConfig, part: str) -> Path:
    """The folder of a part of the checkpoint, unless the config names another."""
    own = {"vae": model.vae_folder}.get(part)
    if own is not None:
        return own
    if model.checkpoint_folder is None:
        raise InputError(
            f"model.{part} is missing and there is no model.checkpoint to take it from. Set one "
            "of the two."
        )
    return model.checkpoint_folder / part


def text_folder(model: ModelConfig) -> Path:
    """The folder that holds text_encoder/ and tokenizer/."""
    folder = model.text_folder or model.checkpoint_folder
    if folder is None:
        raise InputError(
            "model.text is missing and there is no model.checkpoint to take the text encoder "
            "from. Set one of the two."
        )
    return folder


def weights_digest(config: TrainConfig) -> str:
    """A hash of the files that a run begins with, wherever they are; large ones are sampled.

    Raises:
        InputError: There is no folder `model.checkpoint`.
    """
    model = config.model
    checkpoint = model.checkpoint_folder
    if checkpoint is not None and not checkpoint.is_dir():
        raise InputError(
            f"There is no folder {checkpoint} (model.checkpoint). "
            f"{own_command('download', '--list')} lists what can be downloaded; built in are "
            f"{', '.join(map(repr, NAMES))}."
        )
    vae, text = model.vae_folder, model.text_folder or checkpoint
    folders = [model.weights, vae if vae or not checkpoint else checkpoint / "vae"]
    folders += [checkpoint / "transformer"] if checkpoint else []
    folders += [text / "text_encoder", text / "text_encoder_2"] if text else []
    files = [
        sorted(file for file in folder.rglob("*") if file.suffix in _WEIGHTS)
        for folder in folders
        if folder is not None
    ]
    singles = [config.vae_objective.lpips_weights, model.lora.start if model.lora else None]
    return digest_of_files(*chain(*files), *(file for file in singles if file and file.is_file()))


def _sizes(kind: type[Config], given: dict[str, Any]) -> Config:
    allowed = [field.name for field in fields(kind)]
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise InputError(
            f"model.network has unknown keys: {', '.join(unknown)}. Allowed: {', '.join(allowed)}."
        )
    return kind.from_dict(given)


def _vae_sizes(network: dict[str, Any], weights: Path | None) -> VAEConfig:
    """The network's sizes; latents are scaled as in the weights that it starts from."""
    sizes = _sizes(VAEConfig, network)
    if weights is None or "scaling_factor" in network:
        return sizes
    begun = VAEConfig.from_dict(read_json(weights / "config.json"))
    return replace(sizes, scaling_factor=begun.scaling_factor)


class _Weights(Mapping[str, Tensor]):
    """Weights by the original's names; quantised ones are unpacked to `dtype`.

    Weights to train are not `mapped`: they are written to, and their file may be replaced.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, *, mapped: bool = False) -> None:
        files = in_original_names(read_denoiser_files(folder))
        self._stored = StoredWeights(files, mapped=mapped)
        self._dtype = dtype

    def __getitem__(self, name: str) -> Tensor:
        weight = self._stored[name]
        return weight if isinstance(weight, Tensor) else weight.to(dtype=self._dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def _fill(network: Any, folder: Path) -> None:
    weights = _Weights(folder, torch.float32)
    left = copy_weights(network, weights)
    if len(left) > len(weights) / 2:
        raise InputError(
            f"The weights in {folder} (model.weights) hardly fit the new network: they lack "
            f"{len(left)} of its tensors. Set the sizes of those weights in model.network."
        )
