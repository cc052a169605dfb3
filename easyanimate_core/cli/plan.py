"""`plan`: whether and how a run fits, before anything is loaded or even downloaded."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from ..errors import InputError
from ..memory.options import Memory
from .memory import add_limits, add_preference, limits_of, main_memory
from .options import add_device, add_dtype, checkpoint_in

_EXAMPLES = """\
examples:
  plan --model models/EasyAnimateV5.1-7b-zh-InP --size 384x672x49 --vram 12
  plan --model EasyAnimateV5.1-12b-zh-InP --size 576x1008x49 --vram 24 --ram 64 --gpu "RTX 4090"
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "plan",
        help="predict whether and how a run fits into memory",
        description="Estimate the memory of every stage of a run and choose the memory options. "
        "Only configs and file headers are read.\n\n" + _EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--model", required=True,
                        help="checkpoint folder, built-in model, or the name of a published model "
                        "that is not installed")  # fmt: skip
    parser.add_argument("--size", type=clip_of, default=(384, 672, 49), metavar="HxWxF",
                        help="height x width x frames, default: 384x672x49")  # fmt: skip
    parser.add_argument("--batch", type=int, default=1, help="batch size, default: 1")
    parser.add_argument("--no-guidance", action="store_true", help="for a guidance scale of 1")
    parser.add_argument("--enhance", action="store_true",
                        help="the text encoder also writes a long prompt, as with generate "
                        "--enhance")  # fmt: skip
    add_limits(parser)
    add_preference(parser)
    parser.add_argument("--gpu", metavar="NAME",
                        help="GPU of another machine, with --vram: seconds per step are computed "
                        "from its published figures")  # fmt: skip
    add_device(parser)
    add_dtype(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; the exit status is 0 if the run fits, else 1."""
    import torch

    from ..memory.card_speeds import published_speeds, speeds_of
    from ..memory.devices import card_of, pick_device, pick_dtype
    from ..memory.options import quantizations_on
    from ..memory.plan import Job, Limits, choose, report
    from ..models.specs import Head

    device = torch.device("cpu") if arguments.vram == 0 else pick_device(arguments.device)
    compute = pick_dtype(arguments.dtype, device)
    kinds = quantizations_on(card_of(device))
    if arguments.vram and device.type == "cpu":  # a GPU of another machine
        limits = Limits(int(arguments.vram * 1e9), main_memory(arguments))
        compute = torch.bfloat16 if arguments.dtype == "auto" else compute
    else:
        limits = limits_of(arguments, device)
    if arguments.gpu is not None and limits.card is None:
        raise InputError("--gpu names the card of --vram, which is not given. Add --vram.")
    facts = facts_of_model(arguments.model, device)
    height, width, frames = arguments.size
    job = Job(
        height,
        width,
        frames,
        batch=arguments.batch,
        guidance=not arguments.no_guidance,
        encodes=facts.transformer.head is not Head.T2V,
        writes=arguments.enhance,
    )
    plan = choose(
        facts,
        job,
        limits,
        compute=compute,
        kinds=kinds,
        speeds=speeds_of(device) if arguments.gpu is None else published_speeds(arguments.gpu),
        prefer=arguments.prefer or "exact",
    )
    print(json.dumps(as_json(plan), indent=2) if arguments.json else report(plan))
    return 0 if plan.fits else 1


def clip_of(text: str) -> tuple[int, int, int]:
    """Parse HEIGHTxWIDTHxFRAMES as (height, width, frames)."""
    try:
        height, width, frames = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not HEIGHTxWIDTHxFRAMES, such as 384x672x49"
        ) from None
    return height, width, frames


def facts_of_model(model: str, device: Any) -> Any:
    """The facts about a folder that can run on a device, or about a published model by name."""
    from ..hub import find_model
    from ..memory.plan import facts_of, published_facts
    from ..networks import check_stored_on
    from ..weights.files import inspect_checkpoint

    folder = checkpoint_in(model)
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
        "speeds": None if plan.speeds is None else asdict(plan.speeds),
        "steps": [
            {
                "way": way.name,
                "memory": asdict(way.memory),
                "seconds": way.seconds,
                "card": way.card,
                "error": way.error,
                "fits": way.fits,
            }
            for way in plan.ways
        ],
    }
