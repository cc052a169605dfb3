"""Clips that the weights of a run make while it trains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..conditioning.condition import Condition
from ..media import contact_sheet, write_mp4, write_png
from ..models.transformer import EasyAnimateTransformer3DModel
from ..progress import Progress, silent
from ..sampling import DEFAULT_SCHEDULER, Guidance, SamplingRun, draw_noise, make_schedule
from ..stages import sample_latents
from ..text import TextStates
from .config import SampleConfig, ValidationConfig
from .written import write_shown

#: Folder of the samples, inside the run's folder.
SAMPLES = "samples"
_SHOWN_FRAMES = 6


def sampled_latents(
    transformer: EasyAnimateTransformer3DModel,
    text: tuple[TextStates, TextStates],
    channels: Tensor | None,
    size: tuple[int, ...],
    settings: tuple[SampleConfig | ValidationConfig, Mapping[str, Any]],
    *,
    seed: int,
    progress: Progress = silent,
) -> Tensor:
    """Latents [1, C, F, H, W] of `size` [C, F, H, W], from noise of the seed.

    `text` are the states of the empty and of the wanted prompt; `settings` the steps and guidance,
    and the scheduler's config. No other random numbers are drawn.

    Raises:
        PrecisionError: A prediction is not finite.
    """
    config, scheduler = settings
    device = next(transformer.parameters()).device
    generators = [torch.Generator().manual_seed(seed)]
    schedule = make_schedule(
        DEFAULT_SCHEDULER[transformer.config.version],
        dict(scheduler),
        steps=config.steps,
        strength=1.0,
        device=device,
    )
    return sample_latents(
        transformer,
        SamplingRun(schedule, Guidance(config.guidance), generators),
        text=text,
        condition=Condition(channels, None),
        noise=draw_noise(size, generators).to(device),
        progress=progress,
    )


class Samples:
    """The samples of a run in `folder`, and the time that they take."""

    def __init__(self, folder: Path, fps: float) -> None:
        self._folder, self._fps = folder, fps
        self._began = time.perf_counter()
        self._count, self._seconds = 0, 0.0

    def keep(self, step: int, prompt: str, frames: Tensor) -> tuple[Path, Tensor]:
        """Write the frames as an image, and as a video if there are several.

        Returns the image's file and the image [1, H, W, 3].
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step-{step:08d}.png"
        if len(frames) > 1:
            write_shown(partial(write_mp4, path.with_suffix(".mp4"), frames, fps=self._fps))
        sheet = contact_sheet(
            [(f"step {step}: {prompt}", frames)], columns=min(_SHOWN_FRAMES, len(frames))
        )
        write_shown(partial(write_png, path, sheet))
        return path, sheet

    def count(self, seconds: float) -> None:
        """Count a sample, which took so long."""
        self._count += 1
        self._seconds += seconds

    def lines(self) -> list[str]:
        """What they cost, if there are any."""
        if not self._count:
            return []
        share = self._seconds / max(time.perf_counter() - self._began, self._seconds)
        return [
            f"Samples: {self._count} in {self._folder}; they took {self._seconds:.0f} s, "
            f"{share:.0%} of the time."
        ]
