"""Left-out steps: which ones, what stands in for them, and that nothing else changes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyanimate_core.errors import InputError
from easyanimate_core.models.specs import Version
from easyanimate_core.sampling import (
    DEFAULT_SCHEDULER,
    PUBLISHED_CONFIG,
    SCHEDULERS,
    Guidance,
    Step,
    StepCache,
    check_share,
    denoise,
    evaluations,
    make_schedule,
    note_of,
    plan_steps,
    saving_denoiser,
)
from easyanimate_core.speeds import LARGEST_SHARE, SPEEDS

LATENTS = (1, 4, 2, 3, 3)
OTHERS = [name for name, kind in SCHEDULERS.items() if kind == "v_prediction"]


def schedule_of(name, steps):
    version = Version.V5_1 if name == "Flow" else Version.V5
    return make_schedule(name, PUBLISHED_CONFIG[version], steps=steps)


def draw(seed):
    return torch.randn(LATENTS, generator=torch.Generator().manual_seed(seed))


def shown(plan):
    letters = {Step.GUIDED: "2", Step.PROMPTED: "1", Step.EXPECTED: "."}
    return "".join(letters[step] for step in plan)


@given(st.integers(1, 300), st.floats(0, LARGEST_SHARE), st.floats(0, 1))
def test_a_plan_leaves_out_what_was_asked_for_and_never_the_first_steps(steps, share, window):
    plan = plan_steps(steps, share, window)
    left = plan.count(Step.EXPECTED)
    assert len(plan) == steps
    assert Step.EXPECTED not in plan[:3]
    asked = math.floor(steps * share + 1e-9)
    assert left == min(asked, max(0, steps - 4))
    made = [i for i, step in enumerate(plan) if step is not Step.EXPECTED]
    guided = [i for i in made if plan[i] is Step.GUIDED]
    assert guided == [i for i in made if i < math.ceil(steps * window - 1e-9)]


@pytest.mark.parametrize(
    ("steps", "share", "window", "expected"),
    [
        (20, 0.0, 1.0, "2" * 20),
        (20, 0.35, 1.0, "2222.22.2.2.2.22.22."),
        (20, 0.5, 1.0, "222.2.2..2.2..2.2.2."),
        (20, 0.5, 0.4, "222.2.2..1.1..1.1.1."),
        (20, 0.0, 0.5, "2" * 10 + "1" * 10),
        (4, 0.7, 1.0, "2222"),
        (1, 0.7, 0.0, "1"),
    ],
)
def test_plans_are_known(steps, share, window, expected):
    assert shown(plan_steps(steps, share, window)) == expected


def test_recommended_shares_are_allowed_in_order():
    assert 0 < SPEEDS["careful"] < SPEEDS["fast"] <= LARGEST_SHARE
    for share in SPEEDS.values():
        check_share(share)


@pytest.mark.parametrize("share", [-0.1, 0.71, 3.0, math.nan, math.inf])
def test_other_shares_are_refused(share):
    with pytest.raises(InputError, match=r"step_cache is .* between 0 \(off\) and 0.7"):
        check_share(share)


@pytest.mark.parametrize("window", [-0.1, 1.1, math.nan])
def test_a_window_out_of_range_is_refused(window):
    with pytest.raises(InputError, match=r"guidance window is .* between 0 and 1"):
        Guidance(6.0, 0.0, window)


def test_a_cache_continues_half_of_the_change():
    cache, first, second = StepCache(), draw(1), draw(2)
    cache.keep(900.0, first)
    assert torch.equal(cache.expected(800.0), first)
    cache.keep(800.0, second)
    half = second + 0.25 * (second - first)  # half of the way, at half of the speed
    torch.testing.assert_close(cache.expected(750.0), half)
    torch.testing.assert_close(cache.expected(700.0), second + 0.5 * (second - first))
    torch.testing.assert_close(cache.expected(100.0), second + 0.5 * (second - first))  # no more
    assert torch.equal(cache.expected(800.0), second)
    assert torch.equal(cache.expected(850.0), second)  # a sampler that goes back


def test_a_corrected_step_counts_once():
    cache = StepCache()
    for time, seed in ((900.0, 1), (800.0, 2), (800.0, 3)):
        cache.keep(time, draw(seed))
    torch.testing.assert_close(cache.expected(700.0), draw(3) + 0.5 * (draw(3) - draw(1)))


def run(name, steps, plan, guided, prompted):
    schedule = schedule_of(name, steps)
    generators = [torch.Generator().manual_seed(5)]
    start = schedule.start(draw(7), None)
    denoiser = saving_denoiser(guided, prompted, schedule, plan)
    return denoise(denoiser, schedule, start, generators=generators)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_plan_without_savings_gives_the_same_bits(name):
    def guided(latents, timestep):
        return latents.sin() * (1 + timestep / 1000)

    schedule = schedule_of(name, 9)
    plain = denoise(
        guided, schedule, schedule.start(draw(7), None),
        generators=[torch.Generator().manual_seed(5)],
    )  # fmt: skip
    plan = (Step.GUIDED,) * len(schedule.timesteps)
    assert torch.equal(run(name, 9, plan, guided, None), plain)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_model_that_knows_the_clip_is_followed_exactly(name):
    """If every evaluation implies the same clean latents, so do the left-out steps."""
    clean, calls = draw(3), []
    schedule = schedule_of(name, 12)

    def guided(latents, timestep):
        calls.append(float(timestep))
        return schedule.velocity(latents, clean, timestep)

    plan = plan_steps(len(schedule.timesteps), 0.5)
    result = run(name, 12, plan, guided, None)
    assert calls == [
        time
        for time, step in zip(schedule.timesteps.tolist(), plan, strict=True)
        if step is not Step.EXPECTED
    ]
    if name in ("Flow", "DDIM", "Euler", "DPM++"):
        torch.testing.assert_close(result, clean, atol=2e-2, rtol=0)


@pytest.mark.parametrize("version", list(Version))
def test_left_out_steps_against_an_independent_loop(version):
    """The same run, written out with the formulas of docs/speed.md in double precision."""
    name, steps = DEFAULT_SCHEDULER[version], 10
    plan = plan_steps(steps, 0.5)

    def predict(latents, timestep):
        return (latents * (1.2 - timestep / 1000)).tanh() + 0.3 * latents.roll(1, -1)

    got = run(name, steps, plan, predict, None)
    schedule = schedule_of(name, steps)
    x, seen = draw(7).double(), []
    times = [*schedule.timesteps.tolist()]
    for index, (time, step) in enumerate(zip(times, plan, strict=True)):
        if version is Version.V5_1:
            now = (1 - time / 1000, time / 1000)
            later = times[index + 1] / 1000 if index + 1 < steps else 0.0
            then = (1 - later, later)
        else:
            shares = schedule.prediction.shares.double()
            stride = 1000 // steps
            share = shares[int(time)]
            after = shares[int(time) - stride] if time >= stride else torch.tensor(1.0).double()
            now, then = (share**0.5, (1 - share) ** 0.5), (after**0.5, (1 - after) ** 0.5)
        signal, spread = now
        if step is Step.GUIDED:
            v = predict(x, time)
            clean = x - spread * v if version is Version.V5_1 else signal * x - spread * v
            seen.append((time, clean))
        else:
            (t0, c0), (t1, c1) = seen[-2:]
            clean = c1 + min(0.5, 0.5 * (t1 - time) / (t0 - t1)) * (c1 - c0)
        noise = (x - signal * clean) / spread
        x = then[0] * clean + then[1] * noise
    torch.testing.assert_close(got.double(), x, atol=2e-4, rtol=2e-4)


def test_what_was_left_out_is_told():
    plan = plan_steps(20, 0.5, 0.4)
    assert evaluations(plan, guided=True) == 15
    assert note_of(plan, guided=True) == (
        "15 of 40 evaluations of the denoiser were made: 10 steps of 20 left out, 5 steps without "
        "the negative prompt."
    )
    assert note_of(plan, guided=False) == (
        "10 of 20 evaluations of the denoiser were made: 10 steps of 20 left out."
    )
    assert "too few to leave any out" in note_of(plan_steps(4, 0.7), guided=True)
