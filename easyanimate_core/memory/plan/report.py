"""A plan as text."""

from __future__ import annotations

from ...errors import counted
from .choose import Plan
from .estimate import gigabytes


def report(plan: Plan, *, options: bool = True) -> str:
    """The stages as a table, the choice and its reasons, as plain text.

    With `options`, also the options of the command `generate`.
    """
    job, limits = plan.job, plan.limits
    dtype = str(plan.compute).removeprefix("torch.")
    place = "the CPU" if limits.card is None else f"a card of {gigabytes(limits.card)}"
    of_it = ", shared with the card" if limits.shared else ""
    lines = [
        f"{plan.facts.name}, {job.height}x{job.width}, {counted(job.frames, 'frame')}, {dtype}, on "
        f"{place}, with {gigabytes(limits.host)} of memory{of_it}",
        "",
        f"  {'stage':<10}{'weights':>10}{'working':>10}{'card':>10}{'memory':>10}",
    ]
    for stage in plan.estimate.stages:
        row = (stage.weights, stage.activations, plan.estimate.card_bytes(stage), stage.host)
        lines.append(f"  {stage.name:<10}" + "".join(f"{gigabytes(value):>10}" for value in row))
    peak = (plan.estimate.peak_card_bytes, plan.estimate.peak_host_bytes)
    lines.append(f"  {'peak':<30}" + "".join(f"{gigabytes(value):>10}" for value in peak))
    if limits.shared:
        both = max(limits.taken(plan.estimate, stage) for stage in plan.estimate.stages)
        lines.append(f"  {'card and memory together':<40}{gigabytes(both):>10}")
    lines += ["", *plan.reasons, *_ways(plan)]
    if plan.fits and options:
        lines += ["", f"Options of generate: {' '.join(command_options(plan)) or 'none needed'}"]
    return "\n".join(lines)


def _ways(plan: Plan) -> list[str]:
    if plan.speeds is None or not plan.ways:
        return []
    lines = ["", f"  {'a step':<32}{'seconds':>10}{'card':>10}{'error':>8}"]
    for way in plan.ways:
        row = f"  {way.name:<32}{way.seconds:>10.2f}{gigabytes(way.card):>10}{way.error:>8}"
        lines.append(row if way.fits else f"{row}  does not fit")
    return [*lines, f"  Seconds are computed from speeds {plan.speeds.source}."]


def command_options(plan: Plan) -> list[str]:
    """The options of `generate` that carry out the plan."""
    memory = plan.memory
    options = {
        "--quantization": None if memory.quantization == "none" else memory.quantization,
        "--text-quantization": (
            None if memory.text_quantization == "none" else memory.text_quantization
        ),
        "--text-device": memory.text_device,
        "--offload": None if memory.offload == "module" else memory.offload,
        "--resident-blocks": memory.resident_blocks or None,
        "--tile": plan.tile,
    }
    given = [part for name, value in options.items() if value is not None
             for part in (name, str(value))]  # fmt: skip
    return given + (["--sequential-guidance"] if memory.sequential_guidance else [])
