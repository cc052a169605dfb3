"""Judges whether a clip shows what was requested, by comparing its scene with what is detected.

Shape letters: F frames, H and W pixels. Clips are float [F, H, W, 3] in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...evaluation.metrics import check_same_shape, psnr, psnr_where
from ..scenes import COLOURS, Scene, control_video, render, tracks_of
from ..scenes.scene import DIRECTIONS, PANS
from .segment import grown
from .tracking import STILL_GROWTH, Observation, ObservedBody, observe

Array = np.ndarray[Any, Any]

#: The tasks, in the order of reports.
TASKS = (
    "text", "start", "start_end", "region", "control", "reference", "camera", "trajectory",
)  # fmt: skip

#: Margin in pixels between a body's path and the border of the edited region.
REGION_MARGIN = 4

# Colour differences (CIE 1976) up to this count as the same colour; the world's colours are at
# least three times as far apart.
_SAME_COLOUR = 20.0

# Tolerance for following a track: mean distance in % of the width.
_ON_TRACK = 10.0


@dataclass(frozen=True)
class Labels:
    """A clip in words, as requested or as detected. "none" if no body is visible."""

    colour: str
    shape: str
    motion: str
    size: str
    tint: str


@dataclass(frozen=True)
class Sample:
    """A clip generated for a scene.

    Args:
        task: One of `TASKS`.
        scene: The requested scene.
        frames: The generated frames.
        reconstruction: The VAE's reconstruction of the source clip, for "start", "start_end" and
            "region"; None compares with the source pixels only.
        source: The scene of the clip in which a region was edited.
    """

    task: str
    scene: Scene
    frames: Tensor
    reconstruction: Tensor | None = None
    source: Scene | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"The task is {self.task!r}; it must be one of {', '.join(TASKS)}.")
        if (self.task == "region") != (self.source is not None):
            raise InputError(
                f"A sample of {self.task!r} has {'a' if self.source else 'no'} source; a region's "
                "has one, and no other."
            )
        expected = torch.empty(self.scene.frames, self.scene.height, self.scene.width, 3)
        if self.frames.shape != expected.shape:
            check_same_shape(self.frames, expected.zero_())


@dataclass(frozen=True)
class Verdict:
    """The judgement of a clip.

    Args:
        asked: The requested scene in words.
        seen: The detected clip in words.
        checks: Name -> whether it matches: "colour", "shape", "motion", those of the task, and
            "all" of these. "size" and "tint" are reported but not counted in "all".
        measures: Name -> number, in the unit that the name states.
        confidence: That of the main body, 0 to 1.
    """

    asked: Labels
    seen: Labels
    checks: dict[str, bool]
    measures: dict[str, float]
    confidence: float


def judge(sample: Sample) -> Verdict:
    """Analyze a clip and compare it with its scene."""
    seen = observe(sample.frames)
    asked, found = asked_labels(sample.scene), seen_labels(seen)
    of_task, measures = _JUDGES[sample.task](sample, seen)
    counted = same_labels(asked, found) | of_task
    checks = counted | {"all": all(counted.values())}
    checks |= {"size": asked.size == found.size, "tint": asked.tint == found.tint}
    confidence = 0.0 if seen.main is None else seen.main.confidence
    return Verdict(asked, found, checks, measures, confidence)


def asked_labels(scene: Scene) -> Labels:
    """The labels of a scene, as in its caption."""
    main = scene.main
    motion = scene.motion if scene.camera == "Static" else scene.camera
    return Labels(main.colour, main.shape, motion, main.size, scene.ground.tint)


def seen_labels(observation: Observation) -> Labels:
    """The labels of a detected clip."""
    main = observation.main
    if main is None:
        return Labels("none", "none", observation.motion, "none", observation.tint)
    return Labels(main.colour, main.shape, observation.motion, main.size, observation.tint)


def same_labels(asked: Labels, seen: Labels) -> dict[str, bool]:
    """Whether colour, shape and motion match."""
    return {
        name: getattr(asked, name) == getattr(seen, name) for name in ("colour", "shape", "motion")
    }


def recoloured(scene: Scene) -> Scene:
    """The scene with the main body in the next colour: the target of a region edit."""
    names = list(COLOURS)
    used = {body.colour for body in scene.bodies}
    first = names.index(scene.main.colour)
    around = names[first + 1 :] + names[:first]
    colour = next(name for name in around if name not in used)
    return replace(scene, bodies=(replace(scene.main, colour=colour), *scene.bodies[1:]))


def edited_region(scene: Scene) -> Tensor:
    """Mask [F, H, W], 1 in the bounding box of the main body's path: the edited region."""
    masks_FHW = render(scene).masks
    rows, columns = (np.flatnonzero(masks_FHW.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    mask = torch.zeros(scene.frames, scene.height, scene.width)
    top, left = max(rows[0] - REGION_MARGIN, 0), max(columns[0] - REGION_MARGIN, 0)
    mask[:, top : rows[-1] + 1 + REGION_MARGIN, left : columns[-1] + 1 + REGION_MARGIN] = 1
    return mask


def clip_of(scene: Scene) -> Tensor:
    """The rendered scene [F, H, W, 3] in [0, 1]: the expected clip."""
    return torch.from_numpy(render(scene).frames).float() / 255


_Judged = tuple[dict[str, bool], dict[str, float]]


def _judge_text(sample: Sample, seen: Observation) -> _Judged:  # noqa: ARG001
    return {}, {}


def _judge_start(sample: Sample, seen: Observation) -> _Judged:  # noqa: ARG001
    """Similarity of the first frame to the start image, and to its VAE reconstruction."""
    return {}, _known_frames(sample, {"first": 0})


def _judge_start_end(sample: Sample, seen: Observation) -> _Judged:  # noqa: ARG001
    return {}, _known_frames(sample, {"first": 0, "last": -1})


def _known_frames(sample: Sample, places: dict[str, int]) -> dict[str, float]:
    truth, measures = clip_of(sample.scene), {}
    for name, place in places.items():
        made, wanted = sample.frames[place][None], truth[place][None]
        measures[f"{name}_psnr_db"] = psnr(made, wanted)
        if sample.reconstruction is not None:
            shown = sample.reconstruction[place][None]
            measures[f"{name}_psnr_of_reconstruction_db"] = psnr(made, shown)
            below = psnr(shown, wanted) - measures[f"{name}_psnr_db"]
            measures[f"{name}_below_reconstruction_db"] = below
    return measures


def _judge_region(sample: Sample, seen: Observation) -> _Judged:  # noqa: ARG001
    """Whether the pixels outside the region are kept, and those inside change."""
    assert sample.source is not None
    source = clip_of(sample.source)
    inside = edited_region(sample.source) > 0.5
    measures = {
        "inside_psnr_of_wanted_db": psnr_where(sample.frames, clip_of(sample.scene), inside)
    }
    if bool(inside.all()):
        return {}, measures
    measures["outside_psnr_db"] = psnr_where(sample.frames, source, ~inside)
    shown = sample.reconstruction
    if shown is not None:
        of_shown = psnr_where(sample.frames, shown, ~inside)
        below = psnr_where(shown, source, ~inside) - measures["outside_psnr_db"]
        measures["outside_psnr_of_reconstruction_db"] = of_shown
        measures["outside_below_reconstruction_db"] = below
    return {}, measures


def _judge_control(sample: Sample, seen: Observation) -> _Judged:
    """Compare the outlines of detected bodies with those in the control video."""
    asked_FHW = control_video(sample.scene, "edges")[..., 0] > 0.5
    made_FHW = _outlines(seen.bodies, asked_FHW.shape)
    precision = _share_near(made_FHW, asked_FHW)
    recall = _share_near(asked_FHW, made_FHW)
    score = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {}, {"edge_precision": precision, "edge_recall": recall, "edge_f1": score}


def _judge_reference(sample: Sample, seen: Observation) -> _Judged:
    """Compare the colours of body and ground with the reference, as CIE 1976 differences."""
    reference = observe(clip_of(sample.scene)[:1].expand(2, -1, -1, -1))
    checks, measures = _judge_control(sample, seen)
    ground = float(np.linalg.norm(seen.ground_lab - reference.ground_lab))
    measures["ground_colour_difference"] = ground
    checks["reference_colours"] = ground <= _SAME_COLOUR
    if seen.main is None or reference.main is None:
        return checks | {"reference_colours": False}, measures
    body = float(np.linalg.norm(seen.main.lab - reference.main.lab))
    measures["body_colour_difference"] = body
    checks["reference_colours"] &= body <= _SAME_COLOUR
    return checks, measures


def _judge_camera(sample: Sample, seen: Observation) -> _Judged:
    """Motion of the content: the body's displacement or growth, relative to the camera path's."""
    main, move = seen.main, sample.scene.camera
    if main is None:
        return {"content": False}, {}
    wanted = _true_body(sample.scene)
    if move in PANS:
        step = DIRECTIONS[PANS[move]]
        made, asked = (float(np.dot(step, body.way)) for body in (main, wanted))
        side = sample.scene.width if step[0] else sample.scene.height
        straight = abs(made) >= abs(float(np.dot(step[::-1], np.abs(main.way))))
        is_right = made >= 0.1 * side and straight
    else:
        made, asked = math.log(main.growth), math.log(wanted.growth)
        is_right = made / asked > 0 and abs(made) >= math.log(STILL_GROWTH)
    return {"content": is_right}, {"content_of_asked_motion": made / asked}


def _true_body(scene: Scene) -> ObservedBody:
    main = observe(clip_of(scene)).main
    assert main is not None
    return main


def _judge_trajectory(sample: Sample, seen: Observation) -> _Judged:
    """Distance of the main body from its track; a frame without it counts as a full width."""
    tracks = tracks_of(sample.scene)
    if not tracks:
        raise InputError(
            f"Scene {sample.scene.index} of the kind {sample.scene.kind!r} has no track; judge "
            "trajectories on scenes of the kind 'move'."
        )
    asked_F2 = np.array(tracks[0].points)
    away_F = np.full(sample.scene.frames, np.nan)
    if seen.main is not None:
        away_F = np.linalg.norm(seen.main.centres_F2 - asked_F2, axis=-1) / sample.scene.width
    away_F = 100 * np.where(np.isfinite(away_F), away_F, 1.0)
    mean = float(away_F.mean())
    measures = {"track_mean_percent": mean, "track_most_percent": float(away_F.max())}
    return {"on_track": mean <= _ON_TRACK}, measures


_JUDGES: dict[str, Callable[[Sample, Observation], _Judged]] = {
    "text": _judge_text,
    "start": _judge_start,
    "start_end": _judge_start_end,
    "region": _judge_region,
    "control": _judge_control,
    "reference": _judge_reference,
    "camera": _judge_camera,
    "trajectory": _judge_trajectory,
}


def _outlines(bodies: Sequence[ObservedBody], shape: tuple[int, ...]) -> Array:
    """Outlines of the visible parts of each body, 2 pixels wide: [F, H, W]."""
    drawn = np.zeros(shape, bool)
    for body in bodies:
        drawn |= np.stack([grown(cover, 1) & ~grown(cover, -1) for cover in body.cover_FHW > 0.5])
    return drawn


def _share_near(these_FHW: Array, those_FHW: Array) -> float:
    """The share of `these` pixels with one of `those` in their 3 x 3 neighbourhood."""
    import cv2

    total = int(these_FHW.sum())
    square = np.ones((3, 3), np.uint8)
    near = [cv2.dilate(those.astype(np.uint8), square) > 0 for those in those_FHW]
    return int((these_FHW & np.stack(near)).sum()) / total if total else 0.0
