"""Converts a clip to a control signal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..media import check_pixels
from ..progress import Progress, silent
from .cache import ResultCache, result_key
from .depth import spread
from .detection import Detection
from .detectors import make_detector
from .fit import fit_for
from .library import check_packages
from .weights import find_weights


def preprocess(
    frames: Tensor,
    detection: Detection,
    *,
    weights: Sequence[Path] = (),
    device: torch.device | str = "cpu",
    size: tuple[int, int] | None = None,
    cache: ResultCache | None = None,
    progress: Progress = silent,
) -> Tensor:
    """The control signal of `frames` [F, H, W, 3] as [F, height, width, 3] in [0, 1].

    `weights` are folders to search before the Hugging Face cache; missing files are reported before
    the first frame. `size` is (height, width), by default the source's. `progress` reports every
    frame as stage "detect". The same frames, detection, size and files give the same result, which
    is taken from `cache` if it is there.
    """
    check_pixels("The clip", frames)
    source = (frames.shape[1], frames.shape[2])
    size = size or source
    if min(size) < 1:
        raise InputError(f"size is {size}; both sides must be at least 1 pixel.")
    fit = fit_for(detection, source, size)
    check_packages(detection.facts)
    files = find_weights(detection.facts, detection.options, weights)
    settings = (detection.kind, sorted(detection.options.items()), fit)
    key = "" if cache is None else result_key(frames, settings, files)
    kept = None if cache is None else cache.get(key)
    if kept is not None:
        progress("detect", len(frames), len(frames))
        return kept
    detector = make_detector(detection, files, torch.device(device), fit.enlarged)
    maps = []
    with torch.inference_mode():
        for index, frame in enumerate(frames):
            maps.append(fit.cut(detector(fit.to_detector(frame))))
            progress("detect", index + 1, len(frames))
    if "near_is_bright" in detection.options:
        maps = spread(maps, detection)
    result = torch.empty(len(frames), *fit.size, 3)
    for target, found in zip(result, maps, strict=True):
        target.copy_(fit.to_result(found))
    if cache is not None:
        cache.put(key, result)
    return result
