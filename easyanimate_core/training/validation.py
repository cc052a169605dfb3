"""Videos generated from the captions and conditions of held-out clips during training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import PrecisionError
from ..media import contact_sheet, write_mp4, write_png
from ..models.transformer import EasyAnimateTransformer3DModel
from ..models.vae import AutoencoderKLMagvit
from ..progress import silent
from ..stages import decode_latents
from ..text import TextStates
from .config import ValidationConfig
from .samples import sampled_latents
from .written import write_shown

logger = logging.getLogger(__name__)

#: A clip to generate: caption, latents [1, C, F, H, W], condition channels, text states.
Row = tuple[str, Tensor, Tensor | None, TextStates | None]
_SHOWN_FRAMES = 6


def make_videos(
    transformer: EasyAnimateTransformer3DModel,
    vae: AutoencoderKLMagvit,
    rows: Sequence[Row],
    unconditional: TextStates,
    scheduler_config: Mapping[str, Any],
    config: ValidationConfig,
    path: Path | None,
    fps: float,
) -> None:
    """Write one MP4 per clip, and an image with two strips each: the decoded and generated clip.

    The image is `path`, and the videos are written next to it; without a path, nothing is written.
    A clip with values that are not finite is left out and logged.
    """
    strips = []
    for number, (caption, latents, channels, text) in enumerate(rows):
        assert text is not None
        try:
            made = sampled_latents(
                transformer,
                (unconditional, text),
                channels,
                tuple(latents.shape[1:]),
                (config, scheduler_config),
                seed=number,
            )
        except PrecisionError as error:  # training continues, so no traceback is needed
            logger.error("Clip %d of the validation is left out: %s", number, error)  # noqa: TRY400
            continue
        if path is None:
            continue
        for kind, values in (("clip", latents), ("made", made)):
            frames = decode_latents(vae, values, None, silent)
            strips.append((f"{kind}: {caption}", frames))
        if len(frames) > 1:
            file = path.with_name(f"{path.stem}-{number}.mp4")
            write_shown(partial(write_mp4, file, frames, fps=fps))
    if path is not None and strips:
        write_shown(lambda: write_png(path, contact_sheet(strips, columns=_SHOWN_FRAMES)))
