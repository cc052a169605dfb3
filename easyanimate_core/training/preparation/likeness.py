"""CLIP's measures of a clip: consistency, aesthetics, and similarity to its text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...scores import load_clip, read_head
from ...weights.files.foreign import load_foreign
from .files import identity_of

_WEIGHTS = "model.safetensors"


class Likeness:
    """CLIP from a folder in transformers' format; nothing is downloaded.

    `head` leads from an image embedding to an aesthetic score, such as LAION's for ViT-L/14.
    """

    def __init__(self, folder: Path, head: Path | None, device: torch.device) -> None:
        """Load the networks.

        Raises:
            InputError: The folder contains no CLIP.
            CheckpointError: The head is damaged or belongs to a CLIP of another size.
        """
        from transformers import AutoProcessor

        check_clip(folder, head)
        self.device = device
        self.identity = f"{folder.name} {identity_of(folder / _WEIGHTS)}"
        self._clip = load_clip(folder).to(device)
        self._processor: Any = load_foreign(AutoProcessor, folder)
        size = self._clip.visual_projection.out_features
        self._head = None if head is None else read_head(head, size)
        self.head_identity = "" if head is None else f"{head.name} {identity_of(head)}"

    @torch.inference_mode()
    def embed_frames(self, frames: list[np.ndarray[Any, Any]]) -> Tensor:
        """Embed uint8 RGB frames as unit vectors, [F, D] on the CPU."""
        inputs = self._processor(images=frames, return_tensors="pt").to(self.device)
        return _normalised(self._clip.get_image_features(**inputs))

    @torch.inference_mode()
    def embed_text(self, text: str) -> Tensor:
        """Embed the first 77 tokens of a text as a unit vector, [D] on the CPU."""
        inputs = self._processor(text=[text], return_tensors="pt", truncation=True, padding=True)
        return _normalised(self._clip.get_text_features(**inputs.to(self.device)))[0]

    def aesthetics(self, frames_FD: Tensor) -> float:
        """The mean score of the frames."""
        assert self._head is not None
        return float(self._head(frames_FD).mean())


def check_clip(folder: Path, head: Path | None) -> None:
    """Raise `InputError` unless the files of CLIP and of the head, if any, exist."""
    missing = [name for name in ("config.json", _WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} does not contain CLIP: {' and '.join(missing)} missing. Pass the folder of "
            "a CLIP model in transformers' format, such as openai/clip-vit-large-patch14."
        )
    if head is not None and not head.is_file():
        raise InputError(f"The aesthetic head {head} does not exist.")


def consistency(frames_FD: Tensor) -> float:
    """The lowest cosine similarity of consecutive frames (1 for one frame); finds missed cuts."""
    if len(frames_FD) < 2:
        return 1.0
    return float((frames_FD[1:] * frames_FD[:-1]).sum(-1).min())


def similarity(frames_FD: Tensor, text_D: Tensor) -> float:
    """The mean cosine similarity of the frames and a text."""
    return float((frames_FD @ text_D).mean())


def _normalised(output: Any) -> Tensor:
    features = output if isinstance(output, Tensor) else output.pooler_output
    return torch.nn.functional.normalize(features.float(), dim=-1).cpu()
