"""`trajectory`: tracks as the control video that the model sees, and as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError
from .generate import size_of


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "trajectory",
        help="draw tracks",
        description="Draw tracks as the control video that generate --trajectory shows the model, "
        "and as lines over a picture. A track is a list of points, or an object: "
        '[[{"x": 40, "y": 60}, {"x": 300, "y": 60}], {"points": [{"x": 9, "y": 9, "t": 0, '
        '"visible": true}, ...], "spline": true, "size": 1.0}].',
    )
    parser.set_defaults(run=run)
    parser.add_argument("tracks", help="JSON file or text")
    parser.add_argument("output", type=Path, help="video to write, .mp4")
    parser.add_argument("--size", type=size_of, default=(384, 672), metavar="HxW",
                        help="height x width in pixels, default: 384x672")  # fmt: skip
    parser.add_argument("--frames", type=int, default=49, help="default: 49")
    parser.add_argument("--fps", type=float, default=8.0, help="default: 8")
    parser.add_argument("--preview", type=Path, help="picture of the tracks, .png")
    parser.add_argument("--image", type=Path, help="first frame, under the tracks of --preview")


def run(arguments: argparse.Namespace) -> int:
    """Draw, and say where it is."""
    from ..conditioning.track_preview import track_preview
    from ..conditioning.trajectory import heatmap_frames, read_tracks, resample
    from ..media import read_image, write_mp4, write_png

    if arguments.output.suffix != ".mp4":
        raise InputError(f"The output is {arguments.output}; it must end in .mp4.")
    if arguments.preview is None and arguments.image is not None:
        raise InputError("--image has no effect without --preview.")
    if arguments.preview is not None and arguments.preview.suffix != ".png":
        raise InputError(f"--preview is {arguments.preview}; it must end in .png.")
    height, width = arguments.size
    tracks = read_tracks(arguments.tracks)
    drawn = [resample(track, arguments.frames) for track in tracks]
    video = heatmap_frames(drawn, height=height, width=width)
    image = None if arguments.image is None else read_image(arguments.image)
    print(write_mp4(arguments.output, video, fps=arguments.fps))
    if arguments.preview is not None:
        picture = track_preview(
            tracks, height=height, width=width, frames=arguments.frames, image=image
        )
        print(write_png(arguments.preview, picture[0]))
    return 0
