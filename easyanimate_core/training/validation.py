"""Videos generated from the captions and conditions of held-out clips during training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..conditioning.condition import Condition
from ..errors import HeldError, PrecisionError
from ..media import contact_sheet, write_mp4, write_png
from ..models.transformer import EasyAnimateTransformer3DModel
from ..models.vae import AutoencoderKLMagvit
from ..pipeline import decode_latents, sample_latents
from ..progress import silent
from ..sampling import DEFAULT_SCHEDULER, Guidance, SamplingRun, draw_noise, make_schedule
from ..text import TextStates
from .config import ValidationConfig

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
    device = next(transformer.parameters()).device
    strips = []
    for number, (caption, latents, channels, text) in enumerate(rows):
        assert text is not None
        generators = [torch.Generator().manual_seed(number)]
        schedule = make_schedule(
            DEFAULT_SCHEDULER[transformer.config.version],
            dict(scheduler_config),
            steps=config.steps,
            strength=1.0,
            device=device,
        )
        try:
            made = sample_latents(
                transformer,
                SamplingRun(schedule, Guidance(config.guidance), generators),
                text=(unconditional, text),
                condition=Condition(channels, None),
                noise=draw_noise(latents.shape[1:], generators).to(device),
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


def write_shown(write: Callable[[], object]) -> None:
    """Call `write`; if another program has the old file open, log it and continue the run."""
    said = ""
    try:
        write()
    except HeldError as error:
        said = str(error)
    if said:
        logger.error(said)
