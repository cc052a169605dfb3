"""DWPose: whole-body poses by two ONNX networks, YOLOX for people and RTMPose for keypoints.

Pre- and postprocessing follow the training. YOLOX takes BGR in 0 to 255 on a grey square, according
to its maintainers (Megvii-BaseDetection/YOLOX, issue 1492). RTMPose takes normalized RGB of one
person: `bgr_to_rgb=True` in dwpose_config/dwpose-l_384x288.py of IDEA-Research/DWPose, confirmed by
its author in issue 25, although the demo there passes the BGR of cv2.imread. Boxes are (left, top,
right, bottom) in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError
from .detection import Detection
from .library import submodule
from .pose import draw

Array = np.ndarray[Any, Any]

_YOLOX_SIDE = 640
_GREY = 114
_STRIDES = (8, 16, 32)
_LEAST_PERSON, _MOST_OVERLAP = 0.3, 0.45

_POSE_WIDTH, _POSE_HEIGHT = 288, 384
_MARGIN = 1.25
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: Bins per pixel in RTMPose's output.
_BINS = 2
_LEAST_POINT = 0.3

#: OpenPose's 18 joints in COCO-WholeBody's 133 points; the neck (None) is between the shoulders.
_BODY = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
_SHOULDERS = (5, 6)
_FACE, _LEFT_HAND, _RIGHT_HAND = slice(23, 91), slice(91, 112), slice(112, 133)


def dwpose(
    detection: Detection, files: Mapping[str, Path], device: torch.device
) -> Callable[[Array], Array]:
    """Draws people as coloured skeletons with hands and faces."""
    library = submodule("open_pose")
    people = _session(files["yolox_l.onnx"], device)
    points = _session(files["dw-ll_ucoco_384.onnx"], device)

    def detect(picture: Array) -> Array:
        height, width = picture.shape[:2]
        poses = []
        for box in find_people(people, picture):
            places, scores = find_points(points, picture, box)
            poses.append(_pose(library, places / (width, height), scores))
        return draw(library, poses, (height, width), detection)

    return detect


def find_people(session: Any, picture: Array) -> Array:
    """Boxes [n, 4] of the people in an image."""
    import cv2

    height, width = picture.shape[:2]
    ratio = min(_YOLOX_SIDE / height, _YOLOX_SIDE / width)
    small = cv2.resize(picture, (int(width * ratio), int(height * ratio)))
    square = np.full((_YOLOX_SIDE, _YOLOX_SIDE, 3), _GREY, dtype=np.float32)
    square[: small.shape[0], : small.shape[1]] = small[..., ::-1]
    (found,) = _run(session, square.transpose(2, 0, 1)[None])
    boxes, scores = _decoded(found[0])
    likely = scores > _LEAST_PERSON
    boxes, scores = boxes[likely] / ratio, scores[likely]
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), _LEAST_PERSON, _MOST_OVERLAP)
    return boxes[np.array(kept, dtype=int).reshape(-1)]


def _decoded(found: Array) -> tuple[Array, Array]:
    """Decode YOLOX's raw output [n, 85] to boxes [n, 4] and person scores [n]."""
    cells, strides = [], []
    for stride in _STRIDES:
        side = _YOLOX_SIDE // stride
        rows, columns = np.mgrid[:side, :side].reshape(2, -1)
        cells.append(np.stack([columns, rows], axis=1))
        strides.append(np.full((side * side, 1), stride))
    cell, stride_of = np.concatenate(cells), np.concatenate(strides)
    centre = (found[:, :2] + cell) * stride_of
    half = np.exp(found[:, 2:4]) * stride_of / 2
    return np.concatenate([centre - half, centre + half], axis=1), found[:, 4] * found[:, 5]


def find_points(session: Any, picture: Array, box: Array) -> tuple[Array, Array]:
    """A person's keypoints [133, 2] (x, y) in pixels, and their scores [133]."""
    import cv2

    centre, size = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * _MARGIN
    width = max(size[0], size[1] * _POSE_WIDTH / _POSE_HEIGHT)
    size = np.array([width, width * _POSE_HEIGHT / _POSE_WIDTH])
    scale = _POSE_WIDTH / width
    left, top = centre - size / 2
    way = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    person = cv2.warpAffine(picture, way, (_POSE_WIDTH, _POSE_HEIGHT), flags=cv2.INTER_LINEAR)
    pixels = (person - np.array(_MEAN)) / np.array(_STD)
    across, down = (answer[0] for answer in _run(session, pixels.transpose(2, 0, 1)[None]))
    places = np.stack([across.argmax(axis=1), down.argmax(axis=1)], axis=1) / _BINS
    scores = np.minimum(across.max(axis=1), down.max(axis=1))
    return places / scale + (left, top), scores


def _pose(library: Any, places: Array, scores: Array) -> Any:
    """Convert 133 keypoints, relative to the image size, to the library's pose."""

    def point(index: int) -> Any:
        if scores[index] < _LEAST_POINT:
            return None
        return library.Keypoint(float(places[index, 0]), float(places[index, 1]))

    def part(indices: slice) -> list[Any]:
        unseen = library.Keypoint(-1.0, -1.0)
        return [point(index) or unseen for index in range(133)[indices]]

    neck = None
    if min(scores[list(_SHOULDERS)]) >= _LEAST_POINT:
        neck = library.Keypoint(*map(float, places[list(_SHOULDERS)].mean(axis=0)))
    joints = [neck if index is None else point(index) for index in _BODY]
    seen = sum(joint is not None for joint in joints)
    body = library.BodyResult(joints, float(scores.sum()), seen)
    return library.PoseResult(body, part(_LEFT_HAND), part(_RIGHT_HAND), part(_FACE))


def _session(path: Path, device: torch.device) -> Any:
    """Load a network in ONNX Runtime, on the GPU if its build supports that."""
    import onnxruntime

    wanted = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        wanted.insert(0, "CUDAExecutionProvider")
    try:
        return onnxruntime.InferenceSession(str(path), providers=wanted)
    except Exception as error:  # ONNX Runtime's errors have no common base class
        raise CheckpointError(
            f"{path} cannot be loaded by ONNX Runtime: {error}. Download it again."
        ) from error


def _run(session: Any, pixels: Array) -> list[Array]:
    name = session.get_inputs()[0].name
    return session.run(None, {name: np.ascontiguousarray(pixels, dtype=np.float32)})
