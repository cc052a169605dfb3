"""Loads checkpoint folders and single files as MODEL, CLIP and VAE, for the loader nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import torch

from ...easyanimate_core.models.specs import Version
from ...easyanimate_core.sampling import PUBLISHED_CONFIG
from ...easyanimate_core.text import Placement, QwenTextEncoder, build_text_encoder
from ...easyanimate_core.text.single_file import (
    Vocabularies,
    text_encoder_from_files,
    writer_from_file,
)
from ...easyanimate_core.text.writer import read_writer
from ...easyanimate_core.weights.files import (
    CheckpointInfo,
    inspect_checkpoint,
    model_size,
    read_denoiser_files,
    read_json,
    read_tensor_files,
    read_transformer_config,
    read_vae_config,
    vae_files,
)
from ...easyanimate_core.weights.loading import check_weights
from ...easyanimate_core.weights.stored import StoredWeights
from .denoiser import DenoiserInfo
from .model import (
    DEFAULT_DTYPE,
    FP8,
    DenoiserFiles,
    check_float8,
    make_model,
    preview_colours,
)
from .patcher import remember_how
from .paths import TEXT_ENCODERS, find_checkpoint, find_file, list_checkpoints
from .progress import NodeProgress
from .stored import denoiser_weights, stored_dtype, unpacked_from
from .text import compute_dtype, make_clip
from .vae import make_vae

#: Choices of the text encoder's device.
TEXT_DEVICES = ("default", "cpu")
#: Choices of the dtype of a text encoder's layers, and the core's name of each.
TEXT_DTYPES = {DEFAULT_DTYPE: "none", "scaled int8": "qint8", FP8: "qfloat8"}


@dataclass(frozen=True)
class Loaded:
    """The objects of a checkpoint, and a sentence that describes it."""

    model: Any
    clip: Any
    vae: Any
    report: str


def load_checkpoint(
    folder: Path, weight_dtype: str, text_device: str, text_dtype: str = "default"
) -> Loaded:
    """Load MODEL, CLIP and VAE from a checkpoint folder, which is checked first."""
    _check_weight_dtype(weight_dtype)
    _check_text_dtype(text_dtype, text_encoder_device(text_device))
    info = inspect_checkpoint(folder)
    check_weights(info)
    vae = make_vae(info.vae, info.vae_files.map(), f"{info.version.value} VAE")
    colours = preview_colours(vae)
    files = DenoiserFiles(
        DenoiserInfo(info.transformer, info.scheduler, info.size, info.vae.scaling_factor),
        denoiser_weights(info.transformer_files),
    )
    model = make_model(files, weight_dtype, colours)
    clip = folder_clip(folder, info.version, text_device, text_dtype)
    report = describe(info, weight_dtype) + _unpacking(files.weights, weight_dtype)
    report += _computing(model)
    return Loaded(model, clip, vae, report)


def describe(info: CheckpointInfo, weight_dtype: str) -> str:
    """Describe version, size, head, layout and dtype in one sentence."""
    stored = ", ".join(info.transformer_files.dtypes)
    reference = " with reference image" if info.transformer.has_reference else ""
    return (
        f"EasyAnimate {info.version.value} {info.size}, {info.head.value} head{reference}; "
        f"{info.layout.value} layout, stored as {stored}, weights: {weight_dtype}."
    )


def folder_clip(
    folder: Path,
    version: Version,
    text_device: str,
    text_dtype: str,
    *,
    disable_dynamic: bool = False,
) -> Any:
    """A CLIP from a checkpoint folder's text encoder."""
    device = text_encoder_device(text_device)
    _check_text_dtype(text_dtype, device)
    config = read_json(folder / "transformer" / "config.json")
    encoder = build_text_encoder(
        folder,
        version,
        use_attention_mask=config.get("enable_text_attention_mask", True),
        dtype=_stored_dtype(version, device),
        quantization=TEXT_DTYPES[text_dtype],
        progress=NodeProgress(),
    )
    clip = make_clip(encoder, device, disable_dynamic=disable_dynamic)
    if version is Version.V5_1:
        clip.cond_stage_model.make_writer = partial(
            read_writer, folder, placement=Placement(quantization=TEXT_DTYPES[text_dtype])
        )
    remember_how(clip.patcher, _patcher_of, folder_clip, folder, version, text_device, text_dtype)
    return clip


def text_encoder_device(choice: str) -> torch.device:
    """The device for one of `TEXT_DEVICES`."""
    if choice == "cpu":
        return torch.device("cpu")
    return comfy.model_management.text_encoder_device()


