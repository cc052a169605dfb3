"""A denoiser that keeps what is known.

Shapes: B batch, C latent channels, F latent frames, H and W latent height and width.
"""

from __future__ import annotations

from torch import Tensor

from ..conditioning.known import Known
from .guidance import Denoiser
from .schedulers import Schedule


def keeping_known(denoiser: Denoiser, schedule: Schedule, known: Known, noise: Tensor) -> Denoiser:
    """`denoiser` with what is known at its true noise level before, and as it is known after.

    The masks of ComfyUI's samplers do the same.

    Args:
        denoiser: (latents, timestep) to the predicted velocity.
        schedule: Says how noisy a timestep is.
        known: What is known.
        noise: What sampling starts from, [B, C, F, H, W].
    """

    def denoise(latents: Tensor, timestep: Tensor) -> Tensor:
        noised = schedule.noised(known.latents, noise, timestep)
        shown = latents.lerp(noised, known.share)
        clean = schedule.clean(shown, denoiser(shown, timestep), timestep)
        return schedule.velocity(latents, clean.lerp(known.latents, known.share), timestep)

    return denoise
