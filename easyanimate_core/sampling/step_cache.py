"""Steps whose evaluation is left out: what they would predict is expected from earlier steps.

Which steps these are follows from their number alone, so the price of a run is known before it
starts and a step never waits for the device. The first steps, in which guidance decides on the
content, and the last ones, in which details appear, are evaluated more densely than the middle.

A left-out step takes the clean latents that the last evaluated step implied, moved half as far as
their change since the one before suggests. Clean latents, unlike velocities, stay comparable if a
sampler adds noise. docs/speed.md has the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import Enum

from torch import Tensor

from ..errors import InputError, counted
from ..speeds import LARGEST_SHARE
from .guidance import Denoiser
from .schedulers import Schedule

#: Steps at the start that are always evaluated, and the part of the change that is continued.
_START, _CONTINUED = 3, 0.5
#: How much closer together evaluations are at both ends than evenly spaced ones.
_CLOSER = 0.2


class Step(Enum):
    """How a step gets its prediction."""

    GUIDED = "both prompts"
    PROMPTED = "the prompt alone"
    EXPECTED = "left out"


def check_share(share: float) -> None:
    """Raise `InputError` unless this share of the steps can be left out; NaN included."""
    if not 0 <= share <= LARGEST_SHARE:
        raise InputError(
            f"step_cache is {share}; it is the share of steps whose evaluation is left out and "
            f"must be between 0 (off) and {LARGEST_SHARE}. To make even fewer evaluations, take "
            "fewer steps."
        )


def plan_steps(steps: int, share: float, window: float = 1.0) -> tuple[Step, ...]:
    """How each of `steps` gets its prediction.

    Args:
        steps: Number of steps of the run.
        share: Share of them to leave out; at most this many are.
        window: Share of the steps, from the first, in which the negative prompt is evaluated.
    """
    made = _evaluated(steps, steps - int(steps * share + 1e-9))
    guided = math.ceil(steps * window - 1e-9)
    return tuple(
        Step.EXPECTED if i not in made else Step.GUIDED if i < guided else Step.PROMPTED
        for i in range(steps)
    )


def _evaluated(steps: int, number: int) -> set[int]:
    """Indices of `number` evaluated steps: the first ones, and others up to the last but one.

    Flow's last step is too short to matter, and the one before it is not.
    """
    start, last = _START - 1, steps - 2
    number = max(number, _START + 1)
    rest = number - _START
    if rest >= last - start:
        return set(range(min(number, steps)))
    places = [i / rest for i in range(1, rest + 1)]
    moved = [place - _CLOSER * math.sin(math.tau * place) / math.tau for place in places]
    chosen = {start + round((last - start) * place) for place in moved}
    free = iter(sorted(set(range(_START, last)) - chosen))
    while len(chosen) < rest:  # two places were rounded to the same step
        chosen.add(next(free))
    return set(range(_START)) | chosen


class StepCache:
    """What one run has predicted: the clean latents of its last two evaluated steps.

    Context windows, batches and prompts need no caches of their own: these are the latents of the
    whole video, after guidance.
    """

    def __init__(self) -> None:
        self._last: list[tuple[float, Tensor]] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was evaluated yet."""
        return not self._last

    def keep(self, time: float, clean: Tensor) -> None:
        """Record what an evaluation at `time` implies.

        Of several at the same time, as in samplers that correct a step, the newest counts.
        """
        before = [kept for kept in self._last if kept[0] != time]
        self._last = [*before[-1:], (time, clean)]

    def expected(self, time: float) -> Tensor:
        """The clean latents that an evaluation at `time` is expected to imply."""
        *before, (now, clean) = self._last
        if not before:
            return clean
        ((earlier, other),) = before
        share = min(_CONTINUED * (time - now) / (now - earlier), _CONTINUED)
        return clean + share * (clean - other) if share > 0 else clean


def saving_denoiser(
    guided: Denoiser, prompted: Denoiser, schedule: Schedule, plan: Sequence[Step]
) -> Denoiser:
    """A denoiser for the steps of one run, called once for each, in order.

    Args:
        guided: Evaluates both prompts.
        prompted: Evaluates the prompt alone.
        schedule: The run's; converts between velocities and clean latents.
        plan: How each of its steps is predicted.
    """
    times = schedule.timesteps.tolist()  # waits for the device once, not at each step
    steps: Iterator[tuple[float, Step]] = zip(times, plan, strict=True)
    cache = StepCache()
    reuses = Step.EXPECTED in plan

    def denoise(latents: Tensor, timestep: Tensor) -> Tensor:
        time, step = next(steps)
        if step is Step.EXPECTED:
            return schedule.velocity(latents, cache.expected(time), timestep)
        velocity = (guided if step is Step.GUIDED else prompted)(latents, timestep)
        if reuses:
            cache.keep(time, schedule.clean(latents, velocity, timestep))
        return velocity

    return denoise


def evaluations(plan: Sequence[Step], *, guided: bool) -> int:
    """How often a run evaluates the denoiser for a sample; `guided` is whether guidance is on."""
    price = {Step.GUIDED: 2 if guided else 1, Step.PROMPTED: 1, Step.EXPECTED: 0}
    return sum(price[step] for step in plan)


def note_of(plan: Sequence[Step], *, guided: bool) -> str:
    """What a run with this plan left out."""
    made = evaluations(plan, guided=guided)
    whole = len(plan) * (2 if guided else 1)
    left = sum(step is Step.EXPECTED for step in plan)
    alone = sum(step is Step.PROMPTED for step in plan) if guided else 0
    parts = [f"{counted(left, 'step')} of {len(plan)} left out"] if left else []
    parts += [f"{counted(alone, 'step')} without the negative prompt"] if alone else []
    told = ", ".join(parts) if parts else "the steps are too few to leave any out"
    return f"{made} of {whole} evaluations of the denoiser were made: {told}."
