"""All scores by name: what each reads, and how it is made. All are about 0 to 1, higher is better.

Frames are [B, F, 3, H, W] in [0, 1]: B clips of F frames. Scores are [B].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..media import read_image
from . import plain
from .aesthetics import read_head
from .clip import Clip
from .mps import Mps
from .open_clip import read_hps

#: Scores clips by their frames and prompts.
Scorer = Callable[[Tensor, Sequence[str]], Tensor]

#: LAION's scale ends there.
_BEST_AESTHETICS = 10.0


@dataclass(frozen=True)
class Sources:
    """Where a score's files are: its weights, the folder of a CLIP, a reference picture.

    A network scores `frames` evenly spaced frames of a clip.
    """

    file: Path | None = None
    clip: Path | None = None
    reference: Path | None = None
    frames: int = 8


@dataclass(frozen=True)
class Kind:
    """A score: the `Sources` that it needs, with what each should be."""

    needs: Mapping[str, str]
    make: Callable[[Sources, torch.device, torch.dtype], Scorer]


def build_scorer(name: str, sources: Sources, device: torch.device, dtype: torch.dtype) -> Scorer:
    """The score `name` on a device; networks have weights of `dtype`.

    Raises:
        InputError: A file is missing.
        CheckpointError: A file is damaged or contains something else.
    """
    check_sources(name, sources)
    return KINDS[name].make(sources, device, dtype)


def check_sources(name: str, sources: Sources) -> None:
    """Raise `InputError` unless the files that the score needs exist."""
    for field, what in KINDS[name].needs.items():
        path: Path = getattr(sources, field)
        if not (path.is_dir() if field == "clip" else path.is_file()):
            kind = "folder" if field == "clip" else "file"
            raise InputError(f"There is no {kind} {path} ({field} of {name}): it needs {what}.")


def _of_pictures(
    score: Callable[[Tensor, Sequence[str]], Tensor],
    count: int,
    frames: Tensor,
    prompts: Sequence[str],
) -> Tensor:
    """The mean score of up to `count` evenly spaced frames of each clip."""
    length = frames.shape[1]
    places = torch.linspace(0, length - 1, min(count, length)).round().long().tolist()
    pictures = frames[:, places].flatten(0, 1)
    found = score(pictures, [prompt for prompt in prompts for _ in places])
    return found.unflatten(0, (-1, len(places))).mean(1)


def _cosine(clip: Clip, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
    return (clip.embed_pictures(pictures) * clip.embed_text(prompts)).sum(-1)


def _clip(sources: Sources, device: torch.device, dtype: torch.dtype) -> Scorer:
    assert sources.clip is not None
    clip = Clip.of_folder(sources.clip, device, dtype)
    return partial(_of_pictures, partial(_cosine, clip), sources.frames)


def _hps(sources: Sources, device: torch.device, dtype: torch.dtype) -> Scorer:
    assert sources.file is not None and sources.clip is not None
    clip = read_hps(sources.file, sources.clip, device, dtype)
    return partial(_of_pictures, partial(_cosine, clip), sources.frames)


def _mps(sources: Sources, device: torch.device, dtype: torch.dtype) -> Scorer:
    assert sources.file is not None and sources.clip is not None
    return partial(_of_pictures, Mps(sources.file, sources.clip, device, dtype), sources.frames)


def _aesthetics(sources: Sources, device: torch.device, dtype: torch.dtype) -> Scorer:
    assert sources.file is not None and sources.clip is not None
    clip = Clip.of_folder(sources.clip, device, dtype)
    head = read_head(sources.file, clip.model.config.projection_dim)

    def score(pictures: Tensor, prompts: Sequence[str]) -> Tensor:  # noqa: ARG001
        return head(clip.embed_pictures(pictures)) / _BEST_AESTHETICS

    return partial(_of_pictures, score, sources.frames)


def _likeness(sources: Sources, device: torch.device, dtype: torch.dtype) -> Scorer:  # noqa: ARG001
    assert sources.reference is not None
    picture = read_image(sources.reference)[0].movedim(-1, 0).to(device)
    return lambda frames, _: plain.likeness(frames, picture)


def _needs_nothing(score: Callable[[Tensor], Tensor]) -> Kind:
    return Kind({}, lambda *_: lambda frames, _prompts: score(frames))


_TOKENIZER = "a folder with the tokenizer of laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
KINDS: Mapping[str, Kind] = {
    "saturation": _needs_nothing(plain.saturation),
    "sharpness": _needs_nothing(plain.sharpness),
    "steadiness": _needs_nothing(plain.steadiness),
    "likeness": Kind({"reference": "a picture"}, _likeness),
    "clip": Kind({"clip": "a CLIP of transformers, such as openai/clip-vit-large-patch14"}, _clip),
    "aesthetics": Kind(
        {
            "file": "LAION's head, such as sac+logos+ava1-l14-linearMSE.pth",
            "clip": "the CLIP of that head, openai/clip-vit-large-patch14",
        },
        _aesthetics,
    ),
    "hps": Kind({"file": "HPS_v2.1_compressed.pt", "clip": _TOKENIZER}, _hps),
    "mps": Kind({"file": "MPS_overall.pth", "clip": _TOKENIZER}, _mps),
}
