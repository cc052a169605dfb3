"""Fréchet video distance (FVD) between the features of two sets of videos.

Source: Unterthiner et al. 2018, "Towards Accurate Generative Models of Video". The features come
from the commonly used I3D network in `i3d_torchscript.pt` (Skorokhodov et al. 2022, StyleGAN-V),
with its preprocessing.

Shapes: N videos, D features, F frames, H and W height and width.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CheckpointError, InputError
from ..media import check_pixels
from .program import load_program

Array = np.ndarray[Any, Any]

#: Side of the network's input, and the minimum number of frames for its pooling.
I3D_SIDE = 224
I3D_FRAMES = 10


class VideoFeatures:
    """The network in `i3d_torchscript.pt`; `CheckpointError` if it is missing or another one.

    TorchScript is a program: one that does more than compute is rejected, but memory and time are
    not limited.
    """

    def __init__(self, file: Path, device: torch.device) -> None:
        if not file.is_file():
            raise CheckpointError(
                f"{file} is missing; name the I3D TorchScript file (i3d_torchscript.pt)."
            )
        self._network = load_program(file, device).eval()
        self._file = file
        self._device = device

    @torch.inference_mode()
    def __call__(self, frames_FHWC: Tensor) -> Array:
        """Features [D] of a video in [0, 1] with at least 10 frames."""
        check_pixels("The video", frames_FHWC)
        check_length(len(frames_FHWC))
        video_BCFHW = _prepared(frames_FHWC).to(self._device)
        try:
            features = self._network(video_BCFHW, rescale=False, resize=False, return_features=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self._file} is not the I3D network of FVD; it cannot be asked for its features: "
                f"{error}"
            ) from error
        return np.asarray(features.flatten().double().cpu())


def _prepared(frames_FHWC: Tensor) -> Tensor:
    """Convert to [1, 3, F, 224, 224] in [-1, 1]: scale the shorter side, then center-crop.

    Bilinear without antialiasing, as in StyleGAN-V and so in published figures.
    """
    frames_FCHW = frames_FHWC.float().permute(0, 3, 1, 2)
    height, width = frames_FCHW.shape[2:]
    scale = I3D_SIDE / min(height, width)
    size = [
        I3D_SIDE if side == min(height, width) else math.ceil(side * scale)
        for side in (height, width)
    ]
    scaled = F.interpolate(frames_FCHW, size=size, mode="bilinear", align_corners=False)
    top, left = ((side - I3D_SIDE) // 2 for side in size)
    cropped = scaled[:, :, top : top + I3D_SIDE, left : left + I3D_SIDE]
    return cropped.movedim(1, 0)[None] * 2 - 1


def check_length(frames: int) -> None:
    """Raise `InputError` unless a video of `frames` frames is long enough for FVD."""
    if frames < I3D_FRAMES:
        raise InputError(
            f"The video has {frames} frames; FVD needs at least {I3D_FRAMES}. Omit --i3d, or "
            "compare longer videos."
        )


def frechet_video_distance(features_ND: Array, reference_ND: Array) -> float:
    """FVD of two sets of features of at least 2 videos each (thousands, to be meaningful)."""
    for name, features in (("videos", features_ND), ("references", reference_ND)):
        if features.ndim != 2 or len(features) < 2:
            raise InputError(
                f"The features of the {name} have the shape {features.shape}; FVD needs at least 2 "
                "videos on each side."
            )
    return frechet_distance(
        features_ND.mean(0), np.cov(features_ND, rowvar=False),
        reference_ND.mean(0), np.cov(reference_ND, rowvar=False),
    )  # fmt: skip


def frechet_distance(mean: Array, covariance: Array, mean_2: Array, covariance_2: Array) -> float:
    """Squared Fréchet distance between two Gaussians: means [D], covariances [D, D].

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); the trace of the square root is computed from the
    eigenvalues of C1 C2, which avoids the square root of a singular matrix.
    """
    from scipy.linalg import eigvals

    covariance, covariance_2 = np.atleast_2d(covariance), np.atleast_2d(covariance_2)
    # Rounding makes eigenvalues of 0 slightly negative or complex.
    roots = np.sqrt(np.clip(eigvals(covariance @ covariance_2).real, 0, None))
    apart = float(((np.atleast_1d(mean) - np.atleast_1d(mean_2)) ** 2).sum())
    return apart + float(np.trace(covariance) + np.trace(covariance_2) - 2 * roots.sum())
