"""A denoiser that keeps known latents fixed.

Shapes: B batch, C latent channels, F latent frames, H and W latent height and width.
"""

from __future__ import annotations

from torch import Tensor

from ..conditioning.known import Known
from .guidance import Denoiser
from .schedulers import Schedule


def keeping_known(denoiser: Denoiser, schedule: Schedule, known: Known, noise: Tensor) -> Denoiser:
    """Wrap `denoiser`: known latents are noised to the timestep before it, and restored after it.

    ComfyUI's samplers do the same with a noise mask.

    Args:
        denoiser: (latents, timestep) to the predicted velocity.
        schedule: Determines the noise level of a timestep.
        known: The known latents.
        noise: The noise that sampling starts from, [B, C, F, H, W].
    """

    def denoise(latents: Tensor, timestep: Tensor) -> Tensor:
        noised = schedule.noised(known.latents, noise, timestep)
        shown = latents.lerp(noised, known.share)
        clean = schedule.clean(shown, denoiser(shown, timestep), timestep)
        return schedule.velocity(latents, clean.lerp(known.latents, known.share), timestep)

    return denoise
