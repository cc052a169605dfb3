"""The options of `Settings`: size, length, sampling and seed."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from ..errors import InputError
from ..speeds import LARGEST_SHARE, SPEEDS
from .options import size_of


def add_settings(group: Any) -> None:
    """Add the options."""
    group.add_argument("--size", type=size_of, metavar="HxW",
                       help="height x width in pixels, multiples of 16, such as 384x672; "
                       "default: the trained size closest to the source's aspect ratio, "
                       "384x672 without a source")  # fmt: skip
    group.add_argument("--frames", type=int, help="4n + 1; default: 49, or as the clip allows")
    group.add_argument("--fps", type=float, help="default: 8")
    group.add_argument("--steps", type=int, help="inference steps, default: 50")
    group.add_argument("--guidance-scale", type=float, help="default: 6; 1: off")
    group.add_argument("--guidance-rescale", type=float, help="0 to 1, default: 0")
    group.add_argument("--guidance-window", type=float, metavar="SHARE",
                       help="share of the steps, from the first, in which the negative prompt is "
                       "evaluated, default: 1")  # fmt: skip
    shares = ", ".join(f"{name} {share}" for name, share in SPEEDS.items())
    group.add_argument("--speed", choices=tuple(SPEEDS),
                       help=f"leave out a recommended share of the steps: {shares}")  # fmt: skip
    group.add_argument("--step-cache", type=float, metavar="SHARE",
                       help="share of the steps whose evaluation is left out, up to "
                       f"{LARGEST_SHARE}, default: 0")  # fmt: skip
    group.add_argument("--negative-prompt", help="what to avoid")
    group.add_argument("--scheduler", help="Flow (V5.1); DDIM, Euler, Euler A, DPM++, PNDM (V5)")
    group.add_argument("--seed", type=int, help="default: 43")
    group.add_argument("--batch", type=int, help="videos per prompt, with consecutive seeds")
    group.add_argument("--reference-noise", type=float,
                       help="amplitude of noise on known pixels, default: 0.0563")  # fmt: skip
    group.add_argument("--keep-known", action=argparse.BooleanOptionalAction, default=None,
                       help="keep start frames and everything outside a region fixed to the "
                       "source; default: let them drift, as the original does, unless the "
                       "checkpoint's config sets it")  # fmt: skip
    group.add_argument("--short", choices=("refuse", "repeat"),
                       help="if a clip is too short: fail, or repeat its last frame")  # fmt: skip
    group.add_argument(
        "--tile",
        type=int,
        help="side of the VAE's tiles in pixels, a multiple of 8, at least 128; saves memory",
    )


def settings_of(arguments: argparse.Namespace) -> Any:
    """The `Settings` that the options give."""
    from ..settings import Settings

    names = [field.name for field in dataclasses.fields(Settings)]
    given = {
        name: getattr(arguments, name)
        for name in names
        if getattr(arguments, name, None) is not None
    }
    if arguments.speed is not None:
        if arguments.step_cache is not None:
            raise InputError("--speed sets the share that --step-cache gives; omit one of the two.")
        given["step_cache"] = SPEEDS[arguments.speed]
    if arguments.size is not None:
        given["height"], given["width"] = arguments.size
    return Settings(**given)
