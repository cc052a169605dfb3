"""`camera`: a camera path from moves, keyframes or a file, as a file and as an image."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import InputError, MediaError, counted, there_are
from ..files import read_text
from .options import add_force, path_of, size_of

_EXAMPLES = """\
examples:
  camera --moves "Zoom In" --frames 49 --out path.txt --preview path.png
  camera --moves "Orbit Left" "Dolly In" --moves "Tilt Up" --easing "ease in-out" --out path.txt
  camera --keyframes keyframes.txt --out path.txt
  camera --poses path.txt --moves CW --frames 97 --out longer.txt

The moves of one --moves happen at the same time; the next --moves follows. With --poses or
--keyframes, the moves come after these, or with --combine at the same time.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "camera",
        help="make a camera path",
        description="Make a camera path for generate --camera-poses, and an image of it.\n\n"
        + _EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--moves", nargs="+", action="append", default=[], metavar="MOVE",
                        help="Zoom In, Orbit Left ...; repeat to append more; an unknown name "
                        "lists all")  # fmt: skip
    parser.add_argument("--poses", type=path_of, help="CameraCtrl / RealEstate10K text file")
    parser.add_argument("--keyframes", type=path_of,
                        help="text file, one line per keyframe: frame, x, y, z, yaw, pitch, roll "
                        "(+x right, +y down, +z forward; degrees)")  # fmt: skip
    parser.add_argument("--frames", type=int,
                        help="frames of the whole path; default: 49, or as given by the other "
                        "options, plus 49 if --moves come after them")  # fmt: skip
    parser.add_argument("--combine", action="store_true",
                        help="combine the moves with --poses or --keyframes")  # fmt: skip
    group = parser.add_argument_group("moves")
    group.add_argument("--speed", type=float, default=1.0, help="how far the moves go, default: 1")
    group.add_argument("--easing", default="linear",
                       help="linear, ease in, ease out or ease in-out")  # fmt: skip
    group.add_argument("--distance", type=float, default=3.0,
                       help="distance of the point to orbit around, default: 3")  # fmt: skip
    group.add_argument("--timing", choices=("exact", "original"), default="exact",
                       help="exact reaches the end, original stops one step short")  # fmt: skip
    group = parser.add_argument_group("lens of moves and keyframes")
    group.add_argument("--field-of-view", type=float, metavar="DEGREES",
                       help="horizontal, for --size; default: the original's lens")  # fmt: skip
    group.add_argument("--size", type=size_of, default=(384, 672), metavar="HxW",
                       help="height x width of the result, default: 384x672")  # fmt: skip
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=path_of, help="text file; default: print the text")
    group.add_argument("--preview", type=path_of, help="image of the path, .png")
    add_force(group)


def run(arguments: argparse.Namespace) -> int:
    """Make the path, write the outputs and print their paths."""
    from ..files import Together
    from ..media import write_png
    from ..paths.camera import to_cameractrl_text, write_camera_file
    from ..paths.previews import camera_preview

    if arguments.preview is not None and arguments.preview.suffix.lower() != ".png":
        raise InputError(f"--preview is {arguments.preview}; it must end in .png.")
    _check_outputs(arguments)
    path = _path(arguments)
    written = []
    with Together() as together:
        if arguments.out is not None:
            written.append(together.write(write_camera_file, arguments.out, path))
        if arguments.preview is not None:
            picture = camera_preview(path)[0]
            written.append(together.write(write_png, arguments.preview, picture))
    for file in written:
        print(file)
    if not written:
        print(to_cameractrl_text(path), end="")
    return 0


def _check_outputs(arguments: argparse.Namespace) -> None:
    from ..files import Result, check_results
    from ..files.kinds import is_png
    from ..paths.camera import is_camera_file

    results = []
    if arguments.out is not None:
        results.append(Result(arguments.out, "camera path", is_camera_file))
    if arguments.preview is not None:
        results.append(Result(arguments.preview, "PNG picture", is_png))
    read = [path for path in (arguments.poses, arguments.keyframes) if path is not None]
    check_results(results, sources=read, force=arguments.force)


def _path(arguments: argparse.Namespace) -> Any:
    """The path that the options describe."""
    from ..paths.moves import combine_paths, continue_path

    given = _given(arguments)
    if given is None and not arguments.moves:
        raise InputError("camera needs --moves, --keyframes or --poses.")
    if arguments.combine and (given is None or not arguments.moves):
        raise InputError(
            "--combine needs --moves, and --keyframes or --poses to combine them with."
        )
    if given is None:
        return _moved(arguments, 49 if arguments.frames is None else arguments.frames)
    if not arguments.moves:
        if arguments.frames is not None and arguments.frames != len(given):
            return given.first(arguments.frames)
        return given
    if arguments.combine:
        return combine_paths(given, _moved(arguments, arguments.frames or len(given)))
    frames = len(given) + 48 if arguments.frames is None else arguments.frames
    if frames <= len(given):
        raise InputError(
            f"--frames is {frames}, but {there_are(len(given), 'pose')} before the moves. Use more "
            "frames, or --combine."
        )
    return continue_path(given, _moved(arguments, frames - len(given) + 1))


def _given(arguments: argparse.Namespace) -> Any:
    """The path of --poses or --keyframes, or None."""
    from ..paths.camera import read_camera_file
    from ..paths.keyframes import keyframe_path, keyframes_from_text

    if arguments.poses is not None and arguments.keyframes is not None:
        raise InputError("--poses and --keyframes cannot be combined; use one of them.")
    if arguments.poses is not None:
        return read_camera_file(arguments.poses)
    if arguments.keyframes is None:
        return None
    text = read_text(arguments.keyframes, error=MediaError)
    frames = None if arguments.moves else arguments.frames
    return keyframe_path(keyframes_from_text(text), frames=frames, intrinsics=_lens(arguments))


def _moved(arguments: argparse.Namespace, frames: int) -> Any:
    """The parts of --moves one after the other, with `frames` in total."""
    from ..paths.moves import joined, preset_path

    parts = len(arguments.moves)
    if frames < parts + 1 and parts > 1:
        raise InputError(
            f"{counted(frames, 'frame')} cannot show {parts} consecutive parts: at least "
            f"{parts + 1} are needed."
        )
    steps, left = divmod(frames - 1, parts)
    return joined(
        [
            preset_path(
                moves,
                frames=steps + (number < left) + 1,
                speed=arguments.speed,
                easing=arguments.easing,
                exact=arguments.timing == "exact",
                distance=arguments.distance,
                intrinsics=_lens(arguments),
            )
            for number, moves in enumerate(arguments.moves)
        ]
    )


def _lens(arguments: argparse.Namespace) -> Any:
    from ..paths.camera import Intrinsics

    if arguments.field_of_view is None:
        return Intrinsics()
    height, width = arguments.size
    return Intrinsics.of_view(arguments.field_of_view, height=height, width=width)
