"""A vision-language model that describes the frames of a clip."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...errors import CheckpointError, InputError
from ...memory.devices import pick_device, pick_dtype
from ...weights.files.foreign import load_foreign
from .chats import render_chats
from .files import DataFile

PROMPT = (
    "These are frames of one video, in order. Describe the video in one paragraph: what is seen, "
    "how it moves, what the camera does, the light and the style. Do not mention frames, and do "
    "not repeat yourself."
)

_FIELDS = {"name"}


@dataclass(frozen=True)
class Captioning:
    """How to prompt a captioning model.

    `prompt` may contain {name}, which is replaced by the file's name without its suffix. `frames`
    evenly spaced frames are shown; decoding is greedy, up to `max_tokens` tokens.
    """

    prompt: str = PROMPT
    frames: int = 8
    batch: int = 1
    max_tokens: int = 256
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        for name in ("frames", "batch", "max_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(self.prompt) if field}
        except ValueError as error:
            raise InputError(
                f"The prompt has an unmatched brace ({error}); write {{{{ or }}}}."
            ) from None
        if fields - _FIELDS:
            raise InputError(
                f"The prompt contains {{{min(fields - _FIELDS)}}}, but only {{name}} is allowed. "
                "Double the braces to write them literally."
            )
        if not self.prompt.strip():
            raise InputError("The prompt is empty; tell the model what to describe.")


def check_model(folder: Path) -> None:
    """Raise `InputError` unless `folder` looks like a transformers model with weights."""
    remedy = (
        "Download a vision-language model that transformers supports, such as "
        "Qwen/Qwen2.5-VL-7B-Instruct, and pass its folder; or read captions from a file (--from)."
    )
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} does not contain a model: there is no config.json. {remedy}")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder} has no weights: there is no .safetensors file. {remedy}")


class CaptionModel:
    """A model from a folder in transformers' format; nothing is downloaded."""

    def __init__(self, folder: Path, captioning: Captioning) -> None:
        """Load the model.

        Raises:
            CheckpointError: It is damaged, or not a vision-language model.
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._captioning = captioning
        self._device = pick_device(captioning.device)
        try:
            self._processor: Any = load_foreign(AutoProcessor, folder)
            model: Any = load_foreign(
                AutoModelForImageTextToText,
                folder,
                use_safetensors=True,
                dtype=pick_dtype(captioning.dtype, self._device),
            )
        except CheckpointError as error:
            raise CheckpointError(
                f"{folder} cannot be used to caption: {error} It must be a vision-language model "
                "that transformers supports."
            ) from error
        self._model: Any = model.eval().to(self._device)
        # Answers start where the prompts end, which must be the same position across the batch.
        self._processor.tokenizer.padding_side = "left"

    @torch.inference_mode()
    def __call__(self, clips: Sequence[tuple[DataFile, list[np.ndarray[Any, Any]]]]) -> list[str]:
        """Caption each (file, its frames as uint8 RGB [H, W, 3])."""
        chats = [self._messages(data, len(frames)) for data, frames in clips]
        prompts = render_chats(self._processor, chats)
        pictures = [[Image.fromarray(frame) for frame in frames] for _, frames in clips]
        inputs = self._processor(
            text=prompts, images=pictures, padding=True, return_tensors="pt"
        ).to(self._device, self._model.dtype)
        tokens = self._model.generate(
            **inputs, max_new_tokens=self._captioning.max_tokens, do_sample=False
        )
        answers = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self._processor.batch_decode(answers, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def _messages(self, data: DataFile, num_frames: int) -> list[dict[str, Any]]:
        prompt = self._captioning.prompt.format(name=data.file.stem)
        content = [{"type": "image"}] * num_frames + [{"type": "text", "text": prompt}]
        return [{"role": "user", "content": content}]
