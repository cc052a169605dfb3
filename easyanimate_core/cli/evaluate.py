"""`evaluate`: a report of video metrics, with or without references."""

from __future__ import annotations

import argparse
import time
from typing import Any

from .bars import ProgressBars
from .options import add_device, add_force, path_of


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "evaluate",
        help="measure videos: stability, motion, similarity to references and prompts",
        description="Measure videos and write report.json and report.html. Always: warping "
        "error, flicker and motion. With references: PSNR and SSIM. With CLIP and I3D weights: "
        "CLIP score and FVD. Nothing is downloaded.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("videos", type=path_of, help="video or image, or a folder of them")
    parser.add_argument("--against", type=path_of, metavar="REFERENCES",
                        help="folder of references with the same names as the videos, or a file "
                        "for a single video")  # fmt: skip
    parser.add_argument("--prompts", type=path_of, metavar="MANIFEST",
                        help="JSON list of {file_path, text}, for --clip")  # fmt: skip
    parser.add_argument("--clip", type=path_of, metavar="FOLDER",
                        help="folder of a CLIP model in transformers' format, for the CLIP "
                        "score")  # fmt: skip
    parser.add_argument("--i3d", type=path_of, metavar="FILE",
                        help="I3D TorchScript file (i3d_torchscript.pt), for FVD")  # fmt: skip
    parser.add_argument("--out", type=path_of, required=True, metavar="DIR",
                        help="folder for the report")  # fmt: skip
    add_force(parser)
    add_device(parser, "of CLIP and I3D: ")


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print where the report is."""
    from ..evaluation import (
        check_videos_report,
        evaluate_videos,
        find_video_set,
        summary_lines,
        write_videos,
    )
    from ..memory.devices import pick_device

    options = {name: getattr(arguments, name) for name in ("against", "prompts", "clip", "i3d")}
    found = find_video_set(arguments.videos, **options)
    check_videos_report(arguments.out, found, force=arguments.force)
    device = pick_device(arguments.device)
    started = time.perf_counter()
    with ProgressBars() as bars:
        report = evaluate_videos(found, device=device, progress=bars)
    given = {"videos": arguments.videos, **options}
    told = {name: None if value is None else str(value) for name, value in given.items()}
    written = write_videos(arguments.out, report, found, told)
    print(f"{len(found.videos)} videos")
    for line in (*summary_lines(report), *written):
        print(line)
    print(f"{time.perf_counter() - started:.1f} s")
    return 0
