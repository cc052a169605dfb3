"""Known pixels as a condition, for image to video and region editing.

Shapes: B batch, C latent channels, F frames (pixels: 4n + 1, latents: n + 1), H and W height and
width. Masks: 1 = generate, 0 = known.

Source: aigc-apps/EasyAnimate, easyanimate/pipeline/pipeline_easyanimate_inpaint.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from ..models.geometry import SPATIAL_FACTOR, TEMPORAL_FACTOR
from ..progress import Progress, silent
from .encode import VideoEncoder, encode_video

#: Value of pixels to be generated in the masked video, in [-1, 1].
HIDDEN = -1.0


def inpaint_condition(
    vae: VideoEncoder,
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
    # The original draws this noise even at amplitude 0; doing so keeps later draws the same.
    noise = torch.cat(
        [torch.randn(video_BCFHW.shape, generator=generator) for generator in generators]
    )
    known = noise * noise_amplitude if noise_amplitude > 0 else None
    masked = masked_video(video_BCFHW, mask_BCFHW, known)
    latents = encode_video(vae, masked, progress=progress).expand(len(generators), -1, -1, -1, -1)
    mask = mask_channel(mask_BCFHW, latents.shape[2:], vae.config.scaling_factor)
    return torch.cat([mask.expand(len(generators), -1, -1, -1, -1), latents], dim=1)


def masked_video(video_BCFHW: Tensor, mask_BCFHW: Tensor, noise_BCFHW: Tensor | None) -> Tensor:
    """The source with `HIDDEN` where the model generates, and noise on known pixels.

    Values equal to `HIDDEN`, including black in the source, get no noise, as in the original.

    Args:
        video_BCFHW: The source in [-1, 1].
        mask_BCFHW: 1 where the model generates.
        noise_BCFHW: Noise to add, already scaled, for one or more samples; None adds none.
    """
    masked = video_BCFHW.masked_fill(mask_BCFHW > 0.5, HIDDEN)
    if noise_BCFHW is None:
        return masked
    return masked + noise_BCFHW.to(masked).masked_fill(masked == HIDDEN, 0.0)


def mask_channel(mask_BCFHW: Tensor, size: Sequence[int], scaling_factor: float) -> Tensor:
    """What is known, on the latent grid (F, H, W), scaled like the latents."""
    return resize_to_latents(1 - mask_BCFHW, size) * scaling_factor


def resize_to_latents(x_BCFHW: Tensor, size: Sequence[int]) -> Tensor:
    """Resize pixel-sized channels (masks, Pluecker rays) to latent size (F, H, W).

    The first frame is resized by itself, because it alone makes up the first latent frame; the
    others are resized together, trilinearly.
    """
    frames, height, width = size
    first = _resize(x_BCFHW[:, :, :1], (1, height, width))
    if frames == 1:
        return first
    rest = _resize(x_BCFHW[:, :, 1:], (frames - 1, height, width))
    return torch.cat([first, rest], dim=2)


def _resize(x_BCFHW: Tensor, size: tuple[int, int, int]) -> Tensor:
    return F.interpolate(x_BCFHW, size=size, mode="trilinear", align_corners=False)


def shape_mask(mask_BCFHW: Tensor, *, grow: int = 0, blur: int = 0) -> Tensor:
    """Grow or shrink a mask, then soften it. Shape unchanged, values 0 to 1.

    Args:
        mask_BCFHW: 1 where the model generates, [1, 1, F, H, W].
        grow: Pixels by which the region grows on every side; negative values shrink it.
        blur: Pixels over which its edge is softened. The masked video still hides the pixels where
            the mask is above one half; the soft edge affects only the mask channel.
    """
    if abs(grow) > 0:
        # Shrinking the generated region is growing the kept one.
        region = mask_BCFHW if grow > 0 else 1 - mask_BCFHW
        reach = abs(grow)
        for kernel in ((1, 2 * reach + 1, 1), (1, 1, 2 * reach + 1)):
            padding = tuple(side // 2 for side in kernel)
            region = F.max_pool3d(region, kernel, stride=1, padding=padding)
        mask_BCFHW = region if grow > 0 else 1 - region
    if blur > 0:
        from torchvision.transforms.functional import gaussian_blur

        frames = rearrange(mask_BCFHW, "b 1 f h w -> f b h w")
        side = min(2 * blur + 1, *((length - 1) * 2 + 1 for length in frames.shape[2:]))
        softened = gaussian_blur(frames, [side, side], [blur / 2, blur / 2])
        mask_BCFHW = rearrange(softened, "f b h w -> b 1 f h w")
    return mask_BCFHW


def seen_by_model(video_BCFHW: Tensor, mask_BCFHW: Tensor) -> Tensor:
    """A preview of an inpaint condition: frames [F, H, W, 3] in [0, 1].

    Pixels that the model sees keep their colours; those that it generates are tinted red on the
    latent grid of the mask channel, the more so the less is known there.
    """
    frames, height, width = video_BCFHW.shape[2:]
    size = ((frames - 1) // TEMPORAL_FACTOR + 1, height // SPATIAL_FACTOR, width // SPATIAL_FACTOR)
    known = resize_to_latents(1 - mask_BCFHW, size)
    pattern = "b c f h w -> b c (f t) (h p) (w q)"
    known = repeat(known, pattern, t=TEMPORAL_FACTOR, p=SPATIAL_FACTOR, q=SPATIAL_FACTOR)
    known = known[:, :, -frames:]  # the first latent frame is one frame, the others are four
    masked = video_BCFHW.masked_fill(mask_BCFHW > 0.5, HIDDEN) / 2 + 0.5
    red = torch.tensor([1.0, 0.1, 0.1]).view(1, 3, 1, 1, 1).to(masked)
    seen = masked * known + red * (1 - known) * 0.7 + masked * (1 - known) * 0.3
    return rearrange(seen[0].clamp(0, 1), "c f h w -> f h w c").contiguous()
