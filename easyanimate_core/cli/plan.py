"""`plan`: whether a run fits, and how, before anything is loaded or even downloaded."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, fields, replace
from typing import Any

from ..errors import InputError
from ..memory.options import Memory
from .options import add_device, add_dtype, path_in

_EXAMPLES = """\
examples:
  plan --model models/EasyAnimateV5.1-7b-zh-InP --size 384x672x49 --vram 12
  plan --model EasyAnimateV5.1-12b-zh-InP --size 576x1008x49 --vram 24 --ram 64
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "plan",
        help="say whether a run fits into memory, and how",
        description="Estimate the memory of every stage of a run and choose how to keep the "
        "networks. Only configs and file headers are read.\n\n" + _EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--model", required=True,
                        help="checkpoint folder, or the name of a published one that is not "
                        "here")  # fmt: skip
    parser.add_argument("--size", type=clip_of, default=(384, 672, 49), metavar="HxWxF",
                        help="height x width x frames, default: 384x672x49")  # fmt: skip
    parser.add_argument("--batch", type=int, default=1, help="videos at once, default: 1")
    parser.add_argument("--no-guidance", action="store_true", help="for a guidance scale of 1")
    add_limits(parser)
    add_device(parser)
    add_dtype(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def add_limits(parser: Any) -> None:
    """Options that say how much memory there is."""
    parser.add_argument("--vram", type=float, metavar="GB",
                        help="memory of the graphics card; default: of the one here; 0: no "
                        "card")  # fmt: skip
    parser.add_argument("--ram", type=float, metavar="GB",
                        help="main memory; default: what is free here")  # fmt: skip


def add_planning(parser: Any) -> None:
    """Options of `generate` that leave the memory to a plan."""
    parser.add_argument("--plan", action="store_true", default=None,
                        help="choose the options of this group, and --tile, so that the run fits; "
                        "the command plan shows the choice")  # fmt: skip
    add_limits(parser)


def check_planned(arguments: argparse.Namespace) -> None:
    """Raise `InputError` where a plan and what it would choose are both given."""
    names = [*(field.name for field in fields(Memory)), "tile"]
    given = [name for name in names if getattr(arguments, name) is not None]
    if arguments.plan and given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"--plan chooses {options} itself; leave one of the two out.")
    if not arguments.plan and (arguments.vram is not None or arguments.ram is not None):
        raise InputError("--vram and --ram are for --plan; add it, or leave them out.")


def planned(
    pipeline: Any, task: Any, settings: Any, arguments: argparse.Namespace
) -> tuple[Any, Any]:
    """Pipeline and settings as the plan of the run says; `InputError` if it would not fit."""
    limits = limits_of(arguments, pipeline.device)
    plan = pipeline.plan_memory(task, settings, limits=limits)
    if not plan.fits:
        raise InputError(" ".join(plan.reasons))
    for reason in plan.reasons:
        print(reason)
    return pipeline.with_memory(plan.memory), replace(settings, tile=plan.tile)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; the exit status is 0 if the run fits, else 1."""
    import torch

    from ..memory.devices import card_of, pick_device, pick_dtype
    from ..memory.options import quantizations_on
    from ..memory.plan import Job, Limits, choose, report
    from ..models.specs import Head

    device = torch.device("cpu") if arguments.vram == 0 else pick_device(arguments.device)
    compute = pick_dtype(arguments.dtype, device)
    kinds = quantizations_on(card_of(device))
    if arguments.vram and device.type == "cpu":  # a card that is elsewhere
        limits = Limits(int(arguments.vram * 1e9), main_memory(arguments))
        compute = torch.bfloat16 if arguments.dtype == "auto" else compute
    else:
        limits = limits_of(arguments, device)
    facts = facts_of_model(arguments.model, device)
    height, width, frames = arguments.size
    job = Job(
        height,
        width,
        frames,
        batch=arguments.batch,
        guidance=not arguments.no_guidance,
        encodes=facts.transformer.head is not Head.T2V,
    )
    plan = choose(facts, job, limits, compute=compute, kinds=kinds)
    print(json.dumps(as_json(plan), indent=2) if arguments.json else report(plan))
    return 0 if plan.fits else 1


def clip_of(text: str) -> tuple[int, int, int]:
    """(height, width, frames) of the text HEIGHTxWIDTHxFRAMES."""
    try:
        height, width, frames = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not HEIGHTxWIDTHxFRAMES, such as 384x672x49"
        ) from None
    return height, width, frames


def main_memory(arguments: argparse.Namespace) -> int:
    """Bytes of main memory: what the option says, or what is free."""
    import psutil

    free: int = psutil.virtual_memory().available
    return free if arguments.ram is None else int(arguments.ram * 1e9)


def limits_of(arguments: argparse.Namespace, device: Any) -> Any:
    """The `Limits` of a run on a device of this machine, as it is or as the options say."""
    from ..memory.devices import card_of
    from ..memory.plan import Limits

    limits = Limits.of(card_of(device), main_memory(arguments))
    if limits.card is None or arguments.vram is None:
        return limits
    return replace(limits, card=int(arguments.vram * 1e9) or None)


def facts_of_model(model: str, device: Any) -> Any:
    """The facts of a folder that can run on a device, or of a published model by its name."""
    from ..hub import find_model
    from ..memory.plan import facts_of, published_facts
    from ..networks import check_stored_on
    from ..weights.files import inspect_checkpoint

    folder = path_in(model)
    if folder.is_dir():
        info = inspect_checkpoint(folder)
        check_stored_on(device, info, Memory())
        return facts_of(info)
    published = find_model(model)
    return published_facts(published.version, published.size, published.head)


def as_json(plan: Any) -> dict[str, Any]:
    """A plan as JSON values, sizes in bytes."""
    return {
        "model": plan.facts.name,
        "fits": plan.fits,
        "card": plan.limits.card,
        "host": plan.limits.host,
        "shared": plan.limits.shared,
        "memory": asdict(plan.memory),
        "tile": plan.tile,
        "peak_card": plan.estimate.peak_card_bytes,
        "peak_host": plan.estimate.peak_host_bytes,
        "stages": {
            stage.name: {
                "weights": stage.weights,
                "activations": stage.activations,
                "card": plan.estimate.card_bytes(stage),
                "host": stage.host,
            }
            for stage in plan.estimate.stages
        },
        "reasons": list(plan.reasons),
    }
