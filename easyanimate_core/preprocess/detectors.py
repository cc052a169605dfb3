"""One callable per kind, from an image, uint8 [H, W, 3], to its map.

A map is uint8 [H, W] or [H, W, 3]; depth is float [H, W], before it is normalized over the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from ..weights.files.pickles import read_pickle
from . import depth, dwpose, pose
from .detection import Detection
from .library import submodule
from .weights import load_into

Array = np.ndarray[Any, Any]
Detector = Callable[[Array], Array]
Files = Mapping[str, Path]


def make_detector(
    detection: Detection, files: Files, device: torch.device, enlarged: float = 1.0
) -> Detector:
    """The detector for `detection` on `device`; `files` maps file names to paths.

    `enlarged` is the factor by which the images were scaled up, which flattens edges.
    """
    if detection.kind in _BY_ARITHMETIC:
        return _BY_ARITHMETIC[detection.kind](detection, enlarged)
    return _MAKERS[detection.kind](detection, files, device)


def _canny(detection: Detection, enlarged: float) -> Detector:
    low, high = (
        float(detection.options[name]) / enlarged for name in ("low_threshold", "high_threshold")
    )

    def find(picture: Array) -> Array:
        import cv2

        return cv2.Canny(picture, low, high)

    return find


def _xdog(detection: Detection, enlarged: float) -> Detector:
    """Extended difference of Gaussians, as in ControlNet's annotators (the library lacks it).

    Draws pixels where a fine blur is darker than a coarse one.
    """
    threshold = int(detection.options["threshold"])
    sigmas = (0.5 * enlarged, 5.0 * enlarged)

    def find(picture: Array) -> Array:
        import cv2

        pixels = picture.astype(np.float32)
        fine, coarse = (cv2.GaussianBlur(pixels, (0, 0), sigma) for sigma in sigmas)
        difference = (255 - np.min(coarse - fine, axis=2)).clip(0, 255).astype(np.uint8)
        drawn = 2 * (255 - difference.astype(np.int32)) > threshold
        return np.where(drawn, 255, 0).astype(np.uint8)

    return find


def _hed(
    detection: Detection, files: Files, device: torch.device, *, scribble: bool = False
) -> Detector:
    del detection
    library = submodule("hed")
    path = files["ControlNetHED.pth"]
    network = load_into(library.ControlNetHED_Apache2, read_pickle(path), path)
    return _called(library.HEDdetector(network.to(device)), scribble=scribble)


def _pidi(detection: Detection, files: Files, device: torch.device) -> Detector:
    del detection
    library = submodule("pidi")
    path = files["table5_pidinet.pth"]
    state = read_pickle(path)
    state = _without_prefix(state.get("state_dict", state))
    network = load_into(library.pidinet, state, path)
    return _called(library.PidiNetDetector(network.to(device)), scribble=True)


def _mlsd(detection: Detection, files: Files, device: torch.device) -> Detector:
    library = submodule("mlsd")
    path = files["mlsd_large_512_fp32.pth"]
    network = load_into(library.MobileV2_MLSD_Large, read_pickle(path), path).to(device)
    score, length = (detection.options[n] for n in ("score_threshold", "length_threshold"))

    def find(picture: Array) -> Array:
        import cv2

        drawn = np.zeros(picture.shape[:2], dtype=np.uint8)
        try:
            lines = library.pred_lines(picture, network, list(picture.shape[:2]), score, length)
        except IndexError:  # no line at all
            return drawn
        for left, top, right, bottom in lines.astype(int).tolist():
            cv2.line(drawn, (left, top), (right, bottom), 255, 1)
        return drawn

    return find


def _lineart_anime(detection: Detection, files: Files, device: torch.device) -> Detector:
    del detection
    library = submodule("lineart_anime")
    path = files["netG.pth"]
    norm = partial(torch.nn.InstanceNorm2d, affine=False, track_running_stats=False)
    build = partial(library.UnetGenerator, 3, 1, 8, 64, norm_layer=norm, use_dropout=False)
    network = load_into(build, _without_prefix(read_pickle(path)), path)
    return _called(library.LineartAnimeDetector(network.to(device)))


def _called(find: Any, **settings: Any) -> Detector:
    """Run a library detector at the image's own size, which it keeps (see `Fit`)."""

    def detect(picture: Array) -> Array:
        side = min(picture.shape[:2])
        sizes = {"detect_resolution": side, "image_resolution": side}
        return find(picture, **sizes, output_type="np", **settings)

    return detect


def _without_prefix(state: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the prefix that DataParallel added to the names."""
    return {name.replace("module.", ""): tensor for name, tensor in state.items()}


_BY_ARITHMETIC: Mapping[str, Callable[[Detection, float], Detector]] = MappingProxyType(
    {"canny": _canny, "scribble_xdog": _xdog}
)
_MAKERS: Mapping[str, Callable[[Detection, Files, torch.device], Detector]] = MappingProxyType(
    {
        "hed": _hed,
        "scribble_hed": partial(_hed, scribble=True),
        "scribble_pidi": _pidi,
        "mlsd": _mlsd,
        "lineart_anime": _lineart_anime,
        "openpose": pose.openpose,
        "dwpose": dwpose.dwpose,
        "depth_midas": depth.midas,
        "depth_zoe": depth.zoe,
        "depth_anything_v2": depth.depth_anything,
    }
)