def load_text_encoder(
    name: str,
    second: str,
    text_device: str,
    text_dtype: str = "default",
    *,
    disable_dynamic: bool = False,
) -> Any:
    """A CLIP from one or two files in models/text_encoders, or from a checkpoint folder.

    `second` is "" if there is only one file.
    """
    if name in list_checkpoints():
        folder = find_checkpoint(name)
        kind = read_json(folder / "text_encoder" / "config.json").get("model_type")
        version = Version.V5_1 if kind == "qwen2_vl" else Version.V5
        return folder_clip(
            folder, version, text_device, text_dtype, disable_dynamic=disable_dynamic
        )
    device = text_encoder_device(text_device)
    _check_text_dtype(text_dtype, device)
    tokenizers = Path(comfy.sd.__file__).parent / "text_encoders"
    files = tuple(find_file(TEXT_ENCODERS, file) for file in (name, second) if file)
    vocabularies = Vocabularies(
        tokenizers / "qwen25_tokenizer", tokenizers / "hydit_clip_tokenizer"
    )
    encoder = text_encoder_from_files(
        files,
        vocabularies,
        dtype_of=lambda version: _stored_dtype(version, device),
        quantization=TEXT_DTYPES[text_dtype],
    )
    clip = make_clip(encoder, device, disable_dynamic=disable_dynamic)
    if isinstance(encoder, QwenTextEncoder):
        clip.cond_stage_model.make_writer = partial(
            writer_from_file,
            files[0],
            vocabularies.qwen,
            placement=Placement(quantization=TEXT_DTYPES[text_dtype]),
        )
    arguments = (name, second, text_device, text_dtype)
    remember_how(clip.patcher, _patcher_of, load_text_encoder, *arguments)
    return clip


def _check_weight_dtype(choice: str) -> None:
    device = comfy.model_management.get_torch_device()
    check_float8(choice, "weight_dtype", device, "default, bf16 or fp16")


def _check_text_dtype(choice: str, device: torch.device) -> None:
    check_float8(choice, "text_dtype", device, "scaled int8, which is as small, or default")


def _patcher_of(make: Callable[..., Any], *arguments: Any, disable_dynamic: bool = False) -> Any:
    return make(*arguments, disable_dynamic=disable_dynamic).patcher


def _stored_dtype(version: Version, device: torch.device) -> torch.dtype | None:
    """The dtype to load weights in: Qwen2-VL keeps the files' dtype, so that they stay mapped.

    mT5 chooses its dtype by its weights' dtype, which must therefore be the compute dtype.
    """
    return None if version is Version.V5_1 else compute_dtype(device)


def load_denoiser(file: Path, weight_dtype: str, vae: Any | None) -> tuple[Any, str]:
    """A MODEL from a single file, and a sentence about it. `vae` provides preview colours."""
    _check_weight_dtype(weight_dtype)
    stored = read_denoiser_files(file)
    config = read_transformer_config(file, stored, stored.metadata)
    weights = denoiser_weights(stored)
    scheduler = PUBLISHED_CONFIG[config.version]
    info = DenoiserInfo(config, scheduler, model_size(stored.num_parameters))
    colours = None if vae is None else preview_colours(vae)
    model = make_model(DenoiserFiles(info, weights), weight_dtype, colours)
    report = (
        f"EasyAnimate {config.version.value} {info.size}, {config.head.value} head; {file.name}."
    )
    return model, report + _unpacking(weights, weight_dtype) + _computing(model)


def _unpacking(weights: StoredWeights, weight_dtype: str) -> str:
    """A sentence about weights that this ComfyUI cannot keep as stored."""
    kinds = ", ".join(sorted(set(filter(None, map(unpacked_from, weights.values())))))
    if not kinds:
        return ""
    target = weight_dtype if weight_dtype != DEFAULT_DTYPE else _word(stored_dtype(weights))
    return f" Weights in {kinds} are unpacked on loading and stored in {target}."


def _computing(model: Any) -> str:
    """A sentence about float16, which GPUs without bfloat16 use."""
    if (model.model.manual_cast_dtype or model.model.get_dtype()) is not torch.float16:
        return ""
    return " It computes in float16, and in float32 where float16 would overflow."


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def load_vae_file(file: Path, version: Version) -> Any:
    """A VAE from a single file."""
    found = read_tensor_files(file)
    stored = vae_files(found) or found
    config = read_vae_config(file, stored, version, stored.metadata)
    return make_vae(config, stored.map(), f"{version.value} VAE")
