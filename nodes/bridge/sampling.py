"""The original's schedulers inside ComfyUI's sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ...easyanimate_core.errors import InputError
from ...easyanimate_core.sampling import (
    DEFAULT_SCHEDULER,
    Guidance,
    Prediction,
    Schedule,
    check_scheduler,
    check_steps,
    denoise,
    make_schedule,
)
from .denoiser import denoiser_info, flow_shift
from .hooks import made_by
from .live_preview import preview_callback
from .saved_steps import KEY as SAVED_STEPS
from .saved_steps import with_saving
from .step_cache import KEY as STEP_CACHE

_RESCALE_KEY = "sampler_cfg_function"


@dataclass(frozen=True)
class SamplerSettings:
    """Settings of the pack's sampler node. `scheduler` None is the version's default.

    `step_cache` is EasyCache's threshold, `left_out` the share of steps of the core's step cache.
    """

    seed: int
    steps: int
    cfg: float
    scheduler: str | None = None
    denoise: float = 1.0
    guidance_rescale: float = 0.0
    step_cache: float = 0.0
    left_out: float = 0.0


def sample(
    model: Any,
    positive: Any,
    negative: Any,
    latent: Mapping[str, Any],
    settings: SamplerSettings,
) -> dict[str, Any]:
    """Sample a LATENT with one of the original's schedulers.

    Raises:
        InputError: An input does not fit the model; raised before the first step.
    """
    info = denoiser_info(model)
    if info is None:
        raise InputError(
            f"The model is a {type(model.model).__name__}, not EasyAnimate's. Connect the MODEL "
            "from EasyAnimate Load Checkpoint, or sample it with KSampler."
        )
    _check_schedule(model)
    guidance = Guidance(settings.cfg, settings.guidance_rescale)
    name = settings.scheduler or DEFAULT_SCHEDULER[info.transformer.version]
    check_scheduler(name, info.transformer.version, info.scheduler)
    check_steps(settings.steps, settings.denoise, name)
    schedule = make_schedule(
        name,
        info.scheduler,
        steps=settings.steps,
        strength=settings.denoise,
        flow_shift=flow_shift(model),
        device=model.load_device,
    )
    if settings.guidance_rescale > 0:
        model = _with_rescale(model, guidance, schedule.prediction)
    if settings.step_cache > 0:
        model = _with_step_cache(model, settings.step_cache)
    if settings.left_out > 0:
        model = with_saving(model, settings.left_out)
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    if settings.denoise < 1 and not _to_change(start, latent.get("noise_mask")).any():
        raise InputError(
            f"denoise is {settings.denoise}, but the latent is empty: there is no video to keep. "
            "Connect EasyAnimate Video to Video (or VAE Encode), or set denoise to 1."
        )
    noise = comfy.sample.prepare_noise(start, settings.seed, latent.get("batch_index"))
    space = VelocitySpace(model.get_model_object("model_sampling"), schedule.prediction)
    samples = comfy.sample.sample_custom(
        model,
        noise,
        settings.cfg,
        ScheduledSampler(schedule),
        space.sigmas(schedule),
        positive,
        negative,
        start,
        noise_mask=latent.get("noise_mask"),
        callback=preview_callback(model, len(schedule.timesteps)),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=settings.seed,
    )
    return {**latent, "samples": samples}


class ScheduledSampler(comfy.samplers.Sampler):
    """A SAMPLER of ComfyUI that runs the core's loop over ComfyUI's denoiser."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[..., None] | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,  # noqa: ARG002
    ) -> Tensor:
        """Run the schedule; returns scaled latents."""
        masked = comfy.samplers.KSamplerX0Inpaint(model_wrap, sigmas)
        masked.latent_image, masked.noise = latent_image, noise
        model_sampling = model_wrap.inner_model.model_sampling
        space = VelocitySpace(model_sampling, self.schedule.prediction)
        last: dict[str, Tensor] = {}

        def velocity(latents: Tensor, timestep: Tensor) -> Tensor:
            sigma = space.sigma(timestep)
            x = space.x(latents, sigma)
            rows = sigma.to(x).expand(x.shape[0])
            denoised = masked(x, rows, denoise_mask, **extra_args)
            last.update(x=x, denoised=denoised)
            return space.velocity(latents, denoised, sigma)

        def report(stage: str, done: int, total: int) -> None:  # noqa: ARG001
            if callback is not None and done:
                callback(done - 1, last["denoised"], last["x"], total)

        generator = torch.Generator().manual_seed(extra_args.get("seed") or 0)
        torch.randn(noise.shape, generator=generator)  # the initial noise was its first draw
        latents = denoise(
            velocity,
            self.schedule,
            self.schedule.start(noise, latent_image),
            generators=[generator],
            progress=report,
        )
        if denoise_mask is not None and latent_image is not None:
            latents = latents * denoise_mask + latent_image * (1 - denoise_mask)
        return latents


