"""Detects the cuts of a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...media import read_facts, stream_frames

#: The library's thresholds: mean change of hue, saturation and brightness (0 to 255), and the ratio
#: of the change to that of the neighbouring frames.
THRESHOLDS = {"content": 27.0, "adaptive": 3.0}

# PySceneDetect downscales frames to about this width; its thresholds were chosen for it.
_WIDTH = 256

# Two cuts within this time are a flash, such as lightning or a camera's, not two scenes.
_FLASH_SECONDS = 0.4


@dataclass(frozen=True)
class Detection:
    """A detector of PySceneDetect and its threshold (None: the library's default)."""

    detector: str = "content"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.detector not in THRESHOLDS:
            raise InputError(
                f"The detector {self.detector!r} is unknown. Use {' or '.join(THRESHOLDS)}."
            )
        if self.threshold is not None and not self.threshold > 0:
            raise InputError(f"The threshold is {self.threshold}; it must be above 0.")


@dataclass(frozen=True)
class Cuts:
    """`cuts` are the indices of the frames that start a new scene.

    Frames are counted at the constant rate `fps`; in a video of variable rate, frames are repeated.
    `notes` list the changes made so that it looks as a player shows it.
    """

    frames: int
    fps: float
    height: int
    width: int
    cuts: tuple[int, ...]
    notes: tuple[str, ...] = ()


def find_cuts(video: Path, detection: Detection, *, threads: int = 1) -> Cuts:
    """Find the cuts of a video, to the frame.

    Raises:
        MediaError: The video is damaged.
    """
    import cv2
    from scenedetect import FrameTimecode

    facts = read_facts(video)
    fps = facts.even_fps
    detector = _detector(detection, fps)
    found, number, height, width = [], 0, 0, 0
    for frame in stream_frames(video, threads=threads, fps=fps):
        number, pixels = frame.number, frame.pixels()
        height, width = pixels.shape[:2]
        scale = min(1.0, _WIDTH / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(pixels[..., ::-1], size, interpolation=cv2.INTER_AREA)
        found += detector.process_frame(FrameTimecode(number, fps), small)
    found += detector.post_process(FrameTimecode(number, fps))
    cuts = tuple(sorted({cut.frame_num for cut in found}))
    return Cuts(number + 1, fps, height, width, cuts, facts.even_notes)


def _detector(detection: Detection, fps: float) -> Any:
    from scenedetect import AdaptiveDetector, ContentDetector

    threshold = detection.threshold or THRESHOLDS[detection.detector]
    flash = max(1, round(_FLASH_SECONDS * fps))
    if detection.detector == "content":
        return ContentDetector(threshold=threshold, min_scene_len=flash)
    return AdaptiveDetector(adaptive_threshold=threshold, min_scene_len=flash)
