"""Known pixels as a condition: image to video, region editing, and their absence.

Shapes: B batch, C latent channels, F frames (pixels: 4n + 1, latents: n + 1), H and W height and
width. Masks: 1 = generate, 0 = known.

Source: aigc-apps/EasyAnimate, easyanimate/pipeline/pipeline_easyanimate_inpaint.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.vae import AutoencoderKLMagvit
from ..progress import Progress, silent
from .encode import encode_video

#: What pixels that shall be generated hold in the masked video, in [-1, 1].
HIDDEN = -1.0


def inpaint_condition(
    vae: AutoencoderKLMagvit,
    video_BCFHW: Tensor,
    mask_BCFHW: Tensor,
    *,
    noise_amplitude: float,
    generators: Sequence[torch.Generator],
    progress: Progress = silent,
) -> Tensor:
    """The InP head's channels: mask, then masked video, [B, 1 + C, F, H, W] in latent size.

    Args:
        vae: Encodes the masked video.
        video_BCFHW: The source in [-1, 1], [1, 3, F, H, W].
        mask_BCFHW: 1 where the model generates, [1, 1, F, H, W].
        noise_amplitude: Standard deviation of the noise on known pixels; the original uses 0.0563.
        generators: One per sample; each draws the noise of its sample.
        progress: Reports the stage "encode".
    """
    # The original draws this noise whatever its amplitude, so later draws stay where they were.
    noise = torch.cat(
        [torch.randn(video_BCFHW.shape, generator=generator) for generator in generators]
    )
    masked = video_BCFHW.masked_fill(mask_BCFHW > 0.5, HIDDEN)
    if noise_amplitude > 0:
        noise = noise.to(masked) * noise_amplitude
        masked = masked + noise.masked_fill(masked == HIDDEN, 0.0)
    latents = encode_video(vae, masked, progress=progress).expand(len(generators), -1, -1, -1, -1)
    mask = resize_to_latents(1 - mask_BCFHW, latents.shape[2:]) * vae.config.scaling_factor
    return torch.cat([mask.expand(len(generators), -1, -1, -1, -1), latents], dim=1)


def resize_to_latents(x_BCFHW: Tensor, size: Sequence[int]) -> Tensor:
    """Pixel-sized channels (masks, Pluecker rays) to latent size (F, H, W).

    The first frame is resized alone, because it alone makes the first latent frame; the others are
    resized together, trilinearly.
    """
    frames, height, width = size
    first = _resize(x_BCFHW[:, :, :1], (1, height, width))
    if frames == 1:
        return first
    rest = _resize(x_BCFHW[:, :, 1:], (frames - 1, height, width))
    return torch.cat([first, rest], dim=2)


def _resize(x_BCFHW: Tensor, size: tuple[int, int, int]) -> Tensor:
    return F.interpolate(x_BCFHW, size=size, mode="trilinear", align_corners=False)
