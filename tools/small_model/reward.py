"""Measures what reward training gains and what it costs: scores and meaning over its steps.

    python -m tools.small_model.reward OUT with-tie=RUN/loras without-tie=OTHER/loras

Held-out scenes are made with every LoRA of a run; the scores of the reward and the share of right
colours, shapes and motions are those of the same clips. OUT gets reward.json, reward.png with the
curves, and reward-clips.png with a scene per row.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from easyanimate_core.media import contact_sheet, write_png
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.scores import Sources, build_scorer
from easyanimate_core.shapes.judge import Sample, asks_for, judge
from easyanimate_core.small_model import NAMES, small_checkpoint
from easyanimate_core.weights.lora import Lora
from tools.small_model.variants import CHECKS, SETTINGS

SCORES = ("saturation", "sharpness")
BATCH = 8
CHECKPOINT = "small (built in): InP"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER", help="folders of LoRAs")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    pipeline = Pipeline.load(
        small_checkpoint(NAMES[CHECKPOINT]), dtype=arguments.dtype, embedding_cache=False
    )
    settings = replace(SETTINGS, steps=arguments.steps)
    rows: list[dict[str, Any]] = []
    strips: list[tuple[str, Tensor]] = []
    start = _measured(pipeline, None, arguments.count, settings)
    for run in arguments.runs:
        name, _, folder = run.partition("=")
        found = [{"run": name, "step": 0, **start[0]}]
        shown = [(f"without: {start[1][0]}", start[1][1])]
        for file in sorted(Path(folder).glob("lora-*.safetensors")):
            step = int(file.stem.partition("-")[2])
            figures, (prompt, frames) = _measured(pipeline, file, arguments.count, settings)
            found.append({"run": name, "step": step, **figures})
            shown.append((f"{name}, step {step}: {prompt}", frames))
            print(json.dumps(found[-1]), flush=True)
        rows += found
        strips += shown[len(strips) > 0 :]
    arguments.out.mkdir(parents=True, exist_ok=True)
    told = json.dumps({"scenes": arguments.count, "steps": arguments.steps, "rows": rows}, indent=2)
    (arguments.out / "reward.json").write_text(told + "\n", encoding="utf-8")
    write_png(arguments.out / "reward-clips.png", contact_sheet(strips, columns=6, cell_width=96))
    draw(rows, arguments.out / "reward.png")
    return 0


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Scores above, meaning below; a line per run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(CHECKS), 6.4))
    axes = figure.subplots(2, len(CHECKS))
    for name, axis in zip((*SCORES, "", *CHECKS), axes.flat, strict=True):
        if not name:
            axis.remove()
            continue
        for run in dict.fromkeys(row["run"] for row in rows):
            points = [(row["step"], row[name]) for row in rows if row["run"] == run]
            axis.plot(*zip(*points, strict=True), marker="o", label=run)
        axis.set_title(name)
        axis.set_xlabel("training step")
        axis.grid(alpha=0.3)
        if name in CHECKS:
            axis.set_ylim(0, 1.02)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _measured(
    pipeline: Pipeline, lora: Path | None, count: int, settings: Any
) -> tuple[dict[str, float], tuple[str, Tensor]]:
    """Mean scores and shares of right clips, and the first clip with its prompt."""
    asks = asks_for("text", count, settings)
    loras = [] if lora is None else [Lora(lora)]
    scorers = {
        name: build_scorer(name, Sources(), torch.device("cpu"), torch.float32) for name in SCORES
    }
    sums = dict.fromkeys((*SCORES, *CHECKS), 0.0)
    shown: list[tuple[str, Tensor]] = []
    for start in range(0, count, BATCH):
        group = asks[start : start + BATCH]
        of_group = replace(settings, seed=SETTINGS.seed + start)
        prompts = [asked.prompt for asked in group]
        made = pipeline.generate(prompts, group[0].given, of_group, loras=loras).frames
        shown = shown or [(prompts[0], made[0])]
        for asked, frames in zip(group, made, strict=True):
            clip = frames.movedim(-1, 1)[None]
            for name, scorer in scorers.items():
                sums[name] += float(scorer(clip, [asked.prompt])[0])
            checks = judge(Sample(asked.task, asked.scene, frames)).checks
            for check in CHECKS:
                sums[check] += checks[check]
    return {name: total / count for name, total in sums.items()}, shown[0]


if __name__ == "__main__":
    sys.exit(main())
