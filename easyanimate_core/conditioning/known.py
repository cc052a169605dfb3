"""Known pixels that stay: latents of a source that sampling returns to at every step.

The model is shown what is known and may still drift from it. Training noised the latents of the
whole clip, so keeping the known ones ties sampling to what the model has seen.

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
    """Scaled `latents` [1, C, F, H, W], and what share of each is known, [1, 1, F, H, W]."""

    latents: Tensor
    share: Tensor

    def to(self, device: torch.device) -> Known:
        """The same on a device."""
        return Known(self.latents.to(device), self.share.to(device))


def known_share(mask_BCFHW: Tensor, *, whole: bool) -> Tensor:
    """How much of each latent is known, 0 to 1: [1, 1, F, H, W] in latent size.

    A share of the area, in the frame of the latent's four that is known least.

    Args:
        mask_BCFHW: 1 where the model generates, [1, 1, F, H, W].
        whole: Whether the video has true pixels under the mask, too. Where it has none, latents
            behind the first such frame cannot be kept: the VAE sees the past.
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
    """What is known of a video in [-1, 1], as latents; None where no latent is.

    Frames behind the last known ones are not encoded; their latents are zeros. Reports the stage
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
