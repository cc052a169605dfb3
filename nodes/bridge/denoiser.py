"""The core's denoiser as a native MODEL.

It supports what ComfyUI offers its own video models: layers come from its `operations`
(streaming, casting, patches, fp8), attention from its `optimized_attention`; the DIFFUSION_MODEL
wrapper supports EasyCache and LazyCache, patches reach every block (`hooks`), and the condition
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
from torch import Tensor

from ...easyanimate_core.errors import InputError
from ...easyanimate_core.memory.plan.activations import denoiser_bytes
from ...easyanimate_core.memory.plan.estimate import ALLOCATOR_SHARE
from ...easyanimate_core.models.precision import FiniteCheck
from ...easyanimate_core.models.specs import LATENT_CHANNELS, TransformerConfig, Version
from ...easyanimate_core.models.transformer import (
    EasyAnimateTransformer3DModel,
    RotaryTable,
    Stretch,
)
from ...easyanimate_core.sampling import FLOW_SHIFT
from .hooks import RunLog, hooks_of, plain_attention, stretch_of
from .preview import PreviewColours
from .shown import KEY, TEXT_T5, denoiser_channels
from .step_cache import KEY as STEP_CACHE
from .step_cache import WindowCaches

#: The dimension of the frames in latents [B, C, F, H, W].
FRAMES_DIM = 2
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


class UNetConfig(dict[str, Any]):
    """ComfyUI's `unet_config`, which says so if a node looks for a property of UNets."""

    def __missing__(self, key: str) -> Any:
        raise InputError(
            f"This node is made for UNets, such as SDXL's: it looks for their {key!r}. "
            "EasyAnimate's denoiser is a transformer. Remove the node."
        )


class Config(comfy.supported_models_base.BASE):
    """ComfyUI's model config, made from a `DenoiserInfo`."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012  (ComfyUI's own declaration)

    def __init__(
        self, info: DenoiserInfo, dtype: torch.dtype, colours: PreviewColours | None
    ) -> None:
        self.latent_format = partial(LatentFormat, info.scaling_factor, colours)
        super().__init__({"config": info.transformer, "dtype": dtype})
        self.unet_config = UNetConfig(self.unet_config)
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
        #: The model's own, in a tuple so that it is no second submodule; nodes may replace the
        #: attribute.
        self.own_sampling = (self.model_sampling,)
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
        memory_efficient_attention: bool | None = None,  # noqa: ARG002
    ) -> int:
        """Bytes needed in addition to the weights for a batch of latents.

        Newer releases of ComfyUI also tell whether the attention that a node chose takes little
        memory. Whatever can attend to a whole video does, so the estimate is the same.
        """
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
        #: Channels of the latents, which RenormCFG looks for.
        self.in_channels = config.out_channels
        self.log = RunLog()
        self.window_caches = WindowCaches()
        self.start_run()

    def start_run(self) -> None:
        """Forget what belongs to the run before."""
        self.log.start()
        self.finite = FiniteCheck("The denoiser's prediction")
        self._tables: dict[tuple[Any, ...], RotaryTable] = {}

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
        if STEP_CACHE in options:
            x = x.clone()  # EasyCache adds to it, and ComfyUI may still need it
        with self.window_caches.of_window(options) as options:
            return executor.execute(x, timestep, context, control, options, **extra)

    def _predict(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        control: Any,
        options: Mapping[str, Any],
        text_t5: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        channels = self.config.out_channels
        condition = x[:, channels:] if self.config.condition_channels else None
        latents = x[:, :channels]
        if control is not None:
            self.log.warn(
                "the ControlNet has no effect: there are none for this model. EasyAnimate Control, "
                "with a Control checkpoint, does the same."
            )
        hooks = hooks_of(options, latents, self.config.num_layers, self.log)
        velocity = super().forward(
            latents,
            timestep,
            context,
            text_t5=text_t5,
            condition=condition,
            rope=self._rope(latents, stretch_of(options)),
            attention=hooks.attention if hooks else partial(plain_attention, options=options),
            around_block=hooks.around_block if hooks else None,
        )
        self.finite.add(velocity, x.dtype)
        return velocity

    @torch.compiler.disable  # its memory would be compiled into the network
    def _rope(self, latents: Tensor, stretch: Stretch | None) -> RotaryTable:
        """The rotary table, made once per run: it is computed on the CPU."""
        key = (latents.shape[2:], latents.device, stretch)
        if key not in self._tables:
            self._tables[key] = self.rotary_table(latents, stretch)
        return self._tables[key]


def start_run(patcher: Any) -> None:
    """Prepare for a sampling run: warnings appear anew, the first of them at once."""
    denoiser = patcher.model.diffusion_model
    denoiser.start_run()
    log = denoiser.log
    windows = patcher.model_options.get("context_handler")
    dim = getattr(windows, "dim", FRAMES_DIM)
    if dim != FRAMES_DIM:
        log.warn(
            f"the context windows cut dimension {dim} of the latents; the frames of a video are "
            f"dimension {FRAMES_DIM}. Set dim to {FRAMES_DIM}."
        )


def finish_run(model: Any) -> None:
    """Raise `PrecisionError` if a prediction was not finite that could not be checked before."""
    model.diffusion_model.finite.finish()


def flow_shift(model: Any) -> float:
    """The timestep shift of a V5.1 MODEL, which ModelSamplingSD3 may have changed."""
    return float(getattr(model.get_model_object("model_sampling"), "shift", math.e))


def denoiser_info(model: Any) -> DenoiserInfo | None:
    """The `DenoiserInfo` of a MODEL, None if it is not from this pack."""
    return getattr(model.model, "info", None) if isinstance(model.model, Model) else None
