"""Motion and temporal consistency of a video: optical flow, warping error, flicker.

Shapes: F frames, H and W height and width, P = F - 1 pairs of adjacent frames. Frames are float
[F, H, W, 3] in [0, 1]; flow is in pixels, x to the right and y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..media import check_pixels, to_bytes

Array = np.ndarray[Any, Any]

#: Rec. 709 luma of RGB.
_LUMA = (0.2126, 0.7152, 0.0722)

# The forward-backward check of Ruder et al. 2016, "Artistic Style Transfer for Videos", eq. 4: a
# pixel is occluded in the other frame if |w + w'|^2 > 0.01 (|w|^2 + |w'|^2) + 0.5.
_RELATIVE, _ABSOLUTE = 0.01, 0.5

#: Smaller sides are too small for the image pyramid of the optical flow.
_LEAST_SIDE = 16


@dataclass(frozen=True)
class Motion:
    """The motion of a video.

    Args:
        warp_error: Mean squared difference between each frame and the next one warped onto it, over
            pixels visible in both; 0 is perfectly consistent. Lai et al. 2018, "Learning Blind
            Video Temporal Consistency", section 4.2, with the flow of the video itself.
        seen: Share of pixels visible in both frames of a pair, 0 to 1.
        pixels: Mean length of the flow in pixels per frame.
        speed: The same in % of the width per second.
    """

    warp_error: float
    seen: float
    pixels: float
    speed: float


def motion(frames_FHWC: Tensor, *, fps: float) -> Motion:
    """Measure the motion of a video with at least 2 frames.

    Raises:
        InputError: The video has only one frame, or sides below 16 pixels.
    """
    check_pixels("The video", frames_FHWC)
    frames, height, width = frames_FHWC.shape[:3]
    if frames < 2 or min(height, width) < _LEAST_SIDE:
        raise InputError(
            f"The video has {frames} frames of {width} x {height}; motion is measured between at "
            f"least 2 frames with sides of at least {_LEAST_SIDE} pixels."
        )
    pixels_FHWC = frames_FHWC.cpu().float().numpy()
    grey_FHW = to_bytes(luma(frames_FHWC))
    squared, seen, lengths = [], [], []
    for index in range(frames - 1):
        forward_HW2 = optical_flow(grey_FHW[index], grey_FHW[index + 1])
        backward_HW2 = optical_flow(grey_FHW[index + 1], grey_FHW[index])
        seen_HW = ~occluded(forward_HW2, backward_HW2)
        warped_HWC = warp(pixels_FHWC[index + 1], forward_HW2)
        difference_HW = ((pixels_FHWC[index] - warped_HWC) ** 2).mean(axis=-1)
        squared.append(float(difference_HW[seen_HW].mean()) if seen_HW.any() else 0.0)
        seen.append(float(seen_HW.mean()))
        lengths.append(float(np.linalg.norm(forward_HW2, axis=-1).mean()))
    length = float(np.mean(lengths))
    return Motion(
        warp_error=float(np.mean(squared)),
        seen=float(np.mean(seen)),
        pixels=length,
        speed=100 * length / width * fps,
    )


def flicker(frames_FHWC: Tensor) -> float:
    """Flicker of the brightness in % of its range, 0 for stills and linear fades.

    The mean of |Y[t-1] - 2 Y[t] + Y[t+1]| / 4 with the mean luma Y of a frame: a brightness that
    alternates by d around its mean gives 100 d. Videos with fewer than 3 frames give 0.
    """
    check_pixels("The video", frames_FHWC)
    mean_F = luma(frames_FHWC).double().mean(dim=(1, 2))
    if len(mean_F) < 3:
        return 0.0
    bend_F = mean_F[:-2] - 2 * mean_F[1:-1] + mean_F[2:]
    return float(bend_F.abs().mean()) * 25


def luma(frames_FHWC: Tensor) -> Tensor:
    """Rec. 709 luma [F, H, W] in [0, 1]."""
    weights = torch.tensor(_LUMA, dtype=torch.float32, device=frames_FHWC.device)
    return (frames_FHWC.float() * weights).sum(-1).clamp(0, 1)


def optical_flow(first_HW: Array, second_HW: Array) -> Array:
    """Optical flow from `first_HW` to `second_HW` (uint8): offsets [H, W, 2] in pixels.

    Dense inverse search, Kroeger et al. 2016, with OpenCV's medium preset.
    """
    import cv2

    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(first_HW, second_HW, None))


def warp(frame_HWC: Array, flow_HW2: Array) -> Array:
    """Sample `frame_HWC` bilinearly at each pixel's position plus `flow_HW2`, repeating borders."""
    import cv2

    height, width = flow_HW2.shape[:2]
    x_HW, y_HW = np.meshgrid(np.arange(width), np.arange(height))
    places_HW2 = np.stack([x_HW, y_HW], axis=-1).astype(np.float32) + flow_HW2
    return np.asarray(
        cv2.remap(
            frame_HWC,
            places_HW2[..., 0],
            places_HW2[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


def occluded(forward_HW2: Array, backward_HW2: Array) -> Array:
    """Pixels [H, W] of the first frame that are not visible in the second.

    They fail the forward-backward check, or move out of the frame.
    """
    height, width = forward_HW2.shape[:2]
    returned_HW2 = warp(backward_HW2, forward_HW2)
    gap_HW = ((forward_HW2 + returned_HW2) ** 2).sum(-1)
    length_HW = (forward_HW2**2).sum(-1) + (returned_HW2**2).sum(-1)
    x_HW = forward_HW2[..., 0] + np.arange(width)
    y_HW = forward_HW2[..., 1] + np.arange(height)[:, None]
    outside_HW = (x_HW < 0) | (x_HW > width - 1) | (y_HW < 0) | (y_HW > height - 1)
    return np.asarray((gap_HW > _RELATIVE * length_HW + _ABSOLUTE) | outside_HW)
