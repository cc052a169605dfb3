"""Pictures of the latents while the pack's sampler works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import comfy.utils
import latent_preview
from comfy.cli_args import LatentPreviewMethod, args

_OPTION = "--preview-method"
#: What the frontend's setting says where nobody has changed it, and what it then sends.
_NOT_CHOSEN = (None, "default")


def preview_callback(model: Any, steps: int) -> Callable[..., None]:
    """A sampling callback that sends progress and a preview.

    ComfyUI's previews are off until they are chosen, by its option or its setting. Where neither
    was used, the pack's sampler shows what the latents' colours give, which costs next to nothing;
    a choice, "none" included, is ComfyUI's to follow. Nothing is changed for other nodes.
    """
    previewer = None if _is_chosen() else _colours(model.model.latent_format)
    if previewer is None:
        return latent_preview.prepare_callback(model, steps)
    bar = comfy.utils.ProgressBar(steps)

    def callback(step: int, x0: Any, x: Any, total_steps: int) -> None:  # noqa: ARG001
        preview = previewer.decode_latent_to_preview_image("JPEG", x0)
        bar.update_absolute(step + 1, total_steps, preview)

    return callback


def _is_chosen() -> bool:
    """Whether the user chose a preview method: with ComfyUI's option, or for the present run."""
    if args.preview_method is not LatentPreviewMethod.NoPreviews:
        return True
    if any(argument.split("=")[0] == _OPTION for argument in sys.argv):
        return True
    instance = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    queue = getattr(instance, "prompt_queue", None)
    if queue is None:  # a script, which has nobody to show pictures to
        return True
    running, _ = queue.get_current_queue_volatile()
    return any(item[3].get("preview_method") not in _NOT_CHOSEN for item in running)


def _colours(latent_format: Any) -> latent_preview.LatentPreviewer | None:
    if latent_format.latent_rgb_factors is None:  # loaded without a VAE to fit them to
        return None
    return latent_preview.Latent2RGBPreviewer(
        latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias
    )
