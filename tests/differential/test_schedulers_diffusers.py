"""Every scheduler against the class of diffusers that has its name, step by step."""

import inspect
import math

import diffusers
import numpy as np
import pytest
import torch

from easyanimate_core.sampling import PUBLISHED_CONFIG, denoise, draw_noise, make_schedule
from tests.factories import V5, V5_1

CLASSES = {
    "Flow": "FlowMatchEulerDiscreteScheduler",
    "Euler": "EulerDiscreteScheduler",
    "Euler A": "EulerAncestralDiscreteScheduler",
    "DPM++": "DPMSolverMultistepScheduler",
    "PNDM": "PNDMScheduler",
    "DDIM": "DDIMScheduler",
}
PLAIN = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
CONFIGS = {
    "published": {},
    "leading": {"timestep_spacing": "leading"},
    "linspace": {"timestep_spacing": "linspace", "rescale_betas_zero_snr": False},
    "linear": {"beta_schedule": "linear", "steps_offset": 0, "set_alpha_to_one": False},
}
SHAPE = (4, 2, 4, 6)


def theirs(name, config, steps, shift):
    scheduler_class = getattr(diffusers, CLASSES[name])
    known = inspect.signature(scheduler_class.__init__).parameters
    scheduler = scheduler_class(**{k: v for k, v in config.items() if k in known})
    scheduler.set_timesteps(steps, **({"mu": math.log(shift)} if name == "Flow" else {}))
    if name in ("Euler", "Euler A"):
        scheduler.sigmas = scheduler.sigmas.double()  # see `solvers.Euler`
    return scheduler


def leave_out(scheduler, skipped, steps):
    """What PNDM there sets its timesteps from, with the first left out: it would begin within a
    Runge-Kutta step otherwise, and take it for the first part of one.
    """
    spaced = scheduler._timesteps[: steps - skipped]
    halves = np.array(spaced[-4:]).repeat(2) + np.tile([0, 1000 // steps // 2], 4)
    scheduler.prk_timesteps = halves[:-1].repeat(2)[1:-1][::-1].copy()
    scheduler.plms_timesteps = spaced[:-3][::-1].copy()
    walked = np.concatenate([scheduler.prk_timesteps, scheduler.plms_timesteps])
    scheduler.timesteps = torch.from_numpy(walked.astype(np.int64))


def velocity_of(latents, timestep):
    """Some smooth velocity of bounded size."""
    return torch.tanh(latents * 0.7 + 0.1) + 0.001 * float(timestep)


def walk_of_theirs(scheduler, name, noise, known, skipped, generators):
    timesteps = scheduler.timesteps[0 if name == "PNDM" else skipped :]
    latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    if skipped:
        first = timesteps[:1].repeat(len(noise))
        add = scheduler.scale_noise if name == "Flow" else scheduler.add_noise
        latents = add(known, first, noise) if name == "Flow" else add(known, noise, first)
    options = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        options["generator"] = generators
    for timestep in timesteps:
        shown = latents
        if hasattr(scheduler, "scale_model_input"):
            shown = scheduler.scale_model_input(latents, timestep)
        velocity = velocity_of(shown, timestep)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False, **options)[0]
    return timesteps, latents


CASES = [
    *((name, config, 7) for name in CLASSES for config in CONFIGS if name != "Flow"),
    *((name, "published", steps) for name in CLASSES for steps in (30, 999, 1000)),
    *((name, "published", 4) for name in CLASSES if name != "PNDM"),  # which needs four walked
    *((name, "linspace", 999) for name in CLASSES if name != "Flow"),
]


@pytest.mark.parametrize(("name", "config", "steps"), CASES)
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_the_walk_is_that_of_diffusers(name, config, steps, strength):
    whole = dict(PUBLISHED_CONFIG[V5_1 if name == "Flow" else V5]) | CONFIGS[config]
    generators = [[torch.Generator().manual_seed(seed) for seed in (3, 4)] for _ in "ab"]
    ours = make_schedule(name, whole, steps=steps, strength=strength, flow_shift=2.5)
    scheduler = theirs(name, whole, steps, 2.5)
    noise = draw_noise(SHAPE, generators[0])
    assert torch.equal(noise, draw_noise(SHAPE, generators[1]))
    known = torch.linspace(-1, 1, noise.numel()).view_as(noise)
    skipped = steps - int(steps * strength)
    if name == "PNDM" and skipped:
        leave_out(scheduler, skipped, steps)
    timesteps, wanted = walk_of_theirs(scheduler, name, noise, known, skipped, generators[1])
    torch.testing.assert_close(ours.timesteps, timesteps, rtol=1e-6, atol=0)
    start = ours.start(noise, known)
    found = denoise(velocity_of, ours, start, generators=generators[0])
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)


def test_the_published_timesteps_are_the_same_numbers():
    for name in CLASSES:
        config = PUBLISHED_CONFIG[V5_1 if name == "Flow" else V5]
        for steps in (*range(4, 101), 250, 1000):
            scheduler = theirs(name, config, steps, math.e)
            assert torch.equal(
                make_schedule(name, config, steps=steps).timesteps, scheduler.timesteps
            )


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_flow_without_a_dynamic_shift_has_its_own(dynamic):
    config = PUBLISHED_CONFIG[V5_1] | {"use_dynamic_shifting": dynamic, "shift": 5.0}
    scheduler = theirs("Flow", config, 12, 2.5)
    found = make_schedule("Flow", config, steps=12, flow_shift=2.5).timesteps
    torch.testing.assert_close(found, scheduler.timesteps, rtol=1e-6, atol=1e-4)


def test_a_config_of_few_words_means_what_it_means_in_diffusers():
    """Clipping among others, which is the default of DDIM there."""
    generators = [torch.Generator().manual_seed(3)]
    noise = draw_noise(SHAPE, generators)
    for name in ("DDIM", "PNDM", "Euler", "DPM++"):
        scheduler = theirs(name, PLAIN, 9, 1.0)
        _, wanted = walk_of_theirs(scheduler, name, noise, None, 0, generators)
        ours = make_schedule(name, PLAIN, steps=9)
        found = denoise(velocity_of, ours, ours.start(noise, None), generators=generators)
        torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)
