"""`preprocess`: makes a control video or image from a clip or an image."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .bars import ProgressBars
from .options import add_device, add_force, path_of, size_of

if TYPE_CHECKING:
    from ..media import Clip
    from ..preprocess import Detection

_WEIGHTS = Path("models/controlnet_aux")
_ROOM_BYTES = 50_000_000


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "preprocess",
        help="make a control video: edges, lines, poses or depth of a clip",
        description="Make a control video from a clip, or an image from an image. --list shows "
        "the kinds, their options, and which weights are installed. Nothing is downloaded.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("source", type=path_of, nargs="?", help="clip or image")
    parser.add_argument("output", type=path_of, nargs="?", help=".mp4, or .png for an image")
    parser.add_argument("--kind", help="canny, hed, openpose, depth_midas ...; see --list")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                        help="an option of the kind; may be repeated")  # fmt: skip
    parser.add_argument("--resolution", type=_short_side, default=None, metavar="PIXELS",
                        help="short side of the detector's input; default: auto, which is the size "
                        "of the result for lines, and 512 for people and depth")  # fmt: skip
    parser.add_argument("--size", type=size_of, metavar="HxW",
                        help="height x width of the result; default: the source's")  # fmt: skip
    parser.add_argument("--weights", type=path_of, action="append", metavar="DIR",
                        help="folder of weights, searched before the Hugging Face cache; may be "
                        f"repeated; default: {_WEIGHTS.as_posix()}")  # fmt: skip
    add_device(parser)
    parser.add_argument("--list", action="store_true", help="list the kinds and exit")
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make the control video and print its path."""
    folders = arguments.weights or [_WEIGHTS]
    if arguments.list:
        return _list(folders)
    if not (arguments.kind and arguments.source and arguments.output):
        raise InputError("preprocess needs --kind, a source and an output; or --list.")
    from ..media import write_mp4, write_png
    from ..memory.devices import pick_device
    from ..preprocess import Detection, check_packages, find_weights, preprocess

    _check_replaced(arguments)
    detection = Detection(arguments.kind, arguments.resolution, _options(arguments.option))
    check_packages(detection.facts)  # before the clip is read
    find_weights(detection.facts, detection.options, folders)
    clip = _read(arguments.source, detection, arguments.size)
    size = arguments.size or clip.size
    _check_output(arguments.output, size, len(clip.frames))
    started = time.perf_counter()
    with ProgressBars() as bars:
        frames = preprocess(
            clip.frames,
            detection,
            weights=folders,
            device=pick_device(arguments.device),
            size=size,
            progress=bars,
        )
    if arguments.output.suffix.lower() == ".png":
        print(write_png(arguments.output, frames))
    else:
        print(write_mp4(arguments.output, frames, fps=clip.fps))
    print(f"{time.perf_counter() - started:.1f} s")
    return 0


def _list(folders: Sequence[Path]) -> int:
    from ..preprocess import KINDS, locate

    for kind in KINDS.values():
        print(f"{kind.name:<18} {kind.display_name}")
        for option in kind.options:
            limits = " or ".join(option.choices) or f"{option.low:g} to {option.high:g}"
            if isinstance(option.default, bool):
                limits = "true or false"
            default = str(option.default).lower() if limits.startswith("true") else option.default
            print(f"    {option.name}={default}  ({limits}) {option.meaning}")
        for package in kind.packages:
            print(f"    needs the package {package}")
        for file in kind.all_files():
            wanted = f"  (for {file.wanted_by})" if file.wanted_by else ""
            found = locate(file, folders) or f"missing: {file.name} of {file.repo}"
            print(f"    {found}{wanted}")
    return 0


def _short_side(text: str) -> int | None:
    return None if text == "auto" else int(text)


def _options(texts: Sequence[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or name in options:
            raise InputError(f"--option {text!r} is not NAME=VALUE, or its name is given twice.")
        options[name] = value
    return options


def _read(source: Path, detection: Detection, size: tuple[int, int] | None) -> Clip:
    """The clip, at most twice as large as the detector's input."""
    from ..media import read_any
    from ..preprocess.fit import fit_for

    def size_for(found: tuple[int, int]) -> tuple[int, int]:
        height, width = fit_for(detection, found, size or found).scaled
        return min(found, (2 * height, 2 * width))

    clip = read_any(source, size_for=size_for)
    for note in clip.notes:
        print(f"note: {note}")
    return clip


def _check_replaced(arguments: argparse.Namespace) -> None:
    from ..files import Result, check_results
    from ..files.kinds import is_mp4, is_png

    output = arguments.output
    if output.suffix.lower() not in (".mp4", ".png"):
        raise InputError(
            f"{output} ends in {output.suffix!r}; it must end in .mp4, or .png for an image."
        )
    is_picture = output.suffix.lower() == ".png"
    what, is_one = ("PNG picture", is_png) if is_picture else ("MP4 video", is_mp4)
    check_results(
        [Result(output, what, is_one)],
        sources=[arguments.source],
        force=arguments.force,
        room=_ROOM_BYTES,
    )


def _check_output(output: Path, size: tuple[int, int], frames: int) -> None:
    """Raise `InputError` up front if the result would not fit the file format."""
    suffix = output.suffix.lower()
    if suffix == ".png" and frames != 1:
        raise InputError(f"{output} has one frame, but the source has {frames}; use a .mp4.")
    if suffix == ".mp4" and (size[0] % 2 or size[1] % 2):
        height, width = (side // 2 * 2 for side in size)
        raise InputError(
            f"The result would be {size[1]} x {size[0]}; H.264 needs even sides. Use "
            f"--size {height}x{width}."
        )
