"""Measures how strongly a LoRA of a new look changes videos, by strength.

    python -m tools.small_model.look CHECKPOINT LORA OUT

The look is black outlines on white. It is measured by the shares of white and black pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from easyanimate_core.cli.options import checkpoint_of
from easyanimate_core.media import contact_sheet, write_png
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.shapes.judge.meaning_run import HELD_OUT_SEED
from easyanimate_core.shapes.scenes import caption, make_scene, outlined_measure
from easyanimate_core.weights.lora import Lora
from tools.small_model.variants import SETTINGS

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=checkpoint_of)
    parser.add_argument("lora", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    scenes = [make_scene(HELD_OUT_SEED, i, kind="move") for i in range(arguments.count)]
    prompts = [caption(scene) for scene in scenes]
    settings = replace(SETTINGS, steps=arguments.steps)
    pipeline = Pipeline.load(arguments.checkpoint, embedding_cache=False)
    rows, strips = [], []
    for strength in STRENGTHS:
        loras = [Lora(arguments.lora, strength)] if strength else []
        made = pipeline.generate(prompts, settings=settings, loras=loras).frames
        measures = torch.tensor([outlined_measure(clip.numpy()) for clip in made])
        white, black = measures.mean(dim=0).tolist()
        rows.append({"strength": strength, "white": white, "black": black})
        print(f"strength {strength:.2f}: white {white:.3f}, black {black:.3f}", flush=True)
        strips += [(f"strength {strength}: {prompts[i]}", made[i]) for i in range(2)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "look.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    write_png(arguments.out / "look.png", contact_sheet(strips, columns=6, cell_width=96))
    return 0


if __name__ == "__main__":
    sys.exit(main())
