"""CLIP's measures of a clip: consistency, aesthetics, and similarity to its text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import CheckpointError, InputError
from ...weights.files.foreign import load_foreign
from ...weights.files.pickles import read_pickle
from .files import identity_of

_WEIGHTS = "model.safetensors"


class Likeness:
    """CLIP from a folder in transformers' format; nothing is downloaded.

    `head` is a linear layer from an image embedding to an aesthetic score, such as LAION's for
    ViT-L/14: `weight` [1, D] and `bias` [1], in .safetensors or .pth.
    """

    def __init__(self, folder: Path, head: Path | None, device: torch.device) -> None:
        """Load the networks.

        Raises:
            InputError: The folder contains no CLIP.
            CheckpointError: The head is damaged or belongs to a CLIP of another size.
        """
        from transformers import AutoProcessor, CLIPModel

        check_clip(folder, head)
        self.device = device
        self.identity = f"{folder.name} {identity_of(folder / _WEIGHTS)}"
        self._clip: Any = load_foreign(CLIPModel, folder, use_safetensors=True)
        self._clip.eval().to(device)
        self._processor: Any = load_foreign(AutoProcessor, folder)
        size = self._clip.visual_projection.out_features
        self._head = None if head is None else _read_head(head, size)
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
        weight, bias = self._head
        return float((frames_FD @ weight[0] + bias).mean())


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


def _read_head(path: Path, size: int) -> tuple[Tensor, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state: dict[str, Any] = load_file(path)
    else:
        state = read_pickle(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if shapes != {"weight": (1, size), "bias": (1,)}:
        raise CheckpointError(
            f"{path} contains {shapes}; an aesthetic head of this CLIP must be a linear layer with "
            f"weight (1, {size}) and bias (1,)."
        )
    return state["weight"].float(), state["bias"].float()
