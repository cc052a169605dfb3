"""Measures how well the small model follows prompts with every memory and sampling option.

    python -m tools.small_model.variants CHECKPOINT OUT

Text to video for held-out scenes, by quantisation, offload mode, precision and number of steps.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from easyanimate_core.cli.options import checkpoint_of
from easyanimate_core.memory.options import Memory
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.settings import Settings
from easyanimate_core.shapes.judge import asks_for, judge, make_samples
from easyanimate_core.small_model import SIZE

SETTINGS = Settings(
    frames=SIZE[0], height=SIZE[1], width=SIZE[2], steps=20, guidance_scale=4.0, negative_prompt=""
)
#: (memory, dtype, steps) by name.
VARIANTS: dict[str, tuple[Memory, str, int]] = {
    "baseline, 20 steps": (Memory(), "float32", 20),
    "offload resident": (Memory(offload="resident"), "float32", 20),
    "offload block": (Memory(offload="block"), "float32", 20),
    "sequential guidance": (Memory(sequential_guidance=True), "float32", 20),
    "qfloat8": (Memory("qfloat8"), "float32", 20),
    "qint8": (Memory("qint8"), "float32", 20),
    "qint4": (Memory("qint4"), "float32", 20),
    "text encoder qfloat8": (Memory(text_quantization="qfloat8"), "float32", 20),
    "text encoder qint4": (Memory(text_quantization="qint4"), "float32", 20),
    "bfloat16": (Memory(), "bfloat16", 20),
    "10 steps": (Memory(), "float32", 10),
    "50 steps": (Memory(), "float32", 50),
}
CHECKS = ("colour", "shape", "motion")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=checkpoint_of)
    parser.add_argument("out", type=Path, help="a JSON file")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="VARIANT")
    arguments = parser.parse_args()
    rows = []
    plain: list[Tensor] = []
    for name in arguments.only or VARIANTS:
        row, clips = _judged(arguments.checkpoint, name, arguments.count)
        plain = plain or clips
        row["mean_difference_of_pixels"] = _difference(clips, plain)
        rows.append(row)
        print(json.dumps(row), flush=True)
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


def _judged(checkpoint: Path, name: str, count: int) -> tuple[dict[str, str | float], list[Tensor]]:
    memory, dtype, steps = VARIANTS[name]
    pipeline = Pipeline.load(checkpoint, dtype=dtype, memory=memory, embedding_cache=False)
    settings = replace(SETTINGS, steps=steps)
    samples = list(make_samples(pipeline, asks_for("text", count, settings), settings))
    verdicts = [judge(sample) for sample in samples]
    shares = {check: sum(v.checks[check] for v in verdicts) / count for check in CHECKS}
    return {"variant": name, **shares}, [sample.frames for sample in samples]


def _difference(clips: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """The difference of pixel values in [0, 1] from the first variant."""
    pairs = zip(clips, plain, strict=True)
    return sum(float((a - b).abs().mean()) for a, b in pairs) / len(plain)


if __name__ == "__main__":
    sys.exit(main())
