"""From a checkpoint folder and a prompt to a video; each stage named once, in order.

Shapes: B samples, C latent channels, F frames (pixels: 4n + 1, latents: n + 1), H and W height and
width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint import CheckpointInfo, inspect_checkpoint
from .conditioning.condition import Condition, Sources, make_condition
from .conditioning.encode import from_model_range
from .devices import pick_device, pick_dtype
from .errors import InputError
from .geometry import latent_shape
from .loading import check_weights
from .lora import Lora, LoraSet, attached, matrix_shapes
from .memory import Memory
from .models.transformer import EasyAnimateTransformer3DModel
from .models.vae import AutoencoderKLMagvit, Tiles, decode_tiled
from .networks import Networks
from .progress import Progress, silent
from .recipe import Recipe, save_videos
from .sampling import Sampler, denoise, draw_noise, guided_denoiser, make_schedule
from .settings import Settings
from .tasks import Target, Task, TextToVideo, check_head
from .text import TextEmbedding

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generation:
    """What a run made.

    `frames` is [B, F, H, W, 3] in [0, 1]; `latents` [B, C, F, H, W] are scaled, as the denoiser
    sees them; `notes` says what was cut, cropped or repeated; `recipe` repeats the run.
    """

    frames: Tensor
    latents: Tensor
    fps: float
    recipe: Recipe
    notes: tuple[str, ...] = ()

    def save(self, path: str | Path) -> list[Path]:
        """Write `path` (.mp4, or .png for one frame) and a .json recipe beside it.

        With several samples `_0`, `_1` ... is added to the name. Returns the files written.
        """
        return save_videos(Path(path), self.frames, fps=self.fps, recipe=self.recipe)


class Pipeline:
    """A checkpoint that makes videos. Networks are loaded when their stage comes.

    The text encoder is freed after use. Nothing of a run is kept on a network.
    """

    def __init__(
        self,
        info: CheckpointInfo,
        device: torch.device,
        dtype: torch.dtype,
        memory: Memory | None = None,
    ) -> None:
        self.info = info
        self.device = device
        self.dtype = dtype
        self.memory = memory or Memory()
        self._networks = Networks(info, device, dtype, self.memory)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        memory: Memory | None = None,
    ) -> Pipeline:
        """Read what the checkpoint is; weights follow when they are needed.

        Args:
            path: Checkpoint folder, original or diffusers layout.
            device: auto, cpu, cuda, cuda:N or mps.
            dtype: Compute dtype: auto, float32, bfloat16 or float16.
            memory: How the networks are held.

        Raises:
            CheckpointError: The folder is missing, damaged or another model's.
        """
        info = inspect_checkpoint(path)
        check_weights(info)
        place = pick_device(device)
        return cls(info, place, pick_dtype(dtype, place), memory)

    @torch.inference_mode()
    def generate(
        self,
        prompt: str | Sequence[str],
        task: Task | None = None,
        settings: Settings | None = None,
        *,
        loras: Sequence[Lora] = (),
        progress: Progress = silent,
    ) -> Generation:
        """Make one video per prompt and sample.

        Args:
            prompt: One prompt or several; several are a batch.
            task: The mode with its sources; text to video by default.
            settings: Size, length, sampling and seed.
            loras: LoRAs of this run. The denoiser's weights stay as they are.
            progress: Called through every stage; may raise to cancel.

        Raises:
            CheckpointError: A LoRA does not fit; raised before any weight is loaded.
            InputError: Something asked for breaks a rule of the model; raised before any weight is
                loaded.
        """
        task = task or TextToVideo()
        settings = settings or Settings()
        prompts = _check_prompts(prompt)
        plan = self._plan(task, settings)
        lora_set = LoraSet.read(loras, matrix_shapes(self.info.transformer_files))
        recipe = self._recipe(prompts, task, self._settled(settings, plan), loras)

        rows = [text for text in prompts for _ in range(settings.batch)]
        generators = [
            torch.Generator().manual_seed(settings.seed + index) for index in range(len(rows))
        ]
        positive, negative, notes = self._encode_text(prompts, settings, progress)
        positive = _repeat(positive, settings.batch)
        size = latent_shape(plan.target.frames, plan.target.height, plan.target.width)
        noise = draw_noise((self.info.transformer.out_channels, *size), generators)
        condition = self._encode_sources(plan, size, settings, generators, progress)
        schedule = make_schedule(
            plan.scheduler,
            self.info.scheduler,
            steps=settings.steps,
            strength=plan.sources.strength,
            device=self.device,
        )
        with self._transformer(lora_set, progress) as transformer:
            latents = sample_latents(
                transformer,
                Sampler(schedule, settings.guidance, generators),
                text=(negative, positive),
                condition=condition,
                noise=noise.to(self.device),
                dtype=self.dtype,
                progress=progress,
            ).cpu()
        frames = self._decode(latents, settings, progress)
        notes = plan.sources.notes + notes + lora_set.reports
        return Generation(frames, latents, settings.fps, recipe, notes)

    def _plan(self, task: Task, settings: Settings) -> _Plan:
        """Every check and every file read, before any weight is loaded."""
        check_head(task, self.info.transformer)
        strength = getattr(task, "strength", 1.0)
        config = self.info.scheduler
        scheduler = settings.scheduler_for(self.info.version, config, strength=strength)
        loaded = task.load(settings.source_seconds())
        target = settings.target(loaded)
        return _Plan(target, scheduler, loaded.align(target))

    def _recipe(
        self, prompts: Sequence[str], task: Task, settled: Settings, loras: Sequence[Lora]
    ) -> Recipe:
        return Recipe.of_run(
            self.info, prompts, task, settled, dtype=self.dtype, memory=self.memory, loras=loras
        )

    def _settled(self, settings: Settings, plan: _Plan) -> Settings:
        """The settings with what was left open filled in, for the recipe."""
        target = plan.target
        return replace(
            settings,
            height=target.height,
            width=target.width,
            frames=target.frames,
            scheduler=plan.scheduler,
        )

    def _encode_text(
        self, prompts: Sequence[str], settings: Settings, progress: Progress
    ) -> tuple[TextEmbedding, TextEmbedding, tuple[str, ...]]:
        """Embeddings of the prompts and of the negative prompt, and what was cut off."""
        texts = [settings.negative_prompt, *prompts]
        embedding = self._networks.text_encoder(progress).encode(texts)
        notes = _truncation_notes(embedding, len(texts))
        for note in notes:
            logger.warning(note)
        return _rows(embedding, slice(1, None)), _rows(embedding, slice(0, 1)), notes

    def _encode_sources(
        self,
        plan: _Plan,
        size: Sequence[int],
        settings: Settings,
        generators: Sequence[torch.Generator],
        progress: Progress,
    ) -> Condition:
        with self._networks.vae(progress) as vae:
            return make_condition(
                vae,
                self.info.transformer,
                _sources_to(plan.sources, self.device, self.dtype),
                size,
                noise_amplitude=settings.reference_noise,
                generators=generators,
                progress=progress,
            )

    @contextmanager
    def _transformer(
        self, loras: LoraSet, progress: Progress
    ) -> Iterator[EasyAnimateTransformer3DModel]:
        """The denoiser with a run's LoRAs beside its layers."""
        with (
            self._networks.transformer(progress) as transformer,
            attached(transformer, loras, device=self.device, dtype=self.dtype),
        ):
            yield transformer

    def _decode(self, latents: Tensor, settings: Settings, progress: Progress) -> Tensor:
        """Frames [B, F, H, W, 3] in [0, 1], one sample after the other."""
        tiles = None if settings.tile is None else Tiles(settings.tile)
        with self._networks.vae(progress) as vae:
            return torch.stack(
                [
                    decode_latents(vae, sample.to(self.device, self.dtype), tiles, progress)
                    for sample in latents.split(1)
                ]
            )


