"""The core's step cache and guidance window in every sampler of ComfyUI.

They act where a sampler asks the guider for clean latents: on the whole video, after guidance and
after context windows were put together. The state belongs to the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
from torch import Tensor

from ...easyanimate_core.errors import InputError, counted
from ...easyanimate_core.sampling import Guidance, Step, StepCache, check_share, plan_steps
from .step_cache import KEY as EASYCACHE

KEY = "easyanimate_saved_steps"
# Sigmas pass through a few dtypes on their way to the model.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Saving:
    """What to leave out: see `plan_steps`."""

    share: float
    window: float


@dataclass
class _Run:
    """One sampling run: its schedule, what each step does, and what was predicted."""

    sigmas: list[float]
    plan: tuple[Step, ...]
    cache: StepCache = field(default_factory=StepCache)
    asked: list[Step] = field(default_factory=list)

    def step_at(self, sigma: float) -> Step:
        """What happens at a noise level; between two levels, as at the higher one.

        Samplers may ask several times in a step, also between the levels of the schedule.
        """
        passed = sum(level >= sigma * (1 - _ROUNDING) for level in self.sigmas)
        step = self.plan[min(max(passed, 1), len(self.plan)) - 1]
        if step is Step.EXPECTED and self.cache.is_empty:
            step = Step.GUIDED
        self.asked.append(step)
        return step

    def note(self) -> str:
        """What was left out, counted in what the sampler asked for."""
        left, alone = (self.asked.count(step) for step in (Step.EXPECTED, Step.PROMPTED))
        text = f"the step cache left out {left} of {counted(len(self.asked), 'prediction')}"
        return f"{text}, and the negative prompt in {alone} more" if alone else text


def with_saving(model: Any, share: float, window: float = 1.0) -> Any:
    """A MODEL whose sampling leaves out a share of the steps.

    Raises:
        InputError: A value is out of range, or the model already has a step cache.
    """
    check_share(share)
    Guidance(window=window)  # validates
    options = model.model_options.get("transformer_options", {})
    if EASYCACHE in options or KEY in options:
        raise InputError(
            "The model already has a step cache (EasyCache, LazyCache, or EasyAnimate Step Cache), "
            "and two would leave out each other's steps. Remove one of them; in EasyAnimate "
            "Sampler, set speed to full or step_cache to 0."
        )
    model = model.clone()
    model.model_options.setdefault("transformer_options", {})[KEY] = Saving(share, window)
    kinds = comfy.patcher_extension.WrappersMP
    model.add_wrapper_with_key(kinds.OUTER_SAMPLE, KEY, _sample)
    model.add_wrapper_with_key(kinds.PREDICT_NOISE, KEY, _predict)
    return model


def _sample(executor: Any, *args: Any, **named: Any) -> Any:
    """Runs the sampler with a state of its own."""
    guider = executor.class_obj
    before = guider.model_options
    options = comfy.model_patcher.create_model_options_clone(before)
    saving: Saving = options["transformer_options"][KEY]
    if saving.window < 1 and not _is_plain(guider):
        raise InputError(
            f"guidance_window is {saving.window}, but {type(guider).__name__} has guidance of its "
            "own. Set guidance_window to 1, or use CFGGuider or KSampler."
        )
    sigmas = [float(sigma) for sigma in args[3]]
    run = _Run(sigmas[:-1], plan_steps(len(sigmas) - 1, saving.share, saving.window))
    options["transformer_options"][KEY] = run
    guider.model_options = options
    try:
        return executor(*args, **named)
    finally:
        guider.model_options = before
        logging.info("EasyAnimate: %s.", run.note())


def _predict(
    executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], *rest: Any
) -> Tensor:
    """The clean latents, evaluated or expected."""
    guider, run = executor.class_obj, model_options["transformer_options"][KEY]
    step = run.step_at(float(timestep.max()))
    time = float(guider.inner_model.model_sampling.timestep(timestep[:1]))
    if step is Step.EXPECTED:
        expected: Tensor = run.cache.expected(time)
        return expected.clone()
    clean = _evaluated(guider, step, lambda: executor(x, timestep, model_options, *rest))
    run.cache.keep(time, clean.clone())
    return clean


def _evaluated(guider: Any, step: Step, evaluate: Callable[[], Tensor]) -> Tensor:
    """Evaluates, without the negative prompt where it is left out."""
    if step is Step.GUIDED:
        return evaluate()
    scale, guider.cfg = guider.cfg, 1.0
    try:
        return evaluate()
    finally:
        guider.cfg = scale


def _is_plain(guider: Any) -> bool:
    return type(guider).predict_noise is comfy.samplers.CFGGuider.predict_noise
