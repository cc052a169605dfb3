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
from easyanimate_core.errors import EasyAnimateError, InputError
from easyanimate_core.files import atomic_folder, remove
from easyanimate_core.models.specs import VAEConfig, Version
from easyanimate_core.sampling import PUBLISHED_CONFIG
from easyanimate_core.small_model import FOLDER, HEADS, small_checkpoint
from easyanimate_core.tiny.tokenizers import write_json
from easyanimate_core.weights.files import read_json, read_tensor_files
from easyanimate_core.weights.files.component import write_vae

#: Head by run.
RUNS = {"inpaint_looks": "InP", "control_on": "Control", "camera": "Control-Camera"}
TEXT_PARTS = ("text_encoder", "tokenizer")
VAE = Path("vae_looks", "result", "vae")
MOST_BYTES = 25 * 10**6


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path)
    runs = parser.parse_args().runs
    try:
        assemble(runs)
    except (EasyAnimateError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    total = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    print(f"{FOLDER}: {total / 1e6:.1f} MB")
    return 0 if total <= MOST_BYTES else 1


def assemble(runs: Path, folder: Path = FOLDER) -> None:
    """Replace the weights in `folder` by those of `runs`, all or none of them.

    Raises:
        InputError: A part of `runs` is missing.
        CheckpointError: A part is damaged.
        MediaError: The disk is full or not writable.
    """
    assert set(RUNS.values()) == {head.value for head in HEADS}
    check_parts(runs)
    with atomic_folder(folder, replace=True, spare=False) as scratch:
        for part in TEXT_PARTS:
            shutil.copytree(runs / "text" / part, scratch / part)
        vae = runs / VAE
        weights = {k: v.to(torch.bfloat16) for k, v in read_tensor_files(vae).map().items()}
        write_vae(scratch / "vae", VAEConfig.from_dict(read_json(vae / "config.json")), weights)
        for run, head in RUNS.items():
            convert(
                runs / run / "result" / "transformer",
                scratch / f"transformer-{head}",
                Conversion(dtype="fp8-channel", part="transformer"),
            )
        config = scratch / "transformer-InP" / "config.json"
        write_json(config, {**read_json(config), "keep_known": True})
        (scratch / "scheduler").mkdir()
        write_json(scratch / "scheduler" / "scheduler_config.json", PUBLISHED_CONFIG[Version.V5_1])
    if folder == FOLDER:
        for made in HEADS:
            link = runs / f"checkpoint-{made.value}"
            remove(link)
            link.symlink_to(small_checkpoint(made))


def check_parts(runs: Path) -> None:
    """Raise `InputError` that names everything that is missing in `runs`."""
    networks = [VAE, *(Path(run, "result", "transformer") for run in RUNS)]
    missing = [str(Path("text", part)) for part in TEXT_PARTS if not _has(runs, "text", part)]
    for network in networks:
        if not (runs / network / "config.json").is_file():
            missing.append(str(network / "config.json"))
        if not list((runs / network).glob("*.safetensors")):
            missing.append(str(network / "*.safetensors"))
    if missing:
        raise InputError(
            f"{runs} is incomplete: {', '.join(missing)} missing. Train the runs of configs/small/ "
            "and run tools.small_model.text first. The committed weights are as they were."
        )


def _has(*parts: str | Path) -> bool:
    """Whether a folder has a file."""
    folder = Path(*parts)
    return folder.is_dir() and any(path.is_file() for path in folder.iterdir())


if __name__ == "__main__":
    sys.exit(main())
