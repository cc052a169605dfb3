"""The core's denoiser as a native MODEL.

It supports what ComfyUI offers its own video models: layers come from its `operations`
(streaming, casting, patches, fp8), attention from its `optimized_attention`; the DIFFUSION_MODEL
wrapper supports EasyCache and LazyCache, `patches_replace` reaches every block, and the condition
channels are passed as `c_concat`, which context windows slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.patcher_extension
import comfy.supported_models_base
import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

from ...easyanimate_core.memory.plan.activations import denoiser_bytes
from ...easyanimate_core.memory.plan.estimate import ALLOCATOR_SHARE
from ...easyanimate_core.models.precision import check_finite
from ...easyanimate_core.models.specs import LATENT_CHANNELS, TransformerConfig, Version
from ...easyanimate_core.models.transformer import (
    AroundBlock,
    EasyAnimateTransformer3DModel,
    RunBlock,
    bounded_attention,
)
from ...easyanimate_core.sampling import FLOW_SHIFT
from .preview import PreviewColours
from .shown import KEY, TEXT_T5, denoiser_channels

#: Names of beta schedules, from diffusers' to ComfyUI's.
_BETA_SCHEDULES = {"scaled_linear": "linear", "linear": "sqrt_linear"}


@dataclass(frozen=True)
class DenoiserInfo:
    """Describes a MODEL of this pack. `scheduler` is the content of `scheduler_config.json`."""

    transformer: TransformerConfig
    scheduler: Mapping[str, Any]
    size: str
    scaling_factor: float = 0.7125


class LatentFormat(comfy.latent_formats.LatentFormat):
    """`LATENT_CHANNELS` channels; a latent pixel covers 8 x 8 pixels and four frames."""

    latent_channels = LATENT_CHANNELS
    latent_dimensions = 3
    spacial_downscale_ratio = 8
    temporal_downscale_ratio = 4

    def __init__(self, scaling_factor: float, colours: PreviewColours | None) -> None:
        self.scale_factor = scaling_factor
        if colours is not None:
            self.latent_rgb_factors = colours.factors
            self.latent_rgb_factors_bias = colours.bias


class Config(comfy.supported_models_base.BASE):
    """ComfyUI's model config, made from a `DenoiserInfo`."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012  (ComfyUI's own declaration)

    def __init__(
        self, info: DenoiserInfo, dtype: torch.dtype, colours: PreviewColours | None
    ) -> None:
        self.latent_format = partial(LatentFormat, info.scaling_factor, colours)
        super().__init__({"config": info.transformer, "dtype": dtype})
        self.sampling_settings = _sampling_settings(info)
        self.info = info


def _sampling_settings(info: DenoiserInfo) -> dict[str, Any]:
    if info.transformer.version is Version.V5_1:
        return {"shift": FLOW_SHIFT, "multiplier": 1000}
    config = info.scheduler
    return {
        "beta_schedule": _BETA_SCHEDULES[config.get("beta_schedule", "scaled_linear")],
        "linear_start": config.get("beta_start", 0.00085),
        "linear_end": config.get("beta_end", 0.012),
        "zsnr": config.get("rescale_betas_zero_snr", True),
    }


class FlowSampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """V5.1's flow matching, which makes KSampler's scheduler `normal` the original's Flow."""

    @property
    def sigma_min(self) -> Tensor:
        """The last sigma of schedules: one training step before the shift, as in the original."""
        return self.sigmas.new_tensor(1 / len(self.sigmas))


