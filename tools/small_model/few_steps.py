"""Stores the small model's LoRAs for few steps in the package, in bfloat16, without their tags.

They are stored at a strength of 1.2: what is learned in so few steps falls short of its target, and
shapes are sharper so (docs/small-model.md).

    python -m tools.small_model.few_steps RUNS

RUNS contains the folders written by configs/small/distill_*.yaml; those that are missing are left
as they are in the package.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from easyanimate_core.files import atomic_file, save_tensors
from easyanimate_core.models.specs import Head, Version
from easyanimate_core.recipe_files import BuiltInModel
from easyanimate_core.weights.files import read_tensor_files
from easyanimate_core.weights.lora.card import ALPHA, TAGS

#: Factor on what was learned.
STRENGTH = 1.2
#: The run of every LoRA.
RUNS = {
    BuiltInModel(Head.INPAINT, Version.V5_1): "distill_inpaint",
    BuiltInModel(Head.CONTROL, Version.V5_1): "distill_control",
    BuiltInModel(Head.CAMERA, Version.V5_1): "distill_camera_on",
    BuiltInModel(Head.INPAINT, Version.V5): "distill_v5_inpaint_on",
    BuiltInModel(Head.CONTROL, Version.V5): "distill_v5_control",
}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path)
    arguments = parser.parse_args()
    for model, name in RUNS.items():
        trained = arguments.runs / name / "result" / "lora.safetensors"
        if not trained.is_file():
            print(f"{trained} is missing")
            continue
        files = read_tensor_files(trained)
        stored = {
            key: (tensor * STRENGTH if key.endswith(".alpha") else tensor).to(torch.bfloat16)
            for key, tensor in files.read().items()
        }
        model.few_steps.parent.mkdir(exist_ok=True)
        with atomic_file(model.few_steps) as scratch:
            said = {key: text for key, text in files.metadata.items() if key != TAGS}
            alpha = STRENGTH * float(said[ALPHA])
            save_tensors(scratch, stored, said | {ALPHA: f"{alpha:g}"})
        print(f"{model.few_steps}: {model.few_steps.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
