"""Videos made of held-out clips' captions and conditions while training."""

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

#: A clip to make: caption, latents [1, C, F, H, W], condition channels, and its caption's states.
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
    """One MP4 per clip, and a picture with two strips: the clip through the VAE, and what is made.

    The picture is `path`; the videos lie beside it. Without a path nothing is written. A clip whose
    values are not finite is left out, and the log says so.
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
        except PrecisionError as error:  # the training goes on, and needs no traceback
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
    """Write what shows how a run goes; a program that holds an earlier one does not end the run."""
    said = ""
    try:
        write()
    except HeldError as error:
        said = str(error)
    if said:
        logger.error(said)