@dataclass(frozen=True)
class VelocitySpace:
    """Converts between the core's terms (the denoiser's input latents, velocity) and ComfyUI's.

    Those are `x`, the latents that its samplers hold, and `denoised`, at one of its sigmas.
    """

    model_sampling: Any
    prediction: Prediction

    def sigma(self, timestep: Tensor) -> Tensor:
        """ComfyUI's sigma for a timestep of the schedule."""
        if isinstance(self.model_sampling, comfy.model_sampling.CONST):
            # Its `sigma` would shift the timestep, and a schedule's timesteps are shifted.
            return timestep / self.model_sampling.multiplier
        return self.model_sampling.sigma(timestep)

    def sigmas(self, schedule: Schedule) -> Tensor:
        """The timesteps as sigmas, followed by zero, for ComfyUI's hooks and percentages."""
        sigmas = self.sigma(schedule.timesteps.cpu().float())
        return torch.cat([sigmas, sigmas.new_zeros(1)])

    def latents(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The denoiser's input for ComfyUI's `x`."""
        return self.model_sampling.calculate_input(sigma, x)

    def x(self, latents: Tensor, sigma: Tensor) -> Tensor:
        """The inverse of `latents`."""
        one = latents.new_ones([1] * latents.ndim)
        return latents / self.latents(one, sigma)

    def velocity(self, latents: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
        """The velocity that gives `denoised`."""
        return self.prediction.velocity(latents, denoised, self.prediction.levels_of_sigma(sigma))

    def denoised(self, latents: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
        """The inverse of `velocity`."""
        return self.prediction.clean(latents, velocity, self.prediction.levels_of_sigma(sigma))


def _check_schedule(model: Any) -> None:
    """Raise `InputError` if a node has replaced the schedule by one that this node cannot follow.

    ModelSamplingSD3 only changes the shift of V5.1's, which it can.
    """
    found, (own,) = model.get_model_object("model_sampling"), model.model.own_sampling
    if found is own:
        return
    if isinstance(own, comfy.model_sampling.CONST):
        flow = comfy.model_sampling.ModelSamplingDiscreteFlow
        follows = (
            isinstance(found, flow)
            and type(found).calculate_denoised is comfy.model_sampling.CONST.calculate_denoised
            and found.multiplier == own.multiplier
            and getattr(found, "noise_scale", 1.0) == 1.0
        )
        remedy = " (ModelSamplingSD3 may change the shift)"
    else:
        follows = (
            isinstance(found, comfy.model_sampling.ModelSamplingDiscrete)
            and type(found).calculate_denoised
            is comfy.model_sampling.V_PREDICTION.calculate_denoised
            and torch.equal(found.sigmas.cpu(), own.sigmas.cpu())
        )
        remedy = ""
    if not follows:
        raise InputError(
            f"{_replaced_by(found)} has replaced the model's noise schedule, and EasyAnimate "
            "Sampler follows the schedules that the model was trained with. Remove the node"
            f"{remedy}, or sample with KSampler, which follows it."
        )


def _replaced_by(sampling: Any) -> str:
    """The node that made a model_sampling, as well as can be known."""
    if getattr(sampling, "multiplier", None) == 1.0:
        return "ModelSamplingAuraFlow"  # it calls ModelSamplingSD3's code
    if "<locals>" in type(sampling).__qualname__:
        return made_by(type(sampling))
    scaled = getattr(sampling, "noise_scale", 1.0) != 1.0
    return "ModelNoiseScale" if scaled else f"A node ({type(sampling).__name__})"


def _to_change(latents: Tensor, mask: Tensor | None) -> Tensor:
    """The parts of a latent to sample: all that its noise mask does not keep."""
    return latents if mask is None else latents * (mask > 0).to(latents)


def _with_rescale(model: Any, guidance: Guidance, prediction: Prediction) -> Any:
    """A model with the core's guidance rescale as its CFG function."""
    if _RESCALE_KEY in model.model_options:
        raise InputError(
            "guidance_rescale is above 0, but the model already has a CFG function (such as "
            "RescaleCFG). Set guidance_rescale to 0 or remove that node."
        )
    model = model.clone()

    def combine(args: Mapping[str, Any]) -> Tensor:
        if args["cond_scale"] == 1:  # no negative prompt in this step
            cond: Tensor = args["cond"]
            return cond
        space = VelocitySpace(args["model"].model_sampling, prediction)
        x = args["input"]
        sigma = args["sigma"].reshape(-1, *[1] * (x.ndim - 1))
        latents = space.latents(x, sigma)
        negative = space.velocity(latents, args["uncond_denoised"], sigma)
        positive = space.velocity(latents, args["cond_denoised"], sigma)
        return x - space.denoised(latents, guidance.combine(negative, positive), sigma)

    model.set_model_sampler_cfg_function(combine)
    return model


def _with_step_cache(model: Any, threshold: float) -> Any:
    """A model with ComfyUI's own EasyCache."""
    if {STEP_CACHE, SAVED_STEPS} & set(model.model_options["transformer_options"]):
        raise InputError(
            "step_cache is above 0, but the model already has a step cache (EasyCache, LazyCache "
            "or EasyAnimate Step Cache). Set step_cache to 0 or remove that node."
        )
    from comfy_extras.nodes_easycache import EasyCacheNode

    output = EasyCacheNode.execute(
        model, reuse_threshold=threshold, start_percent=0.15, end_percent=0.95, verbose=False
    )
    return output.args[0]
