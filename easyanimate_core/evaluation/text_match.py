"""CLIP score: how well a video matches its prompt.

Source: Hessel et al. 2021, "CLIPScore", in the scale of torchmetrics: 100 times the cosine
similarity of prompt and frame, 0 if negative, averaged over evenly spaced frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..media import check_pixels, to_bytes
from ..scores import load_clip
from ..weights.files.foreign import load_foreign

#: Number of frames that are scored.
SCORED_FRAMES = 8


class ClipScorer:
    """A CLIP model of transformers, from a local folder.

    Raises `CheckpointError` if the folder is missing or has something else.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        from transformers import CLIPProcessor

        self._model = load_clip(folder).to(device)
        self._processor: Any = load_foreign(CLIPProcessor, folder)
        self._device = device

    @torch.inference_mode()
    def __call__(self, frames_FHWC: Tensor, prompt: str) -> float:
        """The score of a video [F, H, W, 3] in [0, 1], 0 to 100. Long prompts are truncated."""
        check_pixels("The video", frames_FHWC)
        count = min(SCORED_FRAMES, len(frames_FHWC))
        places = torch.linspace(0, len(frames_FHWC) - 1, count).round().long()
        pictures = list(to_bytes(frames_FHWC[places]))
        inputs = self._processor(
            text=[prompt], images=pictures, return_tensors="pt", padding=True, truncation=True
        ).to(self._device)
        found = self._model(**inputs)
        cosines = (found.image_embeds @ found.text_embeds.T)[:, 0]  # both are normalized
        return float(100 * cosines.clamp(min=0).mean())
