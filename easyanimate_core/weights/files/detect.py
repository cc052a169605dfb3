"""What a checkpoint folder contains, by its configs and tensor headers, never by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from ...files import json_value
from ...hub import ZooModel, how_to_install, install_command, published
from ...models.specs import Head, TransformerConfig, VAEConfig, Version
from . import key_maps_transformer
from .folder import is_file, is_folder
from .json_file import read_json
from .scaled import check_scales, without_side_tensors
from .spellings import DENOISER_WORDS, VAE_WORDS, prefix_before
from .tensor_files import TensorFiles, TensorInfo, read_tensor_files

BLOCK_PREFIX = "transformer_blocks."
#: Key of a single file's metadata: the content of the component's `config.json`.
CONFIG_KEY = "easyanimate.config"
#: Tensors that every denoiser and every VAE has, regardless of size.
_DENOISER_MARK, _VAE_MARK = "proj.weight", "quant_conv.weight"


class Layout(str, Enum):
    """The naming scheme of a component's tensors."""

    ORIGINAL = "original"
    DIFFUSERS = "diffusers"


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint folder, as described by its configs and headers.

    `scheduler` is the content of `scheduler/scheduler_config.json`; `text_encoders` are the tensor
    files of one (V5.1) or two (V5) text encoders.
    """

    path: Path
    layout: Layout
    transformer: TransformerConfig
    transformer_files: TensorFiles
    vae: VAEConfig
    vae_files: TensorFiles
    scheduler: Mapping[str, Any]
    text_encoders: tuple[TensorFiles, ...]

    @property
    def version(self) -> Version:
        """V5 or V5.1."""
        return self.transformer.version

    @property
    def head(self) -> Head:
        """What the denoiser can be conditioned on."""
        return self.transformer.head

    @property
    def size(self) -> str:
        """The denoiser's size: 7B, 12B, or the number of parameters."""
        return model_size(self.transformer_files.num_parameters)


def inspect_checkpoint(path: Path | str) -> CheckpointInfo:
    """Inspect a checkpoint folder without loading a tensor.

    Raises:
        CheckpointError: The folder or part of it is missing, damaged, or from another model.
    """
    path = Path(path)
    if not is_folder(path):
        raise CheckpointError(
            f"{_remedy(path)}{path} is not a folder. Give an EasyAnimate checkpoint folder, which "
            "contains transformer/, vae/, text_encoder/, tokenizer/ and scheduler/."
        )
    missing = [name for name in ("transformer", "vae") if not (path / name).is_dir()]
    if missing:
        raise CheckpointError(
            f"{_remedy(path)}{path} has no {' and no '.join(name + '/' for name in missing)}: it "
            "is not an EasyAnimate checkpoint folder, or its download is incomplete."
        )
    transformer_files = read_denoiser_files(path / "transformer")
    found_vae = read_tensor_files(path / "vae")
    check_scales(transformer_files, what=str(path / "transformer"))
    transformer = read_transformer_config(path / "transformer", transformer_files)
    vae = VAEConfig.from_dict(read_json(path / "vae" / "config.json"))
    if vae.latent_channels != transformer.out_channels:
        raise CheckpointError(
            f"The VAE has {vae.latent_channels} latent channels and the denoiser "
            f"{transformer.out_channels}: they are from different checkpoints."
        )
    encoders = ["text_encoder"] + ["text_encoder_2"] * (transformer.version is Version.V5)
    return CheckpointInfo(
        path=path,
        layout=_layout(transformer_files),
        transformer=transformer,
        transformer_files=transformer_files,
        vae=vae,
        vae_files=vae_files(found_vae) or found_vae,
        scheduler=read_json(path / "scheduler" / "scheduler_config.json"),
        text_encoders=tuple(read_tensor_files(path / name) for name in encoders),
    )


def _remedy(path: Path) -> str:
    """The beginning of a message: what downloads a folder with a published name; else ""."""
    model = published(path.name)
    if not isinstance(model, ZooModel):
        return ""
    command = install_command(model.name, path.absolute().parent)
    return f"{how_to_install(model.name, command=command)}: "


def model_size(num_parameters: int) -> str:
    """A denoiser's size: 7B, 12B, or the number of parameters."""
    for name, low, high in (("7B", 6.5e9, 7.5e9), ("12B", 11e9, 13e9)):
        if low < num_parameters < high:
            return name
    return f"{num_parameters / 1e6:.3g}M"


def read_transformer_config(
    folder: Path, tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str] | None = None
) -> TransformerConfig:
    """The denoiser's configuration: `config.json`, checked against the tensors.

    A single file's config may be next to it (`NAME.json`) or in its `metadata`; without one, the
    configuration is derived from the tensors alone.
    """
    derived = transformer_config_fields(tensors)
    stated = stated_config(folder, metadata)
    if stated is None:
        return TransformerConfig(**derived)
    config = TransformerConfig.from_dict(stated)
    path = config_path(folder)
    where = path if path.is_file() else f"The config in {folder.name}"
    for name, value in derived.items():
        stated = getattr(config, "num_mmdit_layers" if name == "mmdit_layers" else name)
        if stated != value:
            raise CheckpointError(
                f"{where} has {name} = {stated}, but its tensors have {name} = {value}: the config "
                "or the weights belong to another model. Download both again."
            )
    config.head  # noqa: B018  (raises if the number of channels fits no head)
    return config


def config_path(path: Path) -> Path:
    """The path of the config of a component folder or of a single file."""
    return path / "config.json" if path.is_dir() else path.with_suffix(".json")


