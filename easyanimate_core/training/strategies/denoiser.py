"""Trains the denoiser: text to video, inpaint, control and camera; all weights or a LoRA.

What a task shows the denoiser in addition to the noise comes in streams: a video that the VAE
encodes, channels of latent size, or both. Streams are encoded once and cached on disk.

Shapes: B clips, C latent channels, F latent frames, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...conditioning.channels import nothing_known
from ...conditioning.encode import encode_video
from ...errors import MediaError
from ...models.geometry import latent_shape
from ...models.specs import Head
from ...models.transformer import EasyAnimateTransformer3DModel
from ...progress import Progress, silent
from ...stages import decode_latents
from ...text import Cut, TextStates
from ...weights.files.component import write_transformer
from ..attention import training_attention
from ..clips import Clips
from ..config import TrainConfig
from ..data.buckets import Batches, Draw, shapes_for
from ..data.cache import LatentCache, digest_of_files
from ..data.held_out import measure_name
from ..data.loading import Loading, Lost
from ..data.records import Record, Sample, Shape, generator_of
from ..load_or_build import load_or_build_transformer, load_vae, part_folder
from ..lora import add_lora, write_lora
from ..lora_header import Learned, lora_header
from ..objective import Question, draw_times, objective_of
from ..samples import sampled_latents
from ..text import Captions
from .base import Agree, Batch, Losses, Weights
from .streams import REGIONS, Stream, TaskStreams, streams_of

#: The states of captions, and the channels beside the noise.
Shown = tuple[TextStates, Tensor | None]

#: Seed of what is drawn for clips that are not trained on.
HELD_OUT = "held out"
VALIDATION_TIMES = 4


@dataclass
class Content:
    """Per clip: its caption, the cached streams, and the clip itself if some are not cached.

    `draws` are those that were read, `missed` the faults of clips that could not be. `prepare`
    turns them into `latents`, `channels` and `regions`.
    """

    draws: list[Draw]
    captions: list[str]
    found: list[dict[str, Tensor]]
    samples: list[Sample | None]
    missed: dict[str, str] = field(default_factory=dict)
    latents: Tensor = field(default_factory=lambda: torch.empty(0))
    channels: Tensor | None = None
    regions: Tensor | None = None
    text: TextStates | None = None
    scales: Tensor | None = None


@dataclass(frozen=True)
class _Reading:
    """Reads the content of batches."""

    config: TrainConfig
    loading: Loading
    task: TaskStreams
    cache: LatentCache

    def __call__(self, draws: Sequence[Draw]) -> Content:
        content = Content([], [], [], [])
        for wanted in draws:
            draw, (streams, sample) = self.loading.read(wanted, self._streams, content.missed)
            random = generator_of(self.config.seed, draw.index, draw.epoch, "caption")
            content.draws.append(draw)
            content.captions.append(self._draw_caption(self._record(draw), random))
            content.found.append(streams)
            content.samples.append(sample)
        return content

    def key(self, draw: Draw, name: str) -> tuple[object, ...]:
        """The cache key of a stream."""
        task = self.task.identity(name, self.config)
        return (self._record(draw).identity, *draw.shape, draw.start, task)

    def _record(self, draw: Draw) -> Record:
        return self.loading.records[draw.index]

    def _streams(self, draw: Draw) -> tuple[dict[str, Tensor], Sample | None]:
        """The streams that are cached, and the sample if some are not."""
        names = self.task.names(draw, self.config)
        cached = {name: self.cache.read(*self.key(draw, name)) for name in names}
        found = {name: value for name, value in cached.items() if value is not None}
        return found, None if len(found) == len(names) else self.loading.load(draw)

    def _draw_caption(self, record: Record, random: Any) -> str:
        """One of the clip's captions, or an empty one."""
        if random.random() < self.config.objective.caption_dropout:
            empty = self.config.objective.empty_captions
            return empty[int(random.integers(len(empty)))]
        return record.captions[int(random.integers(len(record.captions)))]


