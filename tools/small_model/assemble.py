"""Assembles training runs into the small model that the package ships.

    python -m tools.small_model.assemble RUNS

RUNS contains the folders text, vae_looks, inpaint_looks, control_on and camera written by
configs/small/ and `tools.small_model.text`. Denoisers are stored in scaled fp8, the rest in
bfloat16. Also makes RUNS/checkpoint-InP, -Control and -Control-Camera, whole checkpoints for
evaluation and further training.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch

from easyanimate_core.convert import Conversion, convert
from easyanimate_core.files import remove, remove_tree
from easyanimate_core.models.specs import VAEConfig, Version
from easyanimate_core.sampling import PUBLISHED_CONFIG
from easyanimate_core.small_model import FOLDER, HEADS, small_checkpoint
from easyanimate_core.tiny.tokenizers import write_json
from easyanimate_core.weights.files import read_json, read_tensor_files
from easyanimate_core.weights.files.component import write_vae

#: Head by run.
RUNS = {"inpaint_looks": "InP", "control_on": "Control", "camera": "Control-Camera"}
MOST_BYTES = 25 * 10**6


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path)
    runs = parser.parse_args().runs
    assert set(RUNS.values()) == {head.value for head in HEADS}
    remove_tree(FOLDER)
    FOLDER.mkdir()
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(runs / "text" / part, FOLDER / part)
    vae = runs / "vae_looks" / "result" / "vae"
    weights = {k: v.to(torch.bfloat16) for k, v in read_tensor_files(vae).map().items()}
    write_vae(FOLDER / "vae", VAEConfig.from_dict(read_json(vae / "config.json")), weights)
    for run, head in RUNS.items():
        convert(
            runs / run / "result" / "transformer",
            FOLDER / f"transformer-{head}",
            Conversion(dtype="fp8-channel", part="transformer"),
        )
    config = FOLDER / "transformer-InP" / "config.json"
    write_json(config, {**read_json(config), "keep_known": True})
    (FOLDER / "scheduler").mkdir()
    write_json(FOLDER / "scheduler" / "scheduler_config.json", PUBLISHED_CONFIG[Version.V5_1])
    for made in HEADS:
        link = runs / f"checkpoint-{made.value}"
        remove(link)
        link.symlink_to(small_checkpoint(made))
    total = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    print(f"{FOLDER}: {total / 1e6:.1f} MB")
    return 0 if total <= MOST_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
