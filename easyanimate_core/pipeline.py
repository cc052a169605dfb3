"""The pipeline: from a checkpoint folder and a prompt to a video, stage by stage.

Shapes: B samples, C latent channels, F frames (pixels: 4n + 1, latents: n + 1), H and W height and
width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .conditioning.condition import Condition, Sources, make_condition
from .errors import InputError
from .memory.card_speeds import speeds_of
from .memory.devices import card_of, device_notes, pick_device, pick_dtype
from .memory.options import Kernels, Memory, quantizations_on
from .memory.plan import Job, Limits, Plan, choose, facts_of
from .models.geometry import latent_shape
from .models.transformer import (
    EasyAnimateTransformer3DModel,
    attention_of,
    check_compiles,
    compiled,
)
from .models.vae import TiledEncoder, Tiles
from .networks import Networks
from .output import save_videos
from .progress import Progress, silent
from .recipe import Recipe
from .sampling import SamplingRun, draw_noise, make_schedule, note_of
from .settings import DEFAULT_NEGATIVE_PROMPT, Settings
from .stages import decode_latents, sample_latents
from .tasks import Target, Task, TextToVideo, check_head
from .text import (
    EmbeddingCache,
    EncodedPrompt,
    PromptEmbeddings,
    TextStates,
    encode_prompts,
    encoder_identity,
    find_cache_folder,
)
from .weights.files import CheckpointInfo, inspect_checkpoint
from .weights.loading import check_weights
from .weights.lora import Lora, LoraSet, attached, matrix_shapes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generation:
    """The result of a run.

    `frames` is [B, F, H, W, 3] in [0, 1]; `latents` [B, C, F, H, W] are scaled as for the denoiser;
    `notes` report what was truncated, cropped or repeated; `recipe` reproduces the run.
    """

    frames: Tensor
    latents: Tensor
    fps: float
    recipe: Recipe
    notes: tuple[str, ...] = ()

    def save(self, path: str | Path) -> list[Path]:
        """Write `path` (.mp4, or .png for one frame) and a .json recipe next to it.

        With several samples, `_0`, `_1`, ... is appended to the name. Returns the files written.
        """
        return save_videos(Path(path), self.frames, fps=self.fps, recipe=self.recipe)


class Pipeline:
    """Generates videos with a checkpoint. Networks are loaded when their stage needs them.

    The text encoder is freed after use. No state of a run is kept on a network.
    """

    def __init__(
        self,
        info: CheckpointInfo,
        device: torch.device,
        dtype: torch.dtype,
        memory: Memory | None = None,
        embedding_cache: bool | str | Path = True,
        kernels: Kernels | None = None,
    ) -> None:
        self.info = info
        self.device = device
        self.dtype = dtype
        self.memory = memory or Memory()
        self._networks = Networks(info, device, dtype, self.memory)
        default = find_cache_folder() if embedding_cache else None
        self._cache = default if isinstance(embedding_cache, bool) else Path(embedding_cache)
        self.kernels = kernels or Kernels()
        capability = card_of(device).capability
        self._attention = attention_of(self.kernels.attention, device, dtype, capability)
        if self.kernels.compile:
            check_compiles(device)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        memory: Memory | None = None,
        embedding_cache: bool | str | Path = True,
        kernels: Kernels | None = None,
    ) -> Pipeline:
        """Inspect a checkpoint; weights are loaded when needed.

        Args:
            path: Checkpoint folder, original or diffusers layout.
            device: auto, cpu, cuda, cuda:N, xpu, xpu:N or mps.
            dtype: Compute dtype: auto, float32, bfloat16 or float16. Beside float16 the VAE is in
                float32 and the text encoders in bfloat16, whose values leave float16's range.
            memory: How the networks are kept.
            embedding_cache: Keep the prompts' embeddings on disk, so that a prompt that was used
                before needs no text encoder: in the folder of `find_cache_folder`, or in the one
                that is given. Deleting the folder clears it.
            kernels: How the denoiser is computed.

        Raises:
            CheckpointError: The folder is missing, damaged or another model's.
            InputError: This machine lacks the device, or what `kernels` needs.
        """
        info = inspect_checkpoint(path)
        check_weights(info)
        place = pick_device(device)
        compute = pick_dtype(dtype, place)
        for note in device_notes(device, place, compute):
            logger.warning(note)
        return cls(info, place, compute, memory, embedding_cache, kernels)

    def with_memory(self, memory: Memory) -> Pipeline:
        """The same checkpoint kept otherwise in memory; networks are loaded anew."""
        cache = False if self._cache is None else self._cache
        return Pipeline(self.info, self.device, self.dtype, memory, cache, self.kernels)

    @torch.inference_mode()
    def generate(
        self,
        prompt: str | Sequence[str] | PromptEmbeddings,
        task: Task | None = None,
        settings: Settings | None = None,
        *,
        loras: Sequence[Lora] = (),
        progress: Progress = silent,
    ) -> Generation:
        """Make one video per prompt and sample.

        Args:
            prompt: One prompt, or several as a batch. Or embeddings from `encode` or
                `read_embeddings`, which need no text encoder; their negative prompt replaces the
                one in the settings.
            task: The mode with its sources; text to video by default.
            settings: Size, length, sampling and seed.
            loras: LoRAs for this run. The denoiser's weights are not modified.
            progress: Called through every stage; may raise to cancel.

        Raises:
            CheckpointError: A LoRA does not fit; raised before any weight is loaded.
            InputError: A parameter breaks a rule of the model; raised before any weight is loaded.
            PrecisionError: Values left the range of the dtype; no video is made.
        """
        task = task or TextToVideo()
        settings = settings or Settings()
        text = prompt if isinstance(prompt, PromptEmbeddings) else None
        if text is not None:
            text.check(self.info.transformer)
        prompts = _check_prompts(prompt)
        inputs = self._inputs(task, settings)
        base = (self.info.version, self.info.head)
        lora_set = LoraSet.read(loras, matrix_shapes(self.info.transformer_files.weights), base)
        recipe = Recipe.of_run(
            self.info, prompts, task, self._settled(settings, inputs, text), dtype=self.dtype,
            memory=self.memory, embeddings=None if text is None else text.file, loras=loras,
        )  # fmt: skip
        if text is None:
            text = self._encode_text(prompts, settings.negative_prompt, progress)
        seeds = range(settings.seed, settings.seed + len(text) * settings.batch)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        size = latent_shape(inputs.target.frames, inputs.target.height, inputs.target.width)
        noise = draw_noise((self.info.transformer.out_channels, *size), generators)
        condition = self._encode_sources(inputs, size, settings, generators, progress)
        run = self._sampling_run(inputs, settings, generators)
        with self._transformer(lora_set, progress) as transformer:
            latents = sample_latents(
                transformer,
                run,
                text=(text.negative, text.positive.repeat(settings.batch)),
                condition=condition,
                noise=noise.to(self.device),
                dtype=self.dtype,
                attention=self._attention,
                progress=progress,
            ).cpu()
        frames = self._decode(latents, settings, progress)
        notes = inputs.sources.notes + text.notes + lora_set.reports + _saved(run)
        return Generation(frames, latents, settings.fps, recipe, notes)

    @torch.inference_mode()
    def encode(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str = DEFAULT_NEGATIVE_PROMPT,
        *,
        progress: Progress = silent,
    ) -> PromptEmbeddings:
        """Encode prompts once, for any number of calls of `generate`.

        `write_embeddings` saves them to a file. Raises `InputError` as `generate` does.
        """
        return self._encode_text(_check_prompts(prompt), negative_prompt, progress)

    def plan_memory(
        self,
        task: Task | None = None,
        settings: Settings | None = None,
        *,
        limits: Limits,
        writes: bool = False,
        prefer: str = "exact",
    ) -> Plan:
        """How a run would best be kept in memory; nothing is loaded but the sources.

        Use them with `Pipeline.load(..., memory=plan.memory)` and
        `replace(settings, tile=plan.tile)`. `writes`: whether `enhance_prompts` runs first.
        `prefer`: "exact", or "speed" also where the result changes slightly. Raises `InputError` as
        `generate` does; `plan.fits` tells whether the run fits. A card is measured once.
        """
        settings = settings or Settings()
        asked = self._inputs(task or TextToVideo(), settings)
        sources, target = asked.sources, asked.target
        job = Job(
            target.height,
            target.width,
            target.frames,
            batch=settings.batch,
            guidance=settings.guidance.active,
            encodes=any(s is not None for s in (sources.video, sources.control, sources.reference)),
            writes=writes,
        )
        kinds = quantizations_on(card_of(self.device))
        return choose(
            facts_of(self.info),
            job,
            limits,
            compute=self.dtype,
            kinds=kinds,
            speeds=speeds_of(self.device),
            prefer=prefer,
        )

    def _inputs(self, task: Task, settings: Settings) -> _Inputs:
        """Run all checks and read all files, before any weight is loaded."""
        check_head(task, self.info.transformer)
        scheduler = settings.scheduler_for(
            self.info.version, self.info.scheduler, strength=task.strength
        )
        loaded = task.load(max_seconds=settings.source_seconds(), fit=settings.fit())
        target = settings.target(loaded)
        return _Inputs(target, scheduler, loaded.align(target))

    def _sampling_run(
        self, inputs: _Inputs, settings: Settings, generators: Sequence[torch.Generator]
    ) -> SamplingRun:
        schedule = make_schedule(
            inputs.scheduler,
            self.info.scheduler,
            steps=settings.steps,
            strength=inputs.sources.strength,
            device=self.device,
        )
        return SamplingRun(
            schedule,
            settings.guidance,
            generators,
            self.memory.sequential_guidance,
            settings.step_cache,
        )

    def _settled(
        self, settings: Settings, inputs: _Inputs, given: PromptEmbeddings | None
    ) -> Settings:
        """The settings with all defaults resolved, for the recipe."""
        target = inputs.target
        negative = None if given is None else given.negative_prompt
        return replace(
            settings,
            height=target.height,
            width=target.width,
            frames=target.frames,
            scheduler=inputs.scheduler,
            negative_prompt=settings.negative_prompt if negative is None else negative,
        )

    def _encode_text(
        self, prompts: Sequence[str], negative_prompt: str, progress: Progress
    ) -> PromptEmbeddings:
        """Encode the prompts and the negative prompt; notes report what was truncated."""
        cache = None
        if self._cache is not None:
            identity = encoder_identity(
                self.info,
                dtype=self._networks.text_dtype,
                device=self._networks.text_device,
                quantization=self.memory.text_quantization,
            )
            cache = EmbeddingCache(self._cache, identity)
        (negative, *positive), notes = encode_prompts(
            (negative_prompt, *prompts), lambda: self._networks.text_encoder(progress), cache
        )
        notes = (*_truncation_notes((negative, *positive)), *notes)
        for note in notes:
            logger.warning(note)
        states = TextStates.join([encoded.states for encoded in positive])
        return PromptEmbeddings(
            states, negative.states, tuple(prompts), negative_prompt, notes=notes
        )

    def _encode_sources(
        self,
        inputs: _Inputs,
        size: Sequence[int],
        settings: Settings,
        generators: Sequence[torch.Generator],
        progress: Progress,
    ) -> Condition:
        with self._networks.vae(progress) as vae:
            tiled = (
                None if settings.tile is None else TiledEncoder(vae, Tiles.of_side(settings.tile))
            )
            return make_condition(
                tiled or vae,
                self.info.transformer,
                _sources_to(inputs.sources, self.device, self._networks.vae_dtype),
                size,
                noise_amplitude=settings.reference_noise,
                keep_known=self.info.transformer.keep_known
                if settings.keep_known is None
                else settings.keep_known,
                generators=generators,
                progress=progress,
            )

    @contextmanager
    def _transformer(
        self, loras: LoraSet, progress: Progress
    ) -> Iterator[EasyAnimateTransformer3DModel]:
        """The denoiser with a run's LoRAs attached, compiled if asked for."""
        with (
            self._networks.transformer(progress) as transformer,
            attached(transformer, loras, device=self.device, dtype=self.dtype),
            compiled(transformer.transformer_blocks) if self.kernels.compile else nullcontext(),
        ):
            yield transformer

    def _decode(self, latents: Tensor, settings: Settings, progress: Progress) -> Tensor:
        """Decode to frames [B, F, H, W, 3] in [0, 1], one sample at a time."""
        tiles = None if settings.tile is None else Tiles.of_side(settings.tile)
        dtype = self._networks.vae_dtype
        with self._networks.vae(progress) as vae:
            return torch.stack(
                [
                    decode_latents(vae, sample.to(self.device, dtype), tiles, progress)
                    for sample in latents.split(1)
                ]
            )