class Model(comfy.model_base.BaseModel):
    """The denoiser with EasyAnimate's sampling and conditioning."""

    def __init__(self, config: Config, device: torch.device | None = None) -> None:
        version = config.info.transformer.version
        types = comfy.model_base.ModelType
        kind = types.FLOW if version is Version.V5_1 else types.V_PREDICTION
        super().__init__(config, kind, device=device, unet_model=Denoiser)
        if version is Version.V5_1:
            self.model_sampling = FlowSampling(config)
        self.info = config.info

    def concat_cond(self, **kwargs: Any) -> Tensor | None:
        """The condition channels, zeros for text to video with an InP model."""
        return denoiser_channels(kwargs.get(KEY), self.info.transformer, kwargs["noise"])

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Text states unchanged: the default repeats tokens, which would change the result."""
        conds = super().extra_conds(**kwargs)
        text, text_t5 = kwargs.get("cross_attn"), kwargs.get(TEXT_T5)
        if text is not None:
            conds["c_crossattn"] = comfy.conds.CONDRegular(text)
        if text_t5 is not None:
            conds["text_t5"] = comfy.conds.CONDRegular(text_t5)
        return conds

    def memory_required(
        self,
        input_shape: Sequence[int],
        cond_shapes: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> int:
        """Bytes needed in addition to the weights for a batch of latents."""
        rows, _, *size = input_shape
        compute = self.manual_cast_dtype or self.get_dtype()
        working = denoiser_bytes(self.info.transformer, tuple(size), rows, compute)
        return int(working * (1 + ALLOCATOR_SHARE))

    def state_dict_for_saving(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Quantised weights as stored: ComfyUI 0.8 would save their wrapper as float32."""
        saved = super().state_dict_for_saving(*args, **kwargs)
        return {name: getattr(tensor, "_qdata", tensor) for name, tensor in saved.items()}


class Denoiser(EasyAnimateTransformer3DModel):
    """The core's denoiser with ComfyUI's calling convention and the same parameter names."""

    def __init__(
        self,
        config: TransformerConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        operations: Any = None,
    ) -> None:
        super().__init__(config, operations=operations, dtype=dtype, device=device)
        self.dtype = dtype

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> Tensor:
        """The predicted velocity for `x`, latents followed by the condition channels."""
        options = transformer_options or {}
        kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        wrappers = comfy.patcher_extension.get_all_wrappers(kind, options)
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(
            self._predict, self, wrappers
        )
        return executor.execute(x, timestep, context, control, options, **extra)

    def _predict(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        control: Any,  # noqa: ARG002  (ControlNets, which do not exist for this model)
        options: Mapping[str, Any],
        text_t5: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        channels = self.config.out_channels
        condition = x[:, channels:] if self.config.condition_channels else None
        velocity = super().forward(
            x[:, :channels],
            timestep,
            context,
            text_t5=text_t5,
            condition=condition,
            attention=partial(_attention, options=options),
            around_block=_around_block(options),
        )
        check_finite(velocity, "The denoiser's prediction", x.dtype)
        return velocity


def _attention(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor, *, options: Any) -> Tensor:
    def chosen(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = q.shape[1]
        return optimized_attention(q, k, v, heads, skip_reshape=True, transformer_options=options)

    return bounded_attention(chosen, q_BHND, k_BHND, v_BHND)


def _around_block(options: Mapping[str, Any]) -> AroundBlock | None:
    """Wraps blocks with ComfyUI's replacements; each is the `double_block` of its index."""
    replacements = options.get("patches_replace", {}).get("dit", {})
    if not replacements:
        return None

    def around(index: int, run: RunBlock, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        replacement = replacements.get(("double_block", index))
        if replacement is None:
            return run(video, text)

        def original(args: Mapping[str, Any]) -> dict[str, Any]:
            new_video, new_text = run(args["img"], args["txt"])
            return {"img": new_video, "txt": new_text}

        arguments = {"img": video, "txt": text, "transformer_options": options}
        out = replacement(arguments, {"original_block": original})
        return out["img"], out["txt"]

    return around


def flow_shift(model: Any) -> float:
    """The timestep shift of a V5.1 MODEL, which ModelSamplingSD3 may have changed."""
    return float(getattr(model.get_model_object("model_sampling"), "shift", math.e))


def denoiser_info(model: Any) -> DenoiserInfo | None:
    """The `DenoiserInfo` of a MODEL, None if it is not from this pack."""
    return getattr(model.model, "info", None) if isinstance(model.model, Model) else None
