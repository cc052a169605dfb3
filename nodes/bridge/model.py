"""Builds a native MODEL from a denoiser's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...easyanimate_core.errors import InputError
from ...easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from ...easyanimate_core.models.vae import AutoencoderKLMagvit
from ...easyanimate_core.weights.loading import build_on_meta, check_complete
from ...easyanimate_core.weights.stored import Stored, StoredWeights, may_be_quantized, to_storage
from ...easyanimate_core.weights.stored.storage import as_tensors
from .denoiser import Config, DenoiserInfo, Model, finish_run, start_run
from .patcher import after_each_run, at_each_run, is_dynamic, make_patcher, remember_how
from .preview import PreviewColours, fit_preview_colours
from .progress import NodeProgress
from .stored import holds_float8, stays, stored_dtype
from .vae import easyanimate_vae

#: Choices of the loaders, and the dtype to store weights in; None keeps the files'.
DEFAULT_DTYPE, FP8 = "default", "scaled fp8 (e4m3)"
WEIGHT_DTYPES: dict[str, torch.dtype | None] = {
    DEFAULT_DTYPE: None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    FP8: None,
}

_COMPUTE_DTYPES = [torch.bfloat16, torch.float16, torch.float32]


@dataclass(frozen=True)
class DenoiserFiles:
    """A denoiser to load: its description, and its weights by the original's names."""

    info: DenoiserInfo
    weights: StoredWeights

    @property
    def name(self) -> str:
        """For messages."""
        config = self.info.transformer
        return f"{config.version.value} {config.head.value} denoiser"

    def check(self) -> None:
        """Raise `CheckpointError` if weights are missing, unexpected or have a wrong shape."""
        plain = build_on_meta(
            lambda: EasyAnimateTransformer3DModel(self.info.transformer), what=self.name
        )
        expected = {name: tensor.shape for name, tensor in plain.state_dict().items()}
        found = {name: weight.shape for name, weight in self.weights.items()}
        check_complete(expected, found, what=self.name)


def make_model(
    files: DenoiserFiles,
    weight_dtype: str,
    colours: PreviewColours | None,
    disable_dynamic: bool = False,
) -> Any:
    """Make a MODEL (a ModelPatcher) of the denoiser.

    Args:
        files: Description and weights.
        weight_dtype: A key of `WEIGHT_DTYPES`.
        colours: Colours of live previews; None disables them.
        disable_dynamic: Use ComfyUI's plain patcher instead of its dynamic one.

    Raises:
        CheckpointError: Naming missing, unexpected and misshapen tensors.
    """
    files.check()
    stored = bool(files.weights.native)
    quantised = stored or weight_dtype == FP8
    dtype = WEIGHT_DTYPES[weight_dtype] or stored_dtype(files.weights)
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    config = Config(files.info, dtype, colours)
    compute = comfy.model_management.unet_manual_cast(
        None if quantised else dtype, load_device, _COMPUTE_DTYPES
    )
    config.set_inference_dtype(dtype, compute)
    if quantised:
        config.quant_config = {"mixed_ops": True}
    # Quantised layers move their weights themselves, to the device they were built for.
    model = Model(config, torch.device("cpu" if quantised else "meta"))
    model.device = offload_device
    if (compute or dtype) is torch.float16:
        _cast_when_used(model.diffusion_model)
    patcher = make_patcher(model, load_device, offload_device, disable_dynamic=disable_dynamic)
    at_each_run(patcher, start_run)
    after_each_run(patcher, finish_run)
    remember_how(patcher, make_model, files, weight_dtype, colours)
    placed = _placed(files.weights, dtype, quantise=quantised and not stored)
    # Layers with quantised weights keep their bias in the compute dtype; copying converts it.
    missing, unexpected = model.diffusion_model.load_state_dict(
        placed, strict=False, assign=is_dynamic(patcher) or not quantised
    )
    assert not missing, f"not filled: {missing}"
    assert not unexpected, f"not used: {unexpected}"
    model.diffusion_model.requires_grad_(False)
    return patcher


def _cast_when_used(network: torch.nn.Module) -> None:
    """Make layers cast weights to their input's dtype: in float16, some inputs are float32."""
    for layer in network.modules():
        if hasattr(layer, "comfy_cast_weights"):
            layer.comfy_cast_weights = True


def _placed(weights: StoredWeights, dtype: torch.dtype, *, quantise: bool) -> dict[str, Tensor]:
    """Convert tensors to the storage dtype one by one, so that two full copies never coexist."""
    placed: dict[str, Tensor] = {}
    progress = NodeProgress()
    for done, name in enumerate(weights, start=1):
        if stays(weights, name):
            placed |= {name: weights[name], **weights.beside(name)}
        else:
            placed |= _converted(name, weights[name], dtype, quantise=quantise)
        progress("load", done, len(weights))
    return placed


def _converted(
    name: str, weight: Stored, dtype: torch.dtype, *, quantise: bool
) -> dict[str, Tensor]:
    """A weight in its storage dtype.

    Next to quantised ones it is copied, because a mapped tensor keeps the whole file mapped.
    """
    if quantise and may_be_quantized(name, weight.shape):
        return as_tensors(name, to_storage(weight.to(dtype=torch.float32), "fp8"))
    if quantise and isinstance(weight, Tensor):
        return {name: weight.to(dtype=dtype, copy=True)}
    return {name: weight.to(dtype=dtype)}


def compute_dtype(device: torch.device) -> torch.dtype:
    """ComfyUI's compute dtype for a denoiser whose weights it may cast."""
    cast: torch.dtype | None = comfy.model_management.unet_manual_cast(
        None, device, _COMPUTE_DTYPES
    )
    return cast or torch.float32


def check_float8(choice: str, what: str, device: torch.device, others: str) -> None:
    """Raise `InputError` if fp8 is chosen and the device does not support it.

    Args:
        choice: The chosen option.
        what: The widget's name.
        device: The device of the weights.
        others: The options that work there.
    """
    if choice == FP8 and not holds_float8(device):
        raise InputError(
            f"{what} is {choice}, but {device.type} (a Mac's GPU) has no fp8. Choose {others}."
        )


def preview_colours(vae: Any) -> PreviewColours:
    """Fit the colours of live previews to the VAE that will decode them."""
    network = easyanimate_vae(vae)
    comfy.model_management.load_models_gpu([vae.patcher])

    @torch.inference_mode()
    def encode(pictures: Tensor) -> Tensor:
        pictures = pictures.to(vae.device, vae.vae_dtype)
        return AutoencoderKLMagvit.encode(network, pictures).mean * network.config.scaling_factor

    return fit_preview_colours(encode)
