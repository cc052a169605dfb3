"""The inputs of a video in addition to the prompt (images, clips, moves, tracks), and its mode."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .options import flag, path_in, path_of, tracks_of


def add_sources(group: Any) -> None:
    """Add the options for the inputs in addition to the prompt."""
    group.add_argument("--start-image", type=path_of, help="image for the first frame")
    group.add_argument("--end-image", type=path_of, help="image for the last frame")
    group.add_argument(
        "--frame", action="append", default=[], metavar="N=FILE",
        help="image for frame N (0 is the first; the last is --frame=-1=FILE); may be repeated",
    )  # fmt: skip
    group.add_argument("--video", type=path_of, help="clip for video to video or region editing")
    group.add_argument("--strength", type=float, help="fraction of the schedule to run, 0 to 1")
    group.add_argument("--mask", type=path_of, help="image or clip, white = generate")
    group.add_argument("--control", type=path_of, help="control video: edges, poses, depth ...")
    group.add_argument("--camera", action="append", default=[], metavar="MOVE",
                       help="Pan Up, Pan Left, Zoom In, CW ...; repeat to combine")  # fmt: skip
    group.add_argument("--camera-speed", type=float, help="how far --camera goes, default: 1")
    group.add_argument("--camera-timing", choices=("original", "exact"),
                       help="for --camera: original stops one step short of the move's end, exact "
                       "reaches it; default: original")  # fmt: skip
    group.add_argument("--camera-poses", type=path_of, help="CameraCtrl / RealEstate10K text file")
    group.add_argument(
        "--trajectory", type=tracks_of, help="JSON file or text: tracks of {x, y} in pixels"
    )
    group.add_argument(
        "--reference", type=path_of, help="reference image (V5.1 control and camera)"
    )


def task_of(arguments: argparse.Namespace) -> Any:
    """The mode set by the options; raises if they are for two modes."""
    from .. import tasks

    pictures = arguments.start_image or arguments.end_image or arguments.frame
    modes = {
        "image to video": pictures,
        "video to video": arguments.video,
        "control": arguments.control,
        "camera": arguments.camera or arguments.camera_poses,
        "trajectory": arguments.trajectory,
    }
    given = [name for name, value in modes.items() if value]
    if len(given) > 1:
        raise InputError(f"The options are for {' and '.join(given)}; use those of a single mode.")
    mode = given[0] if given else "text to video"
    _refuse_unused(arguments, mode)
    strength = {} if arguments.strength is None else {"strength": arguments.strength}
    if mode == "image to video":
        keyframes = _keyframes(arguments.frame)
        return tasks.ImageToVideo(arguments.start_image, arguments.end_image, keyframes)
    if mode == "video to video" and arguments.mask:
        return tasks.RegionEdit(arguments.video, arguments.mask, **strength)
    if mode == "video to video":
        return tasks.VideoToVideo(arguments.video, **strength)
    if mode == "control":
        return tasks.Control(arguments.control, arguments.reference)
    if mode == "camera":
        return tasks.Camera(
            tuple(arguments.camera),
            1.0 if arguments.camera_speed is None else arguments.camera_speed,
            arguments.camera_poses,
            arguments.reference,
            arguments.camera_timing != "exact",
        )
    if mode == "trajectory":
        return tasks.Trajectory(arguments.trajectory, arguments.reference)
    return tasks.TextToVideo()


def _refuse_unused(arguments: argparse.Namespace, mode: str) -> None:
    needs = {
        "mask": ("video to video",),
        "strength": ("video to video",),
        "reference": ("control", "camera", "trajectory"),
        "camera_speed": ("camera",),
        "camera_timing": ("camera",),
    }
    for option, modes in needs.items():
        if getattr(arguments, option) is not None and mode not in modes:
            raise InputError(
                f"{flag(option)} has no effect on {mode}; it is for {' and '.join(modes)}."
            )


def _keyframes(texts: Sequence[str]) -> dict[int, Path]:
    keyframes: dict[int, Path] = {}
    for text in texts:
        number, _, file = text.partition("=")
        if not number.removeprefix("-").isdecimal() or not file:
            raise InputError(f"--frame {text!r} is not N=FILE, such as 24=middle.png.")
        if int(number) in keyframes:
            raise InputError(f"--frame {number} is given twice; a frame can only have one image.")
        keyframes[int(number)] = path_in(file)
    return keyframes
