"""Similarity of a video to a reference: PSNR and SSIM.

Shapes: F frames, H and W height and width. Frames are float [F, H, W, 3] in [0, 1].
"""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError
from ..media import check_pixels

#: Upper limit for PSNR in dB, which is infinite for equal videos.
PSNR_CEILING = 100.0

#: Side of SSIM's Gaussian window (sigma 1.5), and so the minimum side of an image.
SSIM_WINDOW = 11


def psnr(frames_FHWC: Tensor, reference_FHWC: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, -10 log10 of the mean squared error of the whole video.

    At most `PSNR_CEILING`. Raises `InputError` if the two differ in size or length.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    check_same_shape(frames_FHWC, reference_FHWC)
    value = peak_signal_noise_ratio(
        frames_FHWC.double(), reference_FHWC.double(), data_range=(0.0, 1.0)
    )
    return min(float(value), PSNR_CEILING)


def psnr_where(frames_FHWC: Tensor, reference_FHWC: Tensor, where_FHW: Tensor) -> float:
    """`psnr` of the pixels selected by a bool mask [F, H, W]; `InputError` if there are none."""
    check_same_shape(frames_FHWC, reference_FHWC)
    if where_FHW.shape != frames_FHWC.shape[:3] or not bool(where_FHW.any()):
        raise InputError(
            f"The mask {tuple(where_FHW.shape)} selects {int(where_FHW.sum())} pixels of the video "
            f"{tuple(frames_FHWC.shape)}; it must have the same size and select at least one."
        )
    pixels = (frames_FHWC[where_FHW], reference_FHWC[where_FHW])
    return psnr(*(part[None, None] for part in pixels))


def ssim(frames_FHWC: Tensor, reference_FHWC: Tensor) -> float:
    """Structural similarity (SSIM), averaged over the frames; 1 if equal.

    Source: Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", with its window of 11 pixels. Raises `InputError` if the two differ in size or
    length, or are smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    check_same_shape(frames_FHWC, reference_FHWC)
    height, width = frames_FHWC.shape[1:3]
    if min(height, width) < SSIM_WINDOW:
        raise InputError(
            f"The video is {width} x {height}; SSIM's window needs sides of at least "
            f"{SSIM_WINDOW} pixels. Compare larger videos."
        )
    value = structural_similarity_index_measure(
        frames_FHWC.permute(0, 3, 1, 2).double(),
        reference_FHWC.permute(0, 3, 1, 2).double(),
        data_range=1.0,
        kernel_size=SSIM_WINDOW,
        sigma=1.5,
    )
    assert isinstance(value, Tensor)
    return float(value)


def check_same_shape(frames_FHWC: Tensor, reference_FHWC: Tensor) -> None:
    """Raise `InputError` unless both are valid videos of the same length and size."""
    check_pixels("The video", frames_FHWC)
    check_pixels("The reference", reference_FHWC)
    if frames_FHWC.shape != reference_FHWC.shape:
        raise InputError(
            f"The video has {_told(frames_FHWC)} and its reference {_told(reference_FHWC)}; they "
            "must match. Make both with the same size and length."
        )


def _told(frames_FHWC: Tensor) -> str:
    frames, height, width = frames_FHWC.shape[:3]
    return f"{frames} frames of {width} x {height}"
