"""The stages of a run on networks that are loaded: noise to latents, and latents to frames.

Shapes: B samples, C latent channels, F frames (pixels: 4n + 1, latents: n + 1), H and W height and
width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .conditioning.condition import Condition
from .conditioning.encode import from_model_range
from .models.precision import FiniteCheck, check_finite, wide
from .models.transformer import (
    AttentionFunction,
    EasyAnimateTransformer3DModel,
    scaled_dot_product,
)
from .models.vae import AutoencoderKLMagvit, Tiles, decode_tiled
from .progress import Progress, silent
from .sampling import (
    Denoiser,
    Guidance,
    SamplingRun,
    Step,
    denoise,
    guided_denoiser,
    keeping_known,
    saving_denoiser,
    sequential_denoiser,
)
from .text import TextStates


def sample_latents(
    transformer: EasyAnimateTransformer3DModel,
    run: SamplingRun,
    *,
    text: tuple[TextStates, TextStates],
    condition: Condition,
    noise: Tensor,
    dtype: torch.dtype = torch.float32,
    attention: AttentionFunction = scaled_dot_product,
    progress: Progress = silent,
) -> Tensor:
    """Denoise `noise` [B, C, F, H, W] to scaled latents of the same shape, in float32.

    Args:
        transformer: The denoiser.
        run: Schedule, guidance and generators of this run.
        text: States of the negative prompt (one row, or B) and of the prompts (B rows).
        condition: The head's conditioning channels and the latents that the schedule starts from.
        noise: Unit Gaussian noise in float32, on the denoiser's device.
        dtype: Compute dtype of the denoiser; the sampling itself is in float32.
        attention: The denoiser's attention kernel.
        progress: Reports the stage "denoise".

    Raises:
        PrecisionError: A prediction is not finite.
    """
    device = noise.device
    negative, positive = (part.to(device, wide(dtype)) for part in text)
    predictions = _Predictions(transformer, condition, noise, dtype, attention)
    denoiser = _guided(predictions, negative, positive, run)
    if set(run.plan) != {Step.GUIDED}:
        prompted = guided_denoiser(predictions.of(positive), Guidance(1.0))
        denoiser = saving_denoiser(denoiser, prompted, run.schedule, run.plan)
    known = None if condition.known is None else condition.known.to(device)
    if known is not None:
        denoiser = keeping_known(denoiser, run.schedule, known, noise)
    start = None if condition.start is None else condition.start.to(device)
    latents = denoise(
        denoiser,
        run.schedule,
        run.schedule.start(noise, start),
        generators=run.generators,
        progress=progress,
    )
    predictions.finite.finish()
    return latents if known is None else latents.lerp(known.latents, known.share)


class _Predictions:
    """What the denoiser predicts for prompts, with the conditioning and positions of a run."""

    def __init__(
        self,
        transformer: EasyAnimateTransformer3DModel,
        condition: Condition,
        noise: Tensor,
        dtype: torch.dtype,
        attention: AttentionFunction,
    ) -> None:
        channels = condition.channels
        self._transformer, self._dtype, self._attention = transformer, dtype, attention
        self._channels = None if channels is None else channels.to(noise.device, dtype)
        self._rope = transformer.rotary_table(noise)
        self.batch = noise.shape[0]
        self.finite = FiniteCheck("The denoiser's prediction")

    def of(self, states: TextStates) -> Denoiser:
        """Predicts for prompts of B rows, or 2 B, if the latents are as many."""

        def predict(latents: Tensor, timestep: Tensor) -> Tensor:
            copies = latents.shape[0] // self.batch
            channels = self._channels
            velocity: Tensor = self._transformer(
                latents.to(self._dtype),
                timestep,
                states.text,
                text_t5=states.text_t5,
                condition=None if channels is None else channels.repeat(copies, 1, 1, 1, 1),
                rope=self._rope,
                attention=self._attention,
            )
            self.finite.add(velocity, self._dtype)
            return velocity

        return predict


def _guided(
    predictions: _Predictions, negative: TextStates, positive: TextStates, run: SamplingRun
) -> Denoiser:
    """A denoiser that runs both prompts, in one batch or one after the other."""
    guidance = run.guidance
    if not guidance.active:
        return guided_denoiser(predictions.of(positive), guidance)
    negative = negative.repeat(predictions.batch // negative.text.shape[0])
    if run.sequential:
        return sequential_denoiser(predictions.of(negative), predictions.of(positive), guidance)
    return guided_denoiser(predictions.of(TextStates.join([negative, positive])), guidance)


def decode_latents(
    vae: AutoencoderKLMagvit, latents_1CFHW: Tensor, tiles: Tiles | None, progress: Progress
) -> Tensor:
    """Decode one sample's scaled latents to frames [F, H, W, 3] in [0, 1], float32 on the CPU.

    Raises `PrecisionError` if a pixel is not finite.
    """
    unscaled = latents_1CFHW / vae.config.scaling_factor
    if tiles is None:
        video = vae.decode(unscaled, progress=progress)
    else:
        video = decode_tiled(vae, unscaled, tiles, progress=progress)
    check_finite(video, "The VAE's output", video.dtype)
    return from_model_range(video[0].cpu())
