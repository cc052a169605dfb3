"""How much of an image is covered by text, if an OCR package is installed."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .files import DataFile
from .pixels import sample_frames

#: What it imports. The networks come with the first.
PACKAGES = ("rapidocr", "onnxruntime")

#: Must change whenever values would.
DEFINITION = "rapidocr 1"

_FRAMES = 3


def measure_writing(data: DataFile) -> dict[str, float]:
    """`text`: the share of the image covered by text, in the frame with the most."""
    return {"text": max(text_share(frame) for frame in sample_frames(data, _FRAMES))}


def text_share(frame: np.ndarray[Any, Any]) -> float:
    """The share of `frame`, uint8 RGB [H, W, 3], inside boxes around text, 0 to 1."""
    import cv2

    found = _engine()(frame[..., ::-1], use_det=True, use_cls=False, use_rec=False)
    covered = np.zeros(frame.shape[:2], np.uint8)
    for box in [] if found.boxes is None else found.boxes:
        cv2.fillPoly(covered, [np.round(box).astype(np.int32)], 1)
    return float(covered.mean())


@functools.cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    threads = {"EngineConfig.onnxruntime.intra_op_num_threads": 1, "Global.log_level": "error"}
    return RapidOCR(params=threads)
