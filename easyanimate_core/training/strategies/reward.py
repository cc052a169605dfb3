"""Trains a LoRA by gradients of rewards: samples with it, decodes, scores, and goes back.

Gradients flow through the reward, the decoded frames and the last steps of the sampling loop
(Clark et al., arXiv 2309.17400; Prabhudesai et al., arXiv 2310.03739). A tie to the velocity
without the LoRA keeps it from drifting to whatever the reward happens to like.

Shapes: B clips, C latent channels, F latent frames, H and W latent height and width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ...conditioning.channels import nothing_known
from ...conditioning.condition import Condition
from ...errors import HeadError, PrecisionError
from ...media import contact_sheet, write_mp4, write_png
from ...models.geometry import latent_shape, pixel_frames
from ...models.specs import Head
from ...models.transformer import EasyAnimateTransformer3DModel
from ...models.vae import AutoencoderKLMagvit
from ...progress import Progress, silent
from ...sampling import DEFAULT_SCHEDULER, Guidance, SamplingRun, make_schedule
from ...scores import Scorer, build_scorer, check_sources
from ...stages import decode_latents, sample_latents
from ...text import Cut, TextStates
from ..attention import training_attention
from ..clips import Clips
from ..config import SampleConfig, TrainConfig, ValidationConfig
from ..data.buckets import Batches, Draw
from ..data.held_out import are_trained
from ..data.loading import Lost
from ..data.records import Record, Shape, generator_of
from ..load_or_build import load_or_build_transformer, load_vae
from ..lora import add_lora, without_lora, write_lora
from ..lora_header import Learned, lora_header
from ..samples import sampled_latents
from ..text import Captions
from ..tracking import DRIFT, REWARD
from ..unrolled import Plan, Unrolled
from ..written import write_shown
from .base import Agree, Batch, Losses, Weights
from .denoiser import recomputed, scheduler_config

_SHOWN_FRAMES = 6


@dataclass
class _Content:
    """Per clip its prompt and the states of it; `noise` [B, C, F, H, W]; `plan` is the batch's."""

    prompts: list[str]
    noise: Tensor | None = None
    text: TextStates | None = None
    plan: Plan | None = None


@dataclass(frozen=True)
class _Reading:
    """Draws the prompts of batches."""

    records: Sequence[Record]
    seed: int

    def __call__(self, draws: Sequence[Draw]) -> _Content:
        return _Content([self._prompt(draw) for draw in draws])

    def _prompt(self, draw: Draw) -> str:
        texts = self.records[draw.index].captions
        random = generator_of(self.seed, draw.index, draw.epoch, "caption")
        return texts[int(random.integers(len(texts)))]


