"""Assembles training runs into the small model that the package ships, one version at a time.

    python -m tools.small_model.assemble RUNS [--version v5]

RUNS contains the folders written by configs/small/ and `tools.small_model.text`: for V5.1 text,
vae_looks, inpaint_looks, control_on and camera, for V5 v5_text, v5_inpaint and v5_control_on.
Denoisers are stored in scaled fp8, their modulation in int8, the rest in bfloat16. Also makes
RUNS/checkpoint-InP, -Control and -Control-Camera, or RUNS/checkpoint-V5-InP and -V5-Control, whole
checkpoints for evaluation and further training.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from easyanimate_core.convert import Conversion, convert
from easyanimate_core.errors import EasyAnimateError, InputError
from easyanimate_core.files import atomic_folder, remove, save_tensors
from easyanimate_core.models.specs import Head, VAEConfig, Version
from easyanimate_core.recipe_files import BUILT_IN_LORAS, BuiltInModel
from easyanimate_core.sampling import PUBLISHED_CONFIG
from easyanimate_core.small_model import (
    FOLDER,
    HEADS,
    SUBFOLDERS,
    TEXT_PARTS,
    VAE_WEIGHTS,
    small_checkpoint,
)
from easyanimate_core.tiny.tokenizers import write_json
from easyanimate_core.weights.files import read_json, read_tensor_files
from easyanimate_core.weights.files.component import WEIGHTS_FILE, write_vae
from easyanimate_core.weights.stored import to_storage
from easyanimate_core.weights.stored.storage import as_tensors

MOST_BYTES = 40 * 10**6
#: The matrices of a denoiser's adaptive norms, a third of its bytes next to fp8.
_MODULATION = (".norm1.linear.weight", ".norm2.linear.weight", "norm_out.linear.weight")


@dataclass(frozen=True)
class Runs:
    """The runs of a version: those of the text encoders and of the VAE, and of every head."""

    text: str
    vae_folder: Path
    heads: dict[Head, str]

    def transformer_folder(self, head: Head) -> Path:
        return Path(self.heads[head], "result", "transformer")


RUNS = {
    Version.V5_1: Runs(
        "text",
        Path("vae_looks", "result", "vae"),
        {Head.INPAINT: "inpaint_looks", Head.CONTROL: "control_on", Head.CAMERA: "camera"},
    ),
    Version.V5: Runs(
        "v5_text",
        Path("v5_text", "vae"),
        {Head.INPAINT: "v5_inpaint", Head.CONTROL: "v5_control_on"},
    ),
}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--version", type=str.upper, choices=[v.value for v in Version],
                        default=Version.V5_1.value)  # fmt: skip
    arguments = parser.parse_args()
    try:
        assemble(arguments.runs, Version(arguments.version))
    except (EasyAnimateError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    total = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    print(f"{FOLDER}: {total / 1e6:.1f} MB")
    return 0 if total <= MOST_BYTES else 1


def assemble(runs: Path, version: Version, folder: Path = FOLDER) -> None:
    """Replace the weights of a version in `folder` by those of `runs`, all or none of them.

    Those of the other version and the LoRAs stay.

    Raises:
        InputError: A part of `runs` is missing.
        CheckpointError: A part is damaged.
        MediaError: The disk is full or not writable.
    """
    of = RUNS[version]
    assert tuple(of.heads) == HEADS[version]
    check_parts(runs, version)
    with atomic_folder(folder / SUBFOLDERS[version], replace=True, spare=False) as scratch:
        for part in TEXT_PARTS[version]:
            shutil.copytree(runs / of.text / part, scratch / part)
        _write_vae(runs / of.vae_folder, scratch / "vae", shared=version is Version.V5)
        for head in of.heads:
            convert(
                runs / of.transformer_folder(head),
                scratch / f"transformer-{head.value}",
                Conversion(dtype="fp8-channel", part="transformer"),
            )
            compact(scratch / f"transformer-{head.value}")
        config = scratch / "transformer-InP" / "config.json"
        write_json(config, {**read_json(config), "keep_known": True})
        (scratch / "scheduler").mkdir()
        write_json(scratch / "scheduler" / "scheduler_config.json", PUBLISHED_CONFIG[version])
        for inner in (*filter(None, SUBFOLDERS.values()), BUILT_IN_LORAS.name):
            if version is Version.V5_1 and (folder / inner).is_dir():
                shutil.copytree(folder / inner, scratch / inner)
    if folder == FOLDER:
        for head in HEADS[version]:
            link = runs / f"checkpoint-{BuiltInModel(head, version).folder_name}"
            remove(link)
            link.symlink_to(small_checkpoint(head, version))


def _write_vae(run: Path, folder: Path, *, shared: bool) -> None:
    """Write a VAE in bfloat16; only its config if its weights are `shared` with V5.1's."""
    weights = {k: v.to(torch.bfloat16) for k, v in read_tensor_files(run).map().items()}
    write_vae(folder, VAEConfig.from_dict(read_json(run / "config.json")), weights)
    if not shared:
        return
    file = folder / WEIGHTS_FILE
    if file.read_bytes() != (FOLDER / VAE_WEIGHTS).read_bytes():
        raise InputError(
            f"The weights in {run} are not those of {FOLDER / VAE_WEIGHTS}, which both versions "
            "use. Write them again with tools.small_model.text_v5, and train the denoisers on "
            "their latents."
        )
    file.unlink()


def compact(transformer: Path) -> None:
    """Store the modulation of a denoiser in int8, with one scale per channel."""
    weights = {}
    with safe_open(transformer / WEIGHTS_FILE, "pt") as file:
        metadata = file.metadata()
        for name in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(name)
            if name.endswith(_MODULATION) and tensor.dtype is torch.bfloat16:
                weights.update(as_tensors(name, to_storage(tensor, "int8")))
            else:
                weights[name] = tensor.clone()
    save_tensors(transformer / WEIGHTS_FILE, weights, metadata)


def check_parts(runs: Path, version: Version) -> None:
    """Raise `InputError` that names everything that is missing in `runs`."""
    of = RUNS[version]
    networks = [of.vae_folder, *map(of.transformer_folder, of.heads)]
    parts = [Path(of.text, part) for part in TEXT_PARTS[version]]
    missing = [str(part) for part in parts if not _has(runs / part)]
    for network in networks:
        if not (runs / network / "config.json").is_file():
            missing.append(str(network / "config.json"))
        if not list((runs / network).glob("*.safetensors")):
            missing.append(str(network / "*.safetensors"))
    if missing:
        raise InputError(
            f"{runs} is incomplete: {', '.join(missing)} missing. Train the runs of configs/small/ "
            f"and the text encoders of {version.value} first. The committed weights are as they "
            "were."
        )


def _has(folder: Path) -> bool:
    """Whether a folder has a file."""
    return folder.is_dir() and any(path.is_file() for path in folder.iterdir())


if __name__ == "__main__":
    sys.exit(main())
