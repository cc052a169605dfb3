"""`merge-lora`: writes a denoiser with LoRAs merged into its weights."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import printable
from . import loras
from .bars import ProgressBars
from .options import add_force, checkpoint_of, path_of

_DTYPES = ("float32", "bfloat16", "float16")


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "merge-lora",
        help="write a denoiser with LoRAs merged into its weights",
        description="Write a single safetensors file of a denoiser with LoRAs merged into it.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "model",
        type=checkpoint_of,
        help="checkpoint folder, built-in model, or a denoiser's file or folder",
    )
    parser.add_argument("out", type=path_of, help="the .safetensors file to write")
    loras.add_options(parser, required=True)
    parser.add_argument("--dtype", choices=_DTYPES, help="dtype of the file; default: the model's")
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the file and print what was merged."""
    import torch

    from ..weights.files import read_denoiser_files
    from ..weights.files.folder import is_folder
    from ..weights.lora import merge_loras

    used = loras.given(arguments)
    inside = arguments.model / "transformer"
    files = read_denoiser_files(inside if is_folder(inside) else arguments.model)
    dtype = None if arguments.dtype is None else getattr(torch, arguments.dtype)
    with ProgressBars() as bars:
        reports = merge_loras(
            files,
            used,
            arguments.out,
            dtype=dtype,
            metadata=_provenance(arguments.model, used),
            force=arguments.force,
            progress=bars,
        )
    for report in reports:
        print(f"note: {printable(report)}")
    print(arguments.out)
    return 0


def _provenance(source: Path, used: tuple[Any, ...]) -> dict[str, str]:
    """The file's sources, for its header."""
    from ..version import __version__

    return {
        "format": "pt",
        "made_by": f"easyanimate_core {__version__}",
        "merged_from": source.resolve().name,
        "merged_loras": json.dumps(loras.as_json(used)),
    }