def stated_config(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any] | None:
    """The content of a component's config: its file, else the one in a single file's metadata."""
    if is_file(config_path(path)):
        return read_json(config_path(path))
    text = (metadata or {}).get(CONFIG_KEY)
    if text is None:
        return None
    remedy = (
        f"Download or convert it again, or put its config next to it as {config_path(path).name}."
    )
    name = f"{CONFIG_KEY} in the metadata of {path}"
    return json_value(text, dict, name, error=CheckpointError, remedy=remedy)


def read_vae_config(
    file: Path,
    tensors: Mapping[str, TensorInfo],
    version: Version,
    metadata: Mapping[str, str] | None = None,
) -> VAEConfig:
    """A single VAE file's configuration: from the `.json` next to it, its metadata or its tensors.

    `version` determines the normalisation, which the tensors do not reveal.
    """
    stated = stated_config(file, metadata)
    if stated is not None:
        return VAEConfig.from_dict(stated)
    try:
        depth = _count(tensors, r"encoder\.down_blocks\.(\d+)\.")
        channels = [f"encoder.down_blocks.{i}.convs.0.conv1.weight" for i in range(depth)]
        return VAEConfig(
            latent_channels=tensors["quant_conv.weight"].shape[0] // 2,
            block_out_channels=tuple(tensors[name].shape[0] for name in channels),
            layers_per_block=_count(tensors, r"encoder\.down_blocks\.0\.convs\.(\d+)\."),
            spatial_group_norm=version is Version.V5_1,
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"{file} is not an EasyAnimate V5 or V5.1 VAE (looked for {error}). Choose another."
        ) from error


def transformer_config_fields(tensors: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """The fields of `TransformerConfig` that follow from the tensors' names and shapes.

    Args:
        tensors: Headers of a denoiser in either layout.
    """
    weights = without_side_tensors(tensors)
    shapes = {key_maps_transformer.to_original(name): info.shape for name, info in weights.items()}
    try:
        _check_values(shapes)
        inner, in_channels, patch, _ = shapes["proj.weight"]
        head_dim = shapes[f"{BLOCK_PREFIX}0.attn1.norm_q.weight"][0]
        text = next(s for s in map(shapes.get, ("text_proj.weight", "text_proj.1.weight")) if s)
        time_embed_dim = shapes["time_embedding.linear_2.weight"][0]
        out_channels = shapes["proj_out.weight"][0] // (patch * patch)
        num_heads, text_embed_dim = inner // head_dim, text[1]
        t5 = shapes.get("text_proj_t5.weight") or shapes.get("text_proj_t5.1.weight")
        text_embed_dim_t5 = t5[1] if t5 else None
    except (LookupError, StopIteration, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"These {len(shapes)} tensors are not an EasyAnimate V5 or V5.1 denoiser "
            f"(looked for {error or 'text_proj.weight'}). Choose another file."
        ) from error
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "num_attention_heads": num_heads,
        "attention_head_dim": head_dim,
        "num_layers": _count_blocks(shapes, ""),
        "mmdit_layers": _count_blocks(shapes, "attn2.to_q.weight"),
        "patch_size": patch,
        "time_embed_dim": time_embed_dim,
        "text_embed_dim": text_embed_dim,
        "text_embed_dim_t5": text_embed_dim_t5,
        "add_norm_text_encoder": "text_proj.1.weight" in shapes,
        "after_norm": f"{BLOCK_PREFIX}0.norm3.weight" in shapes,
    }


def denoiser_files(files: TensorFiles) -> TensorFiles | None:
    """The denoiser in `files` under its own names, without the prefixes that programs add.

    None if there is no denoiser; in a file with several networks, the others are left out.
    """
    return _network_files(files, _DENOISER_MARK, DENOISER_WORDS)


def vae_files(files: TensorFiles) -> TensorFiles | None:
    """The same for a VAE."""
    return _network_files(files, _VAE_MARK, VAE_WORDS)


def in_original_names(files: TensorFiles) -> TensorFiles:
    """A denoiser's tensors, in either layout, under the original names."""
    return files.renamed({key_maps_transformer.to_original(name): name for name in files})


def read_denoiser_files(path: Path) -> TensorFiles:
    """The denoiser in a file or folder; without one, all tensors, which later checks refuse."""
    files = read_tensor_files(path)
    return denoiser_files(files) or files


def _network_files(files: TensorFiles, mark: str, words: Sequence[str]) -> TensorFiles | None:
    prefix = prefix_before(files, mark, words)
    if prefix is None:
        return None
    return files.renamed({n.removeprefix(prefix): n for n in files if n.startswith(prefix)})


def _check_values(shapes: Mapping[str, Sequence[int]]) -> None:
    empty = next((name for name, shape in shapes.items() if 0 in shape), None)
    if empty is not None:
        raise ValueError(f"{empty} with values, which is {tuple(shapes[empty])}")


def _count_blocks(names: Mapping[str, Any], part: str) -> int:
    return _count(names, rf"{re.escape(BLOCK_PREFIX)}(\d+)\.{re.escape(part)}")


def _count(names: Mapping[str, Any], pattern: str) -> int:
    """How many different numbers the pattern finds at the start of the names."""
    found = (re.match(pattern, name) for name in names)
    return len({match.group(1) for match in found if match})


def _layout(transformer: TensorFiles) -> Layout:
    """Diffusers if the denoiser uses diffusers' names; a VAE's are the same in both."""
    renamed = any(key_maps_transformer.to_original(name) != name for name in transformer)
    return Layout.DIFFUSERS if renamed else Layout.ORIGINAL


def config_as_json(config: TransformerConfig | VAEConfig, **extra: Any) -> dict[str, Any]:
    """A config dataclass as the content of a `config.json`."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return extra | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
