"""`make-clips`: captioned clips of coloured shapes, with exact ground truth."""

from __future__ import annotations

import argparse
from typing import Any

from .bars import ProgressBars
from .options import path_of, size_of


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "make-clips",
        help="draw captioned clips of shapes for training and evaluation",
        description="Draw clips of coloured shapes that move, change, pass behind each other or "
        "are filmed by a moving camera, and write them with captions and a manifest for training. "
        "The same seed gives the same clips; use another seed for held-out clips.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("output", type=path_of, help="folder to write, new or empty")
    parser.add_argument("--count", type=int, required=True, help="number of clips")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--kind", default="mixed",
                        help="move, change, occlusion or camera; mixed (default) combines them, "
                        "varied has more changes and camera moves")  # fmt: skip
    parser.add_argument("--look", default="textured",
                        help="textured (default), or outlined: black on white")  # fmt: skip
    parser.add_argument("--size", type=size_of, default=(96, 96), metavar="HxW",
                        help="height x width in pixels, default: 96x96")  # fmt: skip
    parser.add_argument("--frames", type=int, default=17, help="default: 17, at 8 per second")
    parser.add_argument("--language", choices=("en", "zh", "both"), default="en",
                        help="language of the captions; both lists every clip twice; "
                        "default: en")  # fmt: skip
    parser.add_argument("--controls", nargs="+", default=[], metavar="NAME",
                        help="also write edges, depth, trajectory, masks (videos), camera (.txt) "
                        "or tracks (.json); the first is used in the manifest")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Draw, and print the paths of the results."""
    from ..shapes.scenes.dataset import ClipSet, write_clips

    both = arguments.language == "both"
    clips = ClipSet(
        count=arguments.count,
        seed=arguments.seed,
        kind=arguments.kind,
        look=arguments.look,
        size=arguments.size,
        frames=arguments.frames,
        languages=("en", "zh") if both else (arguments.language,),
        controls=tuple(arguments.controls),
    )
    with ProgressBars() as bars:
        manifest = write_clips(arguments.output, clips, bars)
    print(manifest)
    print(arguments.output / "contact_sheet.png")
    return 0