class DenoiserStrategy:
    """Trains a denoiser for the task of its head."""

    def __init__(
        self, config: TrainConfig, records: Sequence[Record], held_out: Sequence[Record]
    ) -> None:
        self._config = config
        self._records, self._held_out = records, held_out
        self._transformer = load_or_build_transformer(config)
        self._sizes = self._transformer.config
        self._task = streams_of(config, self._sizes)
        self._vae: Any = None
        vae_files = sorted(part_folder(config.model, "vae").iterdir())
        self._cache = LatentCache(config.cache / "latents", digest_of_files(*vae_files))
        data = config.data
        self._shapes = [shapes_for(record, data.tokens, data.frames) for record in records]
        loading = Loading(records, self._shapes, config.seed)
        self._reading = _Reading(config, loading, self._task, self._cache)
        self._lost = Lost()
        self._measure = measure_name("loss", records, held_out)
        self._captions = Captions(config.model, self._sizes, config.cache / "captions")
        self._objective = objective_of(self._sizes.version, scheduler_config(config, self._sizes))
        if config.model.lora is not None:
            self._transformer.requires_grad_(requires_grad=False)
            add_lora(self._transformer, config.model.lora, seed=config.seed)
        else:
            self._transformer.requires_grad_(requires_grad=True)
        self._transformer.train()

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"denoiser": self._transformer}

    def encode_ahead(self, device: torch.device, share: slice, progress: Progress) -> None:
        known = [caption for record in self._records for caption in record.captions]
        known += [record.captions[0] for record in self._held_out]
        captions = [*self._config.objective.empty_captions, *known]
        if self._config.sample.every:
            captions.append(self._sample_prompt)
        self._captions.encode_ahead(captions[share], device, progress)

    def cut(self, captions: Sequence[str]) -> tuple[Cut, ...]:
        return self._captions.cut(captions)

    def order(self, ranks: int) -> Batches:
        data = self._config.data
        return Batches(
            self._records,
            self._shapes,
            tokens_per_batch=data.tokens_per_batch or max(data.tokens),
            ranks=ranks,
            seed=self._config.seed,
        )

    def batches(self, rank: int, ranks: int, position: int) -> Iterator[list[Draw]]:
        return self.order(ranks).of_rank(rank, position)

    @property
    def read(self) -> _Reading:
        return self._reading

    @property
    def lost(self) -> Lost:
        return self._lost

    def prepare(self, batch: Batch, device: torch.device) -> None:
        content: Content = batch.content
        self._lost.add(content.missed)
        for draw, found, sample in zip(content.draws, content.found, content.samples, strict=True):
            if sample is not None:
                self._encode(draw, sample, found, device)
        names = [self._task.names(draw, self._config) for draw in content.draws]
        latents = [found["latents"] for found in content.found]
        content.latents = torch.stack(latents).to(device)
        shown = [
            self._task.channels(
                {name: found[name] for name in own},
                self._config.objective,
                generator_of(self._config.seed, batch.position, slot, "streams"),
            )
            for slot, own, found in zip(batch.slots, names, content.found, strict=True)
        ]
        content.channels = None if shown[0] is None else torch.stack(shown).to(device)  # type: ignore[arg-type]
        if self._config.objective.region_share > 0:
            regions = [found[REGIONS] for found in content.found]
            content.regions = torch.stack(regions).to(device)
        content.text = self._captions.states(content.captions, device)

    def loss(self, name: str, networks: Mapping[str, nn.Module], batch: Batch) -> Losses | None:
        content: Content = batch.content
        random = generator_of(self._config.seed, batch.position, "noise")
        noise = batch.noise(content.latents.shape[1:], random).to(content.latents)
        count = batch.clips * batch.ranks
        times = batch.own(self._draw_times(count, random)).to(noise)
        return Losses(*self._error(networks[name], content, noise, times))

    def _draw_times(self, count: int, random: np.random.Generator) -> Tensor:
        """What is asked of `count` clips: their times."""
        return draw_times(self._config.objective, count, random)

    def _held_out_times(self, part: int) -> Tensor:
        """What is asked of one clip in this part of a validation."""
        return torch.full((1,), (part + 0.5) / VALIDATION_TIMES)

    def _ask(
        self,
        network: nn.Module,  # noqa: ARG002
        content: Content,
        noise: Tensor,
        times_B: Tensor,
    ) -> Question:
        return self._objective.ask(content.latents, noise, times_B)

    def _velocity(
        self, network: nn.Module, noisy: Tensor, timesteps_B: Tensor, shown: Shown
    ) -> Tensor:
        """The velocity in float32, in batches of any number of clips."""
        states, channels = shown
        around = recomputed if self._config.run.gradient_checkpointing else None
        velocity: Tensor = network(
            noisy,
            timesteps_B,
            states.text,
            text_t5=states.text_t5,
            condition=channels,
            attention=training_attention,
            around_block=around,
        )
        return velocity.float()

    def _error(
        self, network: nn.Module, content: Content, noise: Tensor, times_B: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        question = self._ask(network, content, noise, times_B)
        assert content.text is not None
        shown = (content.text, content.channels)
        velocity = self._velocity(network, question.noisy, question.timesteps, shown)
        errors = (velocity - question.target).square()
        error = errors.mean()
        if content.regions is None:
            return error, {"loss": error}
        inside = _mean_inside(errors, content.regions)
        share = self._config.objective.region_share
        return torch.lerp(error, inside, share), {"loss": error, "inside": inside}

    def validate(
        self, networks: Mapping[str, nn.Module], step: int, folder: Path | None, agree: Agree
    ) -> dict[str, float]:
        from ..validation import make_videos

        transformer = networks["denoiser"]
        assert isinstance(transformer, EasyAnimateTransformer3DModel)
        device = next(transformer.parameters()).device
        transformer.eval()
        losses, contents = [], self._held_out_contents(device)
        contents = {number: contents[number] for number in agree(list(contents))}
        for number, content in contents.items():
            for part in range(VALIDATION_TIMES):
                generator = torch.Generator().manual_seed(VALIDATION_TIMES * number + part)
                noise = torch.randn(content.latents.shape, generator=generator).to(device)
                times = self._held_out_times(part).to(device)
                losses.append(self._error(transformer, content, noise, times)[0])
        shown = [contents[n] for n in sorted(contents)[: self._config.validation.videos]]
        if shown:
            rows = [(c.captions[0], c.latents, c.channels, c.text) for c in shown]
            unconditional = self._captions.states(self._config.objective.empty_captions[:1], device)
            make_videos(
                transformer, self._load_vae(device), rows, unconditional,
                scheduler_config(self._config, self._sizes), self._config.validation,
                None if folder is None else folder / f"step-{step:08d}.png",
                self._config.data.fps,
            )  # fmt: skip
        transformer.train()
        return {self._measure: float(torch.stack(losses).mean())} if losses else {}

    def write_result(
        self,
        networks: Mapping[str, nn.Module],  # noqa: ARG002
        weights: Mapping[str, Weights],
        folder: Path,
        step: int,
    ) -> list[Path]:
        if self._config.model.lora is not None:
            path = folder / "lora.safetensors"
            self.write_lora(weights["denoiser"], path, step)
            return [path]
        tensors = {name: tensor.cpu() for name, tensor in weights["denoiser"].items()}
        write_transformer(folder / "transformer", self._sizes, tensors)
        return [folder / "transformer"]

    def write_lora(self, weights: Weights, path: Path, step: int) -> None:
        assert self._config.model.lora is not None
        header = lora_header(self._config, self._sizes, self._learned, step)
        write_lora(weights, self._config.model.lora, header, path)

    def sample(
        self, networks: Mapping[str, nn.Module], progress: Progress, agree: Agree
    ) -> tuple[str, Tensor]:
        transformer = networks["denoiser"]
        assert isinstance(transformer, EasyAnimateTransformer3DModel)
        device = next(transformer.parameters()).device
        settings, prompt = self._config.sample, self._sample_prompt
        size = (self._sizes.out_channels, *latent_shape(*self._learned.shape))
        channels = self._sample_channels(size[1:], device, agree)
        transformer.eval()
        try:
            latents = sampled_latents(
                transformer,
                (
                    self._captions.states(self._config.objective.empty_captions[:1], device),
                    self._captions.states([prompt], device),
                ),
                channels,
                size,
                (settings, scheduler_config(self._config, self._sizes)),
                seed=settings.seed,
                progress=lambda _, done, total: progress("sample", done, total),
            )
            return prompt, decode_latents(self._load_vae(device), latents, None, silent)
        finally:
            transformer.train()

    @property
    def _sample_prompt(self) -> str:
        return self._config.sample.prompt or self._records[0].captions[0]

    def _sample_channels(
        self, size: tuple[int, ...], device: torch.device, agree: Agree
    ) -> Tensor | None:
        """Nothing is known to an InP model; others are shown what belongs to the first clip."""
        if self._sizes.head is Head.T2V:
            return None
        if self._sizes.head is Head.INPAINT:
            return nothing_known(1, size, self._sizes.out_channels).channels.to(device)
        shown, fault = [], "another process cannot read the first clip."
        try:
            shown.append(self._content_of(0, self._records[0], self._learned.shape, device))
        except MediaError as error:
            fault = str(error)
        if not agree([0] if shown else []):
            raise MediaError(fault)
        return shown[0].channels

    @cached_property
    def _learned(self) -> Learned:
        data = self._config.data
        shapes = shapes_for(self._records[0], data.tokens, data.frames)
        return Learned(
            [caption for record in self._records for caption in record.captions],
            max(shapes, key=lambda shape: shape.tokens),
            len(self._records),
            Clips(self._records, self._held_out).digest,
        )

    def _encode(
        self, draw: Draw, sample: Sample, found: dict[str, Tensor], device: torch.device
    ) -> None:
        """Add the streams that were not cached, and cache them."""
        for name in self._task.names(draw, self._config):
            if name in found:
                continue
            random = generator_of(self._config.seed, draw.index, name)
            stream = self._task.make(name, sample, draw.shape, self._config, random)
            encoded = self._to_latents(stream, draw.shape, device)
            self._cache.write(encoded, *self._reading.key(draw, name))
            # Read back, so that all epochs see the same rounding.
            found[name] = encoded.to(torch.float16).float()

    @torch.no_grad()
    def _to_latents(self, stream: Stream, shape: Shape, device: torch.device) -> Tensor:
        parts = []
        if stream.channels is not None:
            size = latent_shape(*shape)
            parts.append(stream.channels(size, self._load_vae(device).config.scaling_factor))
        if stream.video is not None:
            video = stream.video.to(device)
            parts.append(encode_video(self._load_vae(device), video)[0].cpu())
        return torch.cat(parts)

    def _held_out_contents(self, device: torch.device) -> dict[int, Content]:
        """The held-out clips that can be read, by number."""
        contents = {}
        for number, record in enumerate(self._held_out):
            with self._lost.skipping(record):
                contents[number] = self._held_out_content(number, record, device)
        return contents

    def _held_out_content(self, number: int, record: Record, device: torch.device) -> Content:
        data = self._config.data
        shape = max(shapes_for(record, data.tokens, data.frames), key=lambda s: s.tokens)
        return self._content_of(number, record, shape, device)

    def _content_of(
        self, number: int, record: Record, shape: Shape, device: torch.device
    ) -> Content:
        draw = Draw(number, shape, 0)
        sample = record.load(shape)
        streams = {}
        for name in self._task.names(draw, self._config):
            random = generator_of(self._config.seed, number, name, HELD_OUT)
            stream = self._task.make(name, sample, shape, self._config, random)
            streams[name] = self._to_latents(stream, shape, device)
        shown = self._task.channels(streams, None, generator_of(number, HELD_OUT))
        return Content(
            [draw], [record.captions[0]], [], [],
            latents=streams["latents"].unsqueeze(0).to(device),
            channels=None if shown is None else shown.unsqueeze(0).to(device),
            text=self._captions.states([record.captions[0]], device),
        )  # fmt: skip

    def _load_vae(self, device: torch.device) -> Any:
        if self._vae is None:
            self._vae = load_vae(self._config.model, device)
        return self._vae


def _mean_inside(errors_BCFHW: Tensor, regions_B1FHW: Tensor) -> Tensor:
    """The mean where `regions` are 1, averaged over clips; a clip without a region counts as 0."""
    inside_B = (errors_BCFHW.mean(1, keepdim=True) * regions_B1FHW).sum((1, 2, 3, 4))
    return (inside_B / regions_B1FHW.sum((1, 2, 3, 4)).clamp(min=1)).mean()


def scheduler_config(config: TrainConfig, sizes: Any) -> Mapping[str, Any]:
    """The checkpoint's scheduler config; for a new network, the published one of its version."""
    from ...sampling import PUBLISHED_CONFIG
    from ...weights.files import read_json

    folder = config.model.checkpoint_folder
    if folder is None:
        return PUBLISHED_CONFIG[sizes.version]
    return read_json(folder / "scheduler" / "scheduler_config.json")


def recomputed(
    index: int,  # noqa: ARG001
    run: Any,
    video_BVC: Tensor,
    text_BTC: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run a block with gradient checkpointing: its activations are recomputed, not stored."""
    return checkpoint(run, video_BVC, text_BTC, use_reentrant=False)
