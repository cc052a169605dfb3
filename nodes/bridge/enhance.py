"""Lets the text encoder's language model write, under ComfyUI's memory management."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

from ...easyanimate_core.errors import CheckpointError, InputError
from ...easyanimate_core.memory.plan import WRITING_BYTES
from ...easyanimate_core.text.enhance import LongPrompt, Request, check_request, enhance_prompt
from .patcher import make_patcher
from .progress import NodeProgress
from .text import TextModel, bring_leftovers, compute_dtype, use_comfy_layers


def write_prompt(clip: Any, request: Request, image_BHWC: Tensor | None) -> LongPrompt:
    """A long prompt. The language model is loaded for it from the CLIP's files, then unloaded.

    Raises:
        CheckpointError: The CLIP's files have no language head, or no vision tower for the image.
        InputError: The CLIP is another pack's, or the request cannot be written.
    """
    model = clip.cond_stage_model
    if not isinstance(model, TextModel):
        raise InputError(
            "This CLIP is not EasyAnimate's. Connect the clip of an EasyAnimate loader."
        )
    if model.make_writer is None:
        raise CheckpointError(
            "EasyAnimate V5's text encoders (Bert and mT5) cannot write prompts. Use the text "
            "encoder of a V5.1 checkpoint, or write the long prompt yourself."
        )
    check_request(request, model.encoder.tokenizer, seen=image_BHWC is not None)
    writer = model.make_writer(sees=image_BHWC is not None)
    device = clip.patcher.load_device
    use_comfy_layers(writer.network, compute_dtype(device))
    cpu = torch.device("cpu")
    offload = cpu if device == cpu else comfy.model_management.text_encoder_offload_device()
    # Patchers set attributes that are read-only on transformers' models.
    patcher = make_patcher(nn.ModuleList([writer.network]), device, offload)
    try:
        comfy.model_management.load_models_gpu([patcher], memory_required=WRITING_BYTES)
        bring_leftovers(writer.network, device)
        picture = None if image_BHWC is None else image_BHWC[0, ..., :3]
        return enhance_prompt(writer, request, picture, device=device, progress=NodeProgress())
    finally:
        _unload(patcher)


def _unload(patcher: Any) -> None:
    """Free the memory now, not when the next model needs it."""
    loaded = comfy.model_management.current_loaded_models
    for entry in [entry for entry in loaded if entry.model is patcher]:
        entry.model_unload()
        loaded.remove(entry)
    comfy.model_management.soft_empty_cache()
