"""Camera rays as a condition.

Shapes: B batch, C latent channels, F latent frames, H and W latent height and width.

Source: aigc-apps/EasyAnimate, easyanimate/pipeline/pipeline_easyanimate_control.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor

from .inpaint import resize_to_latents

#: Scales Pluecker rays to the magnitude of latents.
CAMERA_SCALE = 6.0


def camera_condition(plucker_FHWC: Tensor, size: Sequence[int]) -> Tensor:
    """Pluecker rays [frames, height, width, 6] as channels [1, 6, F, H, W] of latent `size`."""
    rays = rearrange(plucker_FHWC, "f h w c -> 1 c f h w")
    return resize_to_latents(rays, size) * CAMERA_SCALE
