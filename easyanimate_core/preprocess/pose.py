"""OpenPose, and drawing of poses as coloured skeletons."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..weights.files.pickles import read_pickle
from .detection import Detection
from .library import submodule
from .weights import load_into

Array = np.ndarray[Any, Any]

#: Pairs of hand keypoints joined by a line: the wrist (0) and four joints per finger.
_FINGERS = [
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1)
    for finger in range(5)
    for joint in range(4)
]


def openpose(
    detection: Detection, files: Mapping[str, Path], device: torch.device
) -> Callable[[Array], Array]:
    """CMU's OpenPose, from controlnet-aux."""
    library = submodule("open_pose")
    find = library.OpenposeDetector(
        _part("body", "Body", "bodypose_model", files["body_pose_model.pth"], device),
        _part("hand", "Hand", "handpose_model", files.get("hand_pose_model.pth"), device),
        _part("face", "Face", "FaceNet", files.get("facenet.pth"), device),
    )
    wanted = detection.options

    def detect(picture: Array) -> Array:
        poses = find.detect_poses(picture, bool(wanted["hand"]), bool(wanted["face"]))
        return draw(library, poses, picture.shape[:2], detection)

    return detect


def draw(library: Any, poses: Sequence[Any], size: tuple[int, ...], detection: Detection) -> Array:
    """Draw the library's poses on black, with the parts selected in `detection`."""
    wanted = detection.options
    drawn = library.draw_poses(
        poses, *size, draw_body=wanted["body"], draw_hand=False, draw_face=wanted["face"]
    )
    for hand in [hand for pose in poses for hand in (pose.left_hand, pose.right_hand)]:
        if wanted["hand"] and hand is not None:
            draw_hand(drawn, [(point.x, point.y) for point in hand])
    return drawn


def _part(file: str, name: str, network: str, path: Path | None, device: torch.device) -> Any:
    """Body, Hand or Face with its network; None without a `path`.

    The object is created without its `__init__`, which would unpickle the file.
    """
    if path is None:
        return None
    library = submodule(f"open_pose.{file}")
    models = library if name == "Face" else submodule("open_pose.model")
    build, state = getattr(models, network), read_pickle(path)
    if name != "Face":  # the file lacks the names' prefix ("model0.")
        with torch.device("meta"):
            names = {key.split(".", 1)[1]: key for key in build().state_dict()}
        state = {names.get(key, key): tensor for key, tensor in state.items()}
    part = getattr(library, name).__new__(getattr(library, name))
    part.model = load_into(build, state, path).to(device)
    return part


def draw_hand(drawn: Array, points: Sequence[tuple[float, float]]) -> None:
    """Draw a hand of 21 keypoints relative to the image size; negative ones were not found."""
    import cv2

    height, width = drawn.shape[:2]
    places = [(int(x * width), int(y * height)) if min(x, y) > 0 else None for x, y in points]
    for index, (first, second) in enumerate(_FINGERS):
        start, end = places[first], places[second]
        if start and end:
            colour = colorsys.hsv_to_rgb(index / len(_FINGERS), 1.0, 1.0)
            cv2.line(drawn, start, end, [round(255 * part) for part in colour], thickness=2)
    for place in places:
        if place:
            cv2.circle(drawn, place, 4, (0, 0, 255), thickness=-1)