@dataclass(frozen=True)
class _Plan:
    target: Target
    scheduler: str
    sources: Sources


def sample_latents(
    transformer: EasyAnimateTransformer3DModel,
    sampler: Sampler,
    *,
    text: tuple[TextEmbedding, TextEmbedding],
    condition: Condition,
    noise: Tensor,
    dtype: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> Tensor:
    """Denoise `noise` [B, C, F, H, W] to scaled latents of the same shape, in float32.

    Args:
        transformer: The denoiser.
        sampler: Schedule, guidance and generators of this run.
        text: Embeddings of the negative prompt (one row, or B) and of the prompts (B rows).
        condition: What the head is shown and what the schedule starts from.
        noise: Unit Gaussian noise in float32, on the denoiser's device.
        dtype: Compute dtype of the denoiser; the sampling itself is in float32.
        progress: Reports the stage "denoise".
    """
    batch, device, guidance = noise.shape[0], noise.device, sampler.guidance
    negative, positive = (part.to(device, dtype) for part in text)
    copies = 2 if guidance.active else 1
    states = _joined(negative, positive, batch) if guidance.active else positive
    channels = condition.channels
    if channels is not None:
        channels = channels.to(device, dtype).repeat(copies, 1, 1, 1, 1)
    rope = transformer.rotary_table(noise)

    def predict(latents: Tensor, timestep: Tensor) -> Tensor:
        return transformer(
            latents.to(dtype),
            timestep,
            states.text,
            text_t5=states.text_t5,
            condition=channels,
            rope=rope,
        )

    known = None if condition.known is None else condition.known.to(device)
    return denoise(
        guided_denoiser(predict, guidance),
        sampler.schedule,
        sampler.schedule.start(noise, known),
        generators=sampler.generators,
        progress=progress,
    )


def decode_latents(
    vae: AutoencoderKLMagvit, latents_1CFHW: Tensor, tiles: Tiles | None, progress: Progress
) -> Tensor:
    """One sample's scaled latents to frames [F, H, W, 3] in [0, 1], on the CPU in float32."""
    unscaled = latents_1CFHW / vae.config.scaling_factor
    if tiles is None:
        video = vae.decode(unscaled, progress=progress)
    else:
        video = decode_tiled(vae, unscaled, tiles, progress=progress)
    return from_model_range(video[0].cpu())


def _check_prompts(prompt: str | Sequence[str]) -> tuple[str, ...]:
    several = isinstance(prompt, Sequence) and not isinstance(prompt, str)
    prompts: tuple[Any, ...] = tuple(prompt) if several else (prompt,)
    if not prompts or not all(isinstance(text, str) for text in prompts):
        raise InputError(f"The prompt is {prompt!r}; give a text, or a list of at least one text.")
    if any("\ud800" <= letter <= "\udfff" for text in prompts for letter in text):
        raise InputError(
            f"The prompt {prompts!r} holds bytes that are no UTF-8 text; type it anew."
        )
    return prompts


def _truncation_notes(embedding: TextEmbedding, count: int) -> tuple[str, ...]:
    notes = []
    limits = (
        (embedding.truncated, embedding.text.shape[1], ""),
        (embedding.truncated_t5, 0 if embedding.text_t5 is None else embedding.text_t5.shape[1],
         " (second text encoder)"),
    )  # fmt: skip
    for index in range(count):
        name = "The negative prompt" if index == 0 else f"Prompt {index}"
        for cut, limit, encoder in limits:
            if index < len(cut) and cut[index]:
                notes.append(f"{name} is cut at {limit} tokens{encoder}: {cut[index]!r} is unread.")
    return tuple(notes)


def _sources_to(sources: Sources, device: torch.device, dtype: torch.dtype) -> Sources:
    def move(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(device, dtype)

    return replace(
        sources,
        video=move(sources.video),
        mask=move(sources.mask),
        control=move(sources.control),
        plucker=move(sources.plucker),
        reference=move(sources.reference),
    )


def _map_rows(embedding: TextEmbedding, change: Callable[[Tensor], Tensor]) -> TextEmbedding:
    return replace(
        embedding,
        text=change(embedding.text),
        mask=change(embedding.mask),
        text_t5=None if embedding.text_t5 is None else change(embedding.text_t5),
        mask_t5=None if embedding.mask_t5 is None else change(embedding.mask_t5),
    )


def _rows(embedding: TextEmbedding, rows: slice) -> TextEmbedding:
    return _map_rows(embedding, lambda tensor: tensor[rows])


def _repeat(embedding: TextEmbedding, times: int) -> TextEmbedding:
    return _map_rows(embedding, lambda tensor: tensor.repeat_interleave(times, dim=0))


def _joined(negative: TextEmbedding, positive: TextEmbedding, batch: int) -> TextEmbedding:
    """Negative rows first, `batch` of each."""
    rows = batch // negative.text.shape[0]
    first = _repeat(negative, rows)
    t5 = None
    if first.text_t5 is not None and positive.text_t5 is not None:
        t5 = torch.cat([first.text_t5, positive.text_t5])
    return replace(positive, text=torch.cat([first.text, positive.text]), text_t5=t5)
