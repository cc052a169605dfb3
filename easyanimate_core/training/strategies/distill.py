"""Distils a denoiser's many steps with guidance into few steps without it.

The teacher is the denoiser as it begins: below a LoRA, the same weights with the LoRA off. From a
noised clip it walks a part of its guided trajectory in several steps; the student learns the one
velocity that goes as far (Salimans and Ho, arXiv 2202.00512; Meng et al., arXiv 2210.03142; Yan et
al., arXiv 2405.07510, whose pieces it shares). Clips, what is shown of them and captions are those
of any other training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ...progress import Progress
from ...text import TextStates
from ..config import TrainConfig
from ..data.buckets import Draw
from ..data.records import Record, Shape, generator_of
from ..jumps import Trajectory, draw_jumps
from ..load_or_build import load_or_build_transformer
from ..lora import without_lora
from ..masks import draw_kind
from ..objective import Question
from .base import Batch
from .denoiser import HELD_OUT, VALIDATION_TIMES, Content, DenoiserStrategy
from .streams import MASK

#: Seeds of the generator that made the mask of this name.
Seeds = Callable[[Draw, str], tuple[int | str, ...]]


class DistillStrategy(DenoiserStrategy):
    """Trains a student for the task of its head; `times` are those of `draw_jumps`, [B, 3]."""

    def __init__(
        self, config: TrainConfig, records: Sequence[Record], held_out: Sequence[Record]
    ) -> None:
        super().__init__(config, records, held_out)
        assert config.distill is not None
        self._distill = config.distill
        self._trajectory = Trajectory.of(self._sizes.version, self._objective.prediction)
        self._teacher: nn.Module | None = None
        if config.model.lora is None:
            teacher = load_or_build_transformer(config, frozen=True)
            self._teacher = teacher.requires_grad_(requires_grad=False)

    def encode_ahead(self, device: torch.device, share: slice, progress: Progress) -> None:
        super().encode_ahead(device, share, progress)
        self._captions.encode_ahead([self._distill.negative_prompt], device, progress)

    def _draw_times(self, count: int, random: np.random.Generator) -> Tensor:
        return draw_jumps(self._distill.jumps, self._distill.own, count, random)

    def _held_out_times(self, part: int) -> Tensor:
        start = 1 - part / VALIDATION_TIMES
        end = max(0.0, start - 1 / max(self._distill.jumps))
        return torch.tensor([[start, end, 0.0]])

    def _ask(
        self, network: nn.Module, content: Content, noise: Tensor, times_B: Tensor
    ) -> Question:
        starts, ends, is_own = times_B.unbind(1)
        now, then = self._trajectory.at(starts), self._trajectory.at(ends)
        noisy = now.levels.noised(content.latents, noise)
        if self._distill.own > 0:
            own = self._own_way(network, content, noise, (starts, ends))
            noisy = torch.where(is_own.view(-1, 1, 1, 1, 1) > 0, own, noisy)
        reached = self._walked(network, content, noisy, (starts, ends))
        target = self._trajectory.velocity(noisy, reached, now, then)
        return Question(noisy, now.timesteps, target)

    @torch.no_grad()
    def _own_way(
        self, network: nn.Module, content: Content, noise: Tensor, times: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Where the student gets from noise to the start of each jump, in steps of its length.

        Every clip takes as many evaluations, so that processes that share the network stay
        together; those that have arrived stay where they are.
        """
        assert content.text is not None
        starts, ends = times
        time = torch.ones_like(starts)
        latents, now = noise, self._trajectory.at(time)
        for _ in range(max(self._distill.jumps) - 1):
            velocity = self._velocity(
                network, latents, now.timesteps, (content.text, content.channels)
            )
            time = torch.maximum(time - (starts - ends), starts)
            then = self._trajectory.at(time)
            latents, now = self._trajectory.step(latents, velocity, now, then), then
        return latents

    @torch.no_grad()
    def _walked(
        self, network: nn.Module, content: Content, noisy: Tensor, times: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Where the teacher gets."""
        assert content.text is not None
        count = len(noisy)
        negative = self._captions.states([self._distill.negative_prompt], noisy.device)
        text = TextStates.join([negative.repeat(count), content.text])
        channels = content.channels
        both = None if channels is None else channels.repeat(2, 1, 1, 1, 1)
        scales = content.scales
        assert scales is not None

        def guided(latents: Tensor, timesteps_B: Tensor) -> Tensor:
            velocity = self._velocity(
                teacher, latents.repeat(2, 1, 1, 1, 1), timesteps_B.repeat(2), (text, both)
            )
            without, given = velocity.chunk(2)
            return torch.lerp(without, given, scales)

        with self._as_teacher(network) as teacher:
            return self._trajectory.walk(noisy, guided, times, self._distill.teacher_steps)

    def prepare(self, batch: Batch, device: torch.device) -> None:
        super().prepare(batch, device)
        if self._teacher is not None:
            self._teacher.to(device)
        content: Content = batch.content
        content.scales = self._scales(content, lambda draw, name: (draw.index, name))

    def _content_of(
        self, number: int, record: Record, shape: Shape, device: torch.device
    ) -> Content:
        content = super()._content_of(number, record, shape, device)
        content.scales = self._scales(content, lambda draw, name: (draw.index, name, HELD_OUT))
        return content

    def _scales(self, content: Content, seeds: Seeds) -> Tensor:
        """The teacher's guidance scale of each clip, [B, 1, 1, 1, 1]."""
        settings, scales = self._distill, []
        for number, draw in enumerate(content.draws):
            names = self._task.names(draw, self._config)
            masks = [name for name in names if name.startswith(MASK)]
            scales.append(settings.guidance)
            if masks and content.channels is not None and bool(content.channels[number].any()):
                random = generator_of(self._config.seed, *seeds(draw, masks[0]))
                kind = draw_kind(draw.shape, self._config.objective.masks, random)
                scales[-1] = settings.guidance_of.get(kind, settings.guidance)
        return torch.tensor(scales).to(content.latents).view(-1, 1, 1, 1, 1)

    @contextmanager
    def _as_teacher(self, network: nn.Module) -> Iterator[nn.Module]:
        """The teacher's network, which below a LoRA is the student's without it.

        Autocast keeps copies of weights that it has cast, and those made here have no graph: the
        student must not use them.
        """
        if self._teacher is not None:
            yield self._teacher
        else:
            with without_lora(network):
                yield network
        torch.clear_autocast_cache()