class RewardStrategy:
    """Trains the LoRA of a denoiser that makes videos of prompts: its head is T2V or InP."""

    def __init__(
        self, config: TrainConfig, records: Sequence[Record], held_out: Sequence[Record]
    ) -> None:
        assert config.reward is not None and config.model.lora is not None
        self._config, self._reward = config, config.reward
        self._records, self._held_out = records, held_out
        self._shape = Shape(self._reward.frames, self._reward.height, self._reward.width)
        self._reading = _Reading(records, config.seed)
        self._lost = Lost()
        self._transformer = load_or_build_transformer(config)
        self._sizes = self._transformer.config
        if self._sizes.head not in (Head.T2V, Head.INPAINT):
            raise HeadError(
                f"Rewards train on videos of prompts alone, but this denoiser has the "
                f"{self._sizes.head.value} head. Choose a T2V or InP checkpoint."
            )
        self._captions = Captions(config.model, self._sizes, config.cache / "captions")
        self._scheduler = scheduler_config(config, self._sizes)
        self._transformer.requires_grad_(requires_grad=False)
        add_lora(self._transformer, config.model.lora, seed=config.seed)
        self._transformer.train()
        for name, reward in self._reward.rewards.items():
            check_sources(name, reward.sources(self._reward.scored))
        self._scorers: dict[str, Scorer] = {}
        self._vae: AutoencoderKLMagvit | None = None
        self._before: dict[str, float] | None = None

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"denoiser": self._transformer}

    def encode_ahead(self, device: torch.device, share: slice, progress: Progress) -> None:
        known = [caption for record in self._records for caption in record.captions]
        known += [record.captions[0] for record in self._held_out]
        captions = [self._empty, *known]
        if self._config.sample.every:
            captions.append(self._sample_prompt)
        self._captions.encode_ahead(captions[share], device, progress)
        self._load_scorers(device)

    def cut(self, captions: Sequence[str]) -> tuple[Cut, ...]:
        return self._captions.cut(captions)

    def order(self, ranks: int) -> Batches:
        return Batches(
            self._records,
            [[self._shape]] * len(self._records),
            tokens_per_batch=self._config.data.tokens_per_batch or self._shape.tokens,
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
        content: _Content = batch.content
        random = generator_of(self._config.seed, batch.position, "noise")
        content.noise = batch.noise(self._latent_size, random).to(device)
        content.text = self._captions.states(content.prompts, device)
        plan = generator_of(self._config.seed, batch.position, "plan")
        content.plan = Plan.drawn(self._reward, plan)

    def loss(self, name: str, networks: Mapping[str, nn.Module], batch: Batch) -> Losses | None:
        content: _Content = batch.content
        assert content.plan is not None
        run = Unrolled(
            networks[name],
            content.plan,
            self._transformer.rotary_table,
            through_inputs=self._reward.through_inputs,
            around_block=recomputed if self._config.run.gradient_checkpointing else None,
        )
        try:
            latents = self._sampled(run, content)
            frames = self._frames(latents, content.plan.first)
        except PrecisionError:  # the trainer tells of it and sets the state aside
            weights = (p.sum() for p in networks[name].parameters() if p.requires_grad)
            return Losses(nothing := math.nan * sum(weights, torch.zeros(())), {"loss": nothing})
        parts, total = {}, torch.zeros((), device=frames.device)
        for kind, scorer in self._load_scorers(frames.device).items():
            reward = self._reward.rewards[kind]
            scores = scorer(frames, content.prompts).float()
            parts[f"{REWARD}{kind}"] = scores.mean()
            total = total + reward.weight * (reward.target - scores).abs().mean()
        if run.drift is not None:
            parts[DRIFT] = run.drift
            total = total + self._reward.tie * run.drift
        return Losses(total, {"loss": total, **parts})

    def _sampled(self, run: Unrolled, content: _Content) -> Tensor:
        noise = content.noise
        assert noise is not None and content.text is not None
        schedule = make_schedule(
            DEFAULT_SCHEDULER[self._sizes.version],
            self._scheduler,
            steps=self._reward.steps,
            device=noise.device,
        )
        return sample_latents(
            run,  # type: ignore[arg-type]
            SamplingRun(schedule, Guidance(self._reward.guidance), []),
            text=(self._captions.states([self._empty], noise.device), content.text),
            condition=Condition(self._nothing(len(noise), noise.device), None),
            noise=noise,
            attention=training_attention,
        )

    def _frames(self, latents_BCFHW: Tensor, first: int) -> Tensor:
        """The frames [B, F, 3, H, W] in [0, 1] of the latent frames from `first` on."""
        vae = self._load_vae(latents_BCFHW.device)
        latents = latents_BCFHW[:, :, : first + self._reward.num_decoded]
        video = vae.decode(latents / vae.config.scaling_factor, constant=first)
        known = pixel_frames(first) if first else 0
        frames: Tensor = (video[:, :, known:].float() / 2 + 0.5).clamp(0, 1)
        return frames.transpose(1, 2)

    def validate(
        self,
        networks: Mapping[str, nn.Module],
        step: int,
        folder: Path | None,
        agree: Agree,  # noqa: ARG002  (prompts can always be read)
    ) -> dict[str, float]:
        transformer = networks["denoiser"]
        assert isinstance(transformer, EasyAnimateTransformer3DModel)
        transformer.eval()
        try:
            if self._before is None:
                with without_lora(transformer):
                    self._before, _ = self._measured(transformer)
            figures, made = self._measured(transformer)
        finally:
            transformer.train()
        if folder is not None:
            self._show(made, folder / f"step-{step:08d}.png")
        gains = {f"{name}_gain": value - self._before[name] for name, value in figures.items()}
        return {**figures, **gains}

    def _measured(
        self, transformer: EasyAnimateTransformer3DModel
    ) -> tuple[dict[str, float], list[tuple[str, Tensor]]]:
        """The mean scores of held-out prompts, by the name of the measure, and what was made."""
        suffix = "_of_trained_prompts" if are_trained(self._records, self._held_out) else ""
        sums = dict.fromkeys(self._reward.rewards, 0.0)
        made = []
        for number, record in enumerate(self._held_out):
            prompt = record.captions[0]
            frames = self._made(transformer, prompt, self._config.validation, number, silent)
            made.append((prompt, frames))
            device = next(transformer.parameters()).device
            clip = frames.movedim(-1, 1)[None].to(device)
            for name, scorer in self._load_scorers(device).items():
                sums[name] += float(scorer(clip, [prompt])[0])
        count = max(1, len(made))
        return {f"{REWARD}{name}{suffix}": total / count for name, total in sums.items()}, made

    def _show(self, made: Sequence[tuple[str, Tensor]], path: Path) -> None:
        shown = made[: self._config.validation.videos]
        for number, (_, frames) in enumerate(shown):
            if len(frames) > 1:
                file = path.with_name(f"{path.stem}-{number}.mp4")
                write_shown(partial(write_mp4, file, frames, fps=self._config.data.fps))
        if shown:
            sheet = contact_sheet(shown, columns=_SHOWN_FRAMES)
            write_shown(partial(write_png, path, sheet))

    def _made(
        self,
        transformer: EasyAnimateTransformer3DModel,
        prompt: str,
        settings: SampleConfig | ValidationConfig,
        seed: int,
        progress: Progress,
    ) -> Tensor:
        """The frames [F, H, W, 3] in [0, 1] of a prompt, without gradients."""
        device = next(transformer.parameters()).device
        states = [self._captions.states([text], device) for text in (self._empty, prompt)]
        latents = sampled_latents(
            transformer,
            (states[0], states[1]),
            self._nothing(1, device),
            self._latent_size,
            (settings, self._scheduler),
            seed=seed,
            progress=progress,
        )
        return decode_latents(self._load_vae(device), latents, None, silent)

    def write_result(
        self,
        networks: Mapping[str, nn.Module],  # noqa: ARG002
        weights: Mapping[str, Weights],
        folder: Path,
        step: int,
    ) -> list[Path]:
        path = folder / "lora.safetensors"
        self.write_lora(weights["denoiser"], path, step)
        return [path]

    def write_lora(self, weights: Weights, path: Path, step: int) -> None:
        assert self._config.model.lora is not None
        header = lora_header(self._config, self._sizes, self._learned, step)
        write_lora(weights, self._config.model.lora, header, path)

    def sample(
        self,
        networks: Mapping[str, nn.Module],
        progress: Progress,
        agree: Agree,  # noqa: ARG002
    ) -> tuple[str, Tensor]:
        transformer, settings = networks["denoiser"], self._config.sample
        assert isinstance(transformer, EasyAnimateTransformer3DModel)
        transformer.eval()
        try:
            return self._sample_prompt, self._made(
                transformer,
                self._sample_prompt,
                settings,
                settings.seed,
                lambda _, done, total: progress("sample", done, total),
            )
        finally:
            transformer.train()

    @cached_property
    def _learned(self) -> Learned:
        return Learned(
            [caption for record in self._records for caption in record.captions],
            self._shape,
            len(self._records),
            Clips(self._records, self._held_out).digest,
        )

    @property
    def _empty(self) -> str:
        return self._config.objective.empty_captions[0]

    @property
    def _sample_prompt(self) -> str:
        return self._config.sample.prompt or self._records[0].captions[0]

    @property
    def _latent_size(self) -> tuple[int, ...]:
        return (self._sizes.out_channels, *latent_shape(*self._shape))

    def _nothing(self, batch: int, device: torch.device) -> Tensor | None:
        """What an InP denoiser is shown if nothing is known."""
        if self._sizes.head is Head.T2V:
            return None
        size = self._latent_size
        return nothing_known(batch, size[1:], size[0]).channels.to(device)

    def _load_scorers(self, device: torch.device) -> Mapping[str, Scorer]:
        dtype = torch.bfloat16 if self._config.run.precision == "bf16" else torch.float32
        for name, reward in self._reward.rewards.items():
            if name not in self._scorers:
                sources = reward.sources(self._reward.scored)
                self._scorers[name] = build_scorer(name, sources, device, dtype)
        return self._scorers

    def _load_vae(self, device: torch.device) -> AutoencoderKLMagvit:
        if self._vae is None:
            vae = load_vae(self._config.model, device)
            self._vae = vae.requires_grad_(requires_grad=False).eval()
        return self._vae
