"""Depth networks, and the conversion of a clip's depth values to grey levels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CheckpointError
from ..weights.files.foreign import load_foreign
from ..weights.files.pickles import read_pickle
from .detection import Detection
from .library import submodule
from .weights import load_into

Array = np.ndarray[Any, Any]

_HALF = (0.5, 0.5, 0.5)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Metric depth has extreme outliers, such as the sky: controlnet-aux clips at these percentiles.
_METRIC_RANGE = (2, 85)


def midas(
    detection: Detection, files: Mapping[str, Path], device: torch.device
) -> Callable[[Array], Array]:
    """MiDaS 3 DPT-Hybrid: inverse depth up to scale and shift."""
    del detection
    (path,) = files.values()
    library = submodule("midas.midas.dpt_depth")
    state = read_pickle(path)
    state = state["model"] if "optimizer" in state else state
    build = partial(library.DPTDepthModel, path=None, backbone="vitb_rn50_384", non_negative=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm renamed the backbone and maps the old name
        network = load_into(build, state, path).to(device)

    def find(picture: Array) -> Array:
        return _numbers(network(_normalised(picture, device, _HALF, _HALF))[0])

    return find


def zoe(
    detection: Detection, files: Mapping[str, Path], device: torch.device
) -> Callable[[Array], Array]:
    """ZoeDepth: metric depth, negated so that near is large."""
    del detection
    network = _from_transformers(files, device)

    def find(picture: Array) -> Array:
        pixels = _normalised(picture, device, _HALF, _HALF)
        metres = network(pixel_values=pixels).predicted_depth
        return -_numbers(_resized(metres, picture.shape[:2]))

    return find


def depth_anything(
    detection: Detection, files: Mapping[str, Path], device: torch.device
) -> Callable[[Array], Array]:
    """Depth Anything V2: inverse depth up to scale and shift."""
    del detection
    network = _from_transformers(files, device)

    def find(picture: Array) -> Array:
        pixels = _normalised(picture, device, _IMAGENET_MEAN, _IMAGENET_STD)
        nearness = network(pixel_values=pixels).predicted_depth
        return _numbers(_resized(nearness, picture.shape[:2]))

    return find


def spread(maps: Sequence[Array], detection: Detection) -> list[Array]:
    """Convert the depth maps [H, W] of a clip to grey levels, normalized over the whole clip.

    The library normalizes each image separately, which makes clips flicker: an object that comes
    near darkens everything else.
    """
    numbers = np.stack(maps)
    if detection.kind == "depth_zoe":
        low, high = np.percentile(numbers, [100 - share for share in reversed(_METRIC_RANGE)])
    else:
        low, high = numbers.min(), numbers.max()
    levels = ((numbers - low) / max(float(high - low), 1e-6)).clip(0, 1)
    if not detection.options["near_is_bright"]:
        levels = 1 - levels
    return list(np.rint(levels * 255).astype(np.uint8))


def _from_transformers(files: Mapping[str, Path], device: torch.device) -> Any:
    """Load the network from a folder with config.json and model.safetensors."""
    from transformers import AutoModelForDepthEstimation

    folder = files["config.json"].parent
    if files["model.safetensors"].parent != folder:
        raise CheckpointError(
            f"{files['config.json']} and {files['model.safetensors']} are in different folders; "
            "put both into one folder."
        )
    network, report = load_foreign(
        AutoModelForDepthEstimation,
        folder,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    lacking = sorted(map(str, report["missing_keys"]))
    if lacking:
        raise CheckpointError(
            f"{folder} lacks {len(lacking)} tensors of its network, such as {lacking[0]}. "
            "Download it again."
        )
    return network.eval().requires_grad_(requires_grad=False).to(device)


def _normalised(
    picture: Array, device: torch.device, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """Convert uint8 [H, W, 3] to [1, 3, H, W] in the network's range."""
    pixels = torch.from_numpy(picture.copy()).to(device, torch.float32).div_(255)
    pixels = (pixels - pixels.new_tensor(mean)) / pixels.new_tensor(std)
    return pixels.movedim(-1, 0)[None]


def _resized(numbers: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize [1, h, w] to [height, width]."""
    return F.interpolate(numbers[:, None], size=tuple(size), mode="bilinear")[0, 0]


def _numbers(found: Tensor) -> Array:
    return found.float().cpu().numpy()
