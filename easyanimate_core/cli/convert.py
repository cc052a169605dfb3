"""`convert`: a checkpoint, or one part of it, in another dtype, layout or file format."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from typing import Any

from .bars import ProgressBars
from .options import add_force, checkpoint_of, path_of

_UNITS = {"": 1, "MB": 10**6, "GB": 10**9}
_DTYPES = (
    "keep", "bf16", "fp16", "fp32", "fp8", "fp8-channel", "int8",
    "q8_0", "q5_1", "q5_0", "q4_1", "q4_0",
)  # fmt: skip


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "convert",
        help="write a checkpoint in another dtype, layout or file format",
        description="Write a checkpoint, or one part of it, in another dtype, layout or file "
        "format, tensor by tensor, and report the error.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "source",
        type=checkpoint_of,
        help="checkpoint folder, built-in model, folder of one part, a .safetensors or .gguf "
        "file, or a pickle of plain tensors (.bin, .pt, .pth, .ckpt), whose code is never run",
    )
    parser.add_argument(
        "target",
        type=path_of,
        help="a name ending in .safetensors or .gguf is a single file with one part; any other is "
        "a folder of the part, or of the whole checkpoint if the source is one",
    )
    parser.add_argument(
        "--dtype",
        choices=_DTYPES,
        default="keep",
        help="default: keep, as stored. fp8 and int8 are scaled (fp8 per matrix; fp8-channel and "
        "int8 per output channel), q8_0 to q4_0 are GGUF formats; with any of these, norms, "
        "embeddings, first and last layers become bf16",
    )
    parser.add_argument(
        "--part",
        choices=("transformer", "vae", "text_encoder", "text_encoder_2"),
        help="part of a checkpoint folder; default: all for a folder, transformer for a file",
    )
    parser.add_argument(
        "--layout",
        choices=("original", "diffusers"),
        help="naming scheme of the transformer's tensors; default: unchanged",
    )
    parser.add_argument(
        "--max-shard-size",
        type=_size,
        metavar="SIZE",
        help="split a folder's weights into shards of at most this size, such as 5GB",
    )
    parser.add_argument(
        "--report",
        type=path_of,
        metavar="FILE",
        help="write the error of every weight to this .md or .json, with a plot next to it, and "
        "compare source and result on random inputs",
    )
    parser.add_argument(
        "--probe",
        choices=("auto", "none", "predictions", "frames"),
        default="auto",
        help="what --report compares: predictions at three timesteps, also decoded frames, or "
        "nothing; auto: frames for small models only",
    )
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    """Convert, compare and print the summary."""
    from ..convert import Conversion, convert, probe, summary, write_report
    from ..convert.report import check_report
    from ..weights.files import Layout

    report = arguments.report
    if report is not None:
        check_report(report, [arguments.source, arguments.target], force=arguments.force)
    conversion = Conversion(
        dtype=arguments.dtype,
        part=arguments.part,
        layout=None if arguments.layout is None else Layout(arguments.layout),
        max_shard_bytes=arguments.max_shard_size,
        force=arguments.force,
    )
    with ProgressBars(leave=False) as bars:
        result = convert(arguments.source, arguments.target, conversion, progress=bars)
        if report is not None:
            compared = probe(
                arguments.source,
                arguments.target,
                part=arguments.part,
                how=arguments.probe,
                progress=bars,
            )
            result = replace(result, probe=compared)
    written = "" if report is None else f"  {report}"
    if report is not None and (picture := write_report(result, report)):
        written += f", {picture}"
    print("\n".join(summary(result)))
    if written:
        print(written)
    return 0


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB|)", text.strip().upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 500MB or 5GB")
    return int(float(match.group(1)) * _UNITS[match.group(2)])
