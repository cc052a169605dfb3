"""`trajectory`: draws tracks as the control video that the model sees, and as an image."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import InputError
from .options import add_force, path_of, size_of, tracks_of


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "trajectory",
        help="draw tracks",
        description="Draw tracks as the control video that generate --trajectory shows the model, "
        "and as lines over an image. A track is a list of points, or an object: "
        '[[{"x": 40, "y": 60}, {"x": 300, "y": 60}], {"points": [{"x": 9, "y": 9, "t": 0, '
        '"visible": true}, ...], "spline": true, "size": 1.0}].',
    )
    parser.set_defaults(run=run)
    parser.add_argument("tracks", type=tracks_of, help="JSON file or text")
    parser.add_argument("output", type=path_of, help="video to write, .mp4")
    parser.add_argument("--size", type=size_of, default=(384, 672), metavar="HxW",
                        help="height x width in pixels, default: 384x672")  # fmt: skip
    parser.add_argument("--frames", type=int, default=49, help="default: 49")
    parser.add_argument("--fps", type=float, default=8.0, help="default: 8")
    parser.add_argument("--preview", type=path_of, help="image of the tracks, .png")
    parser.add_argument("--image", type=path_of, help="background of --preview: the first frame")
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw, and print the paths of the results."""
    from ..files import Together
    from ..media import read_image, write_mp4, write_png
    from ..paths.previews import track_preview
    from ..paths.trajectory import heatmap_frames, read_tracks, resample

    if arguments.output.suffix.lower() != ".mp4":
        raise InputError(f"The output is {arguments.output}; it must end in .mp4.")
    if arguments.preview is None and arguments.image is not None:
        raise InputError("--image has no effect without --preview.")
    if arguments.preview is not None and arguments.preview.suffix.lower() != ".png":
        raise InputError(f"--preview is {arguments.preview}; it must end in .png.")
    _check_outputs(arguments)
    height, width = arguments.size
    tracks = read_tracks(arguments.tracks)
    drawn = [resample(track, arguments.frames) for track in tracks]
    video = heatmap_frames(drawn, height=height, width=width)
    image = None if arguments.image is None else read_image(arguments.image)
    with Together() as together:
        written = [together.write(write_mp4, arguments.output, video, fps=arguments.fps)]
        if arguments.preview is not None:
            picture = track_preview(
                tracks, height=height, width=width, frames=arguments.frames, image=image
            )
            written.append(together.write(write_png, arguments.preview, picture[0]))
    for file in written:
        print(file)
    return 0


def _check_outputs(arguments: argparse.Namespace) -> None:
    from ..files import Result, check_results
    from ..files.kinds import is_mp4, is_png

    results = [Result(arguments.output, "MP4 video", is_mp4)]
    if arguments.preview is not None:
        results.append(Result(arguments.preview, "PNG picture", is_png))
    read = [] if arguments.tracks.lstrip().startswith("[") else [arguments.tracks]
    read += [arguments.image] if arguments.image is not None else []
    check_results(results, sources=read, force=arguments.force)