@dataclass(frozen=True)
class _Inputs:
    target: Target
    scheduler: str
    sources: Sources


def _saved(run: SamplingRun) -> tuple[str, ...]:
    """A note on what was left out, if anything was to be."""
    if run.step_cache == 0 and (run.guidance.window == 1 or not run.guidance.active):
        return ()
    return (note_of(run.plan, guided=run.guidance.active),)


def _check_prompts(prompt: str | Sequence[str] | PromptEmbeddings) -> tuple[str, ...]:
    if isinstance(prompt, PromptEmbeddings):
        return prompt.prompts
    several = isinstance(prompt, Sequence) and not isinstance(prompt, str)
    prompts: tuple[Any, ...] = tuple(prompt) if several else (prompt,)
    if not prompts or not all(isinstance(text, str) for text in prompts):
        raise InputError(f"The prompt is {prompt!r}; give a text, or a list of at least one text.")
    if any("\ud800" <= letter <= "\udfff" for text in prompts for letter in text):
        raise InputError(
            f"The prompt {prompts!r} is not valid UTF-8. Type it again, or start Python with "
            "-X utf8."
        )
    return prompts


def _truncation_notes(prompts: Sequence[EncodedPrompt]) -> tuple[str, ...]:
    """Notes about truncated prompts; the first one is the negative prompt."""
    notes = []
    for index, encoded in enumerate(prompts):
        name = "The negative prompt" if index == 0 else f"Prompt {index}"
        states = (encoded.states.text, encoded.states.text_t5)
        for number, (tokens, cut) in enumerate(zip(states, encoded.cut, strict=False)):
            if tokens is not None and cut:
                encoder = " (second text encoder)" if number else ""
                limit = tokens.shape[1]
                notes.append(f"{name} was cut at {limit} tokens{encoder}: {cut!r} was not read.")
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
