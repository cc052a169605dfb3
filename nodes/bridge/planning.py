"""Memory plans for this machine, and how loaders and samplers apply them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import psutil
import torch
from torch import Tensor

from ...easyanimate_core.memory.card_speeds import speeds_of
from ...easyanimate_core.memory.cards import Card
from ...easyanimate_core.memory.devices import card_of
from ...easyanimate_core.memory.plan import Job, Limits, Plan, choose, facts_of, report
from ...easyanimate_core.models.specs import Head
from ...easyanimate_core.weights.files import inspect_checkpoint
from .loaders import TEXT_DTYPES
from .model import FP8, compute_dtype


def plan_run(folder: Path, job: Job, card_gb: float, host_gb: float) -> Plan:
    """The plan of a run in ComfyUI, which streams weights that do not fit by itself.

    Args:
        folder: The checkpoint.
        job: What to generate; whether the VAE encodes is told by the checkpoint.
        card_gb: GPU memory in GB, 0 for this machine's.
        host_gb: RAM in GB, 0 for what is free on this machine.
    """
    facts = facts_of(inspect_checkpoint(folder))
    device = comfy.model_management.get_torch_device()
    card = _card(device)
    if not card.holds_float8:  # 8-bit weights are unpacked on loading
        facts = replace(facts, denoiser=replace(facts.denoiser, packed=False))
    host = int(host_gb * 1e9) if host_gb else psutil.virtual_memory().available
    limits = Limits.of(card, host)
    compute = compute_dtype(device)
    if card_gb:
        limits = replace(limits, card=int(card_gb * 1e9))
        compute = torch.bfloat16 if device.type == "cpu" else compute
    return choose(
        facts,
        replace(job, encodes=facts.transformer.head is not Head.T2V),
        limits,
        compute=compute,
        # The loaders' options: scaled fp8 for the denoiser, scaled int8 for the text encoder.
        kinds=("none", "qfloat8") if card.holds_float8 else ("none",),
        text_kinds=("none", "qint8"),
        speeds=speeds_of(device),
    )


def _card(device: torch.device) -> Card:
    """The facts about ComfyUI's device, which may be of a kind unknown to the core."""
    if device.type == "cpu":
        return card_of(device)
    known = device.type in ("cuda", "xpu", "mps")
    card = card_of(device) if known else Card(device.type, device.type)
    return replace(card, num_bytes=comfy.model_management.get_total_memory(device))


def describe(plan: Plan) -> str:
    """The table, the reasons, and what nodes that use the plan will do."""
    sides = "off" if plan.tile is None else str(plan.tile)
    prompts = "one after the other" if plan.memory.sequential_guidance else "together"
    nodes = (
        f"weight_dtype {weight_dtype(plan)}, text_device {text_device(plan)}, text_dtype "
        f"{text_dtype(plan)}, tiles {sides}, prompts {prompts}; ComfyUI streams weights that do "
        "not fit."
    )
    return f"{report(plan, options=False)}\n\nThe nodes: {nodes}"


def weight_dtype(plan: Plan) -> str:
    """The loaders' weight_dtype."""
    return "default" if plan.memory.quantization == "none" else FP8


def text_device(plan: Plan) -> str:
    """The loaders' text_device."""
    return plan.memory.text_device or "default"


def text_dtype(plan: Plan) -> str:
    """The loaders' text_dtype."""
    kind = plan.memory.text_quantization
    return next(choice for choice, name in TEXT_DTYPES.items() if name == kind)


def fill_defaults(plan: Plan, weights: str, device: str, text: str) -> tuple[str, str, str]:
    """weight_dtype, text_device and text_dtype, with the plan's in place of "default"."""
    told = (weight_dtype(plan), text_device(plan), text_dtype(plan))
    given = (weights, device, text)
    filled = [
        mine if mine != "default" else planned for mine, planned in zip(given, told, strict=True)
    ]
    return filled[0], filled[1], filled[2]


def one_prompt_at_a_time(model: Any) -> Any:
    """A MODEL that denoises its conditions one after the other instead of as a batch."""
    patched = model.clone()
    kind = comfy.patcher_extension.WrappersMP.CALC_COND_BATCH
    patched.add_wrapper_with_key(kind, "easyanimate_one_prompt_at_a_time", _each_alone)
    return patched


def _each_alone(
    calculate: Any, model: Any, conds: list[Any], x: Tensor, timestep: Tensor, options: Any
) -> list[Tensor]:
    """Evaluate the conditions one by one; the others become None, so that positions are kept."""
    alone = (
        [cond if place == index else None for place in range(len(conds))]
        for index, cond in enumerate(conds)
    )
    return [calculate(model, only, x, timestep, options)[index] for index, only in enumerate(alone)]
