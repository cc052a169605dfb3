"""Memory options and kernels: offload, quantisation and limits, or leaving the choice to a plan."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import Any

from ..errors import InputError
from ..memory.options import ATTENTIONS, OFFLOADS, PREFERENCES, QUANTIZATIONS, Kernels, Memory
from .options import flag


def add_memory(group: Any) -> None:
    """Add the options of `Memory`."""
    group.add_argument("--quantization", choices=QUANTIZATIONS,
                       help="for the denoiser's weights, default: none")  # fmt: skip
    group.add_argument("--text-quantization", choices=QUANTIZATIONS,
                       help="for the text encoder's weights, default: none")  # fmt: skip
    group.add_argument("--text-device", metavar="DEVICE",
                       help="device of the text encoder; default: that of --device")  # fmt: skip
    group.add_argument("--offload", choices=OFFLOADS,
                       help="resident: networks stay on the device; module: each is on it for its "
                       "stage; block: block by block; default: module")  # fmt: skip
    group.add_argument("--resident-blocks", type=int, metavar="N",
                       help="with --offload block: how many of the denoiser's blocks stay on the "
                       "device; default: 0")  # fmt: skip
    group.add_argument("--sequential-guidance", action="store_true", default=None,
                       help="one prompt after the other; halves activations")  # fmt: skip


def add_kernels(group: Any) -> None:
    """Add the options of `Kernels`."""
    group.add_argument("--compile", action="store_true", default=None,
                       help="compile the denoiser in the first step, which takes minutes once; "
                       "pays off from some ten steps of a large model")  # fmt: skip
    group.add_argument("--attention", choices=ATTENTIONS,
                       help="attention kernel on NVIDIA's cards; flash3 and sage need their "
                       "packages; default: auto")  # fmt: skip


def kernels_of(arguments: argparse.Namespace) -> Kernels:
    """The `Kernels` set by the options."""
    told = {field.name: getattr(arguments, field.name) for field in fields(Kernels)}
    return Kernels(**{name: value for name, value in told.items() if value is not None})


def memory_of(arguments: argparse.Namespace, otherwise: Memory) -> Memory:
    """The `Memory` set by the options, or `otherwise` if none is given."""
    names = [field.name for field in fields(Memory)]
    given = {name: getattr(arguments, name) for name in names}
    told = {name: value for name, value in given.items() if value is not None}
    return replace(otherwise, **told)


def add_limits(parser: Any) -> None:
    """Add the options for the available memory."""
    parser.add_argument("--vram", type=float, metavar="GB",
                        help="GPU memory; default: that of this machine's GPU; 0: no "
                        "GPU")  # fmt: skip
    parser.add_argument("--ram", type=float, metavar="GB",
                        help="RAM; default: what is free on this machine")  # fmt: skip


def add_planning(parser: Any) -> None:
    """Add the options that leave the choice to a plan."""
    parser.add_argument("--plan", action="store_true", default=None,
                        help="choose the options of this group and --tile so that the run fits; "
                        "the command plan shows the choice")  # fmt: skip
    add_limits(parser)
    add_preference(parser)


def add_preference(parser: Any) -> None:
    """Add the option of what a plan prefers."""
    parser.add_argument("--prefer", choices=PREFERENCES,
                        help="exact: the quickest way with the same result; speed: also 8-bit "
                        "weights, if quicker; default: exact")  # fmt: skip


def check_planned(arguments: argparse.Namespace) -> None:
    """Raise `InputError` if both --plan and options that it chooses are given."""
    names = [*(field.name for field in fields(Memory)), "tile"]
    given = [name for name in names if getattr(arguments, name) is not None]
    if arguments.plan and given:
        raise InputError(
            f"--plan chooses {', '.join(map(flag, given))} itself; omit one of the two."
        )
    of_the_plan = (arguments.vram, arguments.ram, arguments.prefer)
    if not arguments.plan and any(value is not None for value in of_the_plan):
        raise InputError("--vram, --ram and --prefer are for --plan; add it, or omit them.")


def planned(
    pipeline: Any, task: Any, settings: Any, arguments: argparse.Namespace
) -> tuple[Any, Any]:
    """Pipeline and settings according to the run's plan; `InputError` if it does not fit."""
    limits = limits_of(arguments, pipeline.device)
    writes = arguments.enhance is not None
    plan = pipeline.plan_memory(
        task, settings, limits=limits, writes=writes, prefer=arguments.prefer or "exact"
    )
    if not plan.fits:
        raise InputError(" ".join(plan.reasons))
    for reason in plan.reasons:
        print(reason)
    return pipeline.with_memory(plan.memory), replace(settings, tile=plan.tile)


def main_memory(arguments: argparse.Namespace) -> int:
    """RAM in bytes: given by the option, or what is free."""
    import psutil

    free: int = psutil.virtual_memory().available
    return free if arguments.ram is None else int(arguments.ram * 1e9)


def limits_of(arguments: argparse.Namespace, device: Any) -> Any:
    """The `Limits` of a run on this machine's device, or those given by the options."""
    from ..memory.devices import card_of
    from ..memory.plan import Limits

    limits = Limits.of(card_of(device), main_memory(arguments))
    if limits.card is None or arguments.vram is None:
        return limits
    return replace(limits, card=int(arguments.vram * 1e9) or None)
