"""Keeping known pixels: sampling resets the latents of a source at every step.

The model sees what is known, but may still drift from it. In training, the latents of the whole
clip are noised, so resetting the known ones shows the model what it saw in training.

Shapes: B batch, C latent channels, F frames (pixels: 4n + 1, latents: n + 1), H and W height and
width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.geometry import SPATIAL_FACTOR, TEMPORAL_FACTOR, pixel_frames
from ..progress import Progress, silent
from .encode import VideoEncoder, encode_video


@dataclass(frozen=True)
class Known:
    """Scaled `latents` [1, C, F, H, W], and the known share of each, [1, 1, F, H, W]."""

    latents: Tensor
    share: Tensor

    def to(self, device: torch.device) -> Known:
        """The same on another device."""
        return Known(self.latents.to(device), self.share.to(device))


def known_share(mask_BCFHW: Tensor, *, whole: bool) -> Tensor:
    """How much of each latent is known, 0 to 1: [1, 1, F, H, W] in latent size.

    This is a share of the area, in the least known of the latent's four frames.

    Args:
        mask_BCFHW: 1 where the model generates, [1, 1, F, H, W].
        whole: Whether the video has real pixels under the mask, too. If not, latents after the
            first masked frame cannot be kept, because the VAE sees past frames.
    """
    known = 1 - mask_BCFHW.float()
    if not whole:
        known = known.cummin(dim=2).values
    share = F.avg_pool3d(known, (1, SPATIAL_FACTOR, SPATIAL_FACTOR))
    rest = share[:, :, 1:].unflatten(2, (-1, TEMPORAL_FACTOR)).amin(dim=3)
    return torch.cat([share[:, :, :1], rest], dim=2)


def known_latents(
    vae: VideoEncoder,
    video_BCFHW: Tensor,
    mask_BCFHW: Tensor,
    *,
    whole: bool,
    progress: Progress = silent,
) -> Known | None:
    """The known latents of a video in [-1, 1]; None if there are none.

    Frames after the last known one are not encoded; their latents are zeros. Reports the stage
    "encode".
    """
    share = known_share(mask_BCFHW, whole=whole)
    (used,) = share.amax(dim=(0, 1, 3, 4)).nonzero(as_tuple=True)
    if len(used) == 0:
        return None
    count = int(used[-1]) + 1
    first = video_BCFHW[:, :, : pixel_frames(count)]
    latents = encode_video(vae, first, progress=progress)
    behind = share.shape[2] - count
    return Known(F.pad(latents, (0, 0, 0, 0, 0, behind)), share.to(latents))
