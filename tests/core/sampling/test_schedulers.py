"""Schedulers by name: which fits which version, how many steps are walked, refusals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyanimate_core.errors import SchedulerError
from easyanimate_core.models.specs import Head
from easyanimate_core.sampling import (
    FLOW_SHIFT,
    SCHEDULERS,
    check_scheduler,
    check_steps,
    denoise,
    draw_noise,
    make_schedule,
)
from easyanimate_core.weights.files import read_json
from tests.factories import V5, V5_1

V5_NAMES = ["Euler", "Euler A", "DPM++", "PNDM", "DDIM"]
NAMES = ["Flow", *V5_NAMES]


@pytest.fixture(scope="module")
def configs(checkpoint):
    return {
        version: read_json(checkpoint(version, Head.T2V) / "scheduler" / "scheduler_config.json")
        for version in (V5, V5_1)
    }


def config_for(name, configs):
    return configs[V5_1 if name == "Flow" else V5]


def test_the_six_of_the_original():
    assert list(SCHEDULERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_fits_its_version_and_no_other(name, configs):
    fitting, other = (V5_1, V5) if name == "Flow" else (V5, V5_1)
    check_scheduler(name, fitting, configs[fitting])
    with pytest.raises(SchedulerError) as caught:
        check_scheduler(name, other, configs[other])
    message = str(caught.value)
    assert message.startswith(f"{name} is for {SCHEDULERS[name]} models")
    assert f"EasyAnimate {other.value} predicts {other.prediction_type}" in message
    assert message.endswith("Use Flow." if other is V5_1 else f"Use {', '.join(V5_NAMES)}.")


def test_an_unknown_name_is_refused_with_the_known(configs):
    with pytest.raises(SchedulerError) as caught:
        check_scheduler("LCM", V5, configs[V5])
    assert "no scheduler 'LCM'. Choose from " + ", ".join(NAMES) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "version", "config"),
    [
        ("DDIM", V5, {"_class_name": "FlowMatchEulerDiscreteScheduler"}),
        ("DDIM", V5, {"_class_name": "DDIMScheduler", "prediction_type": "epsilon"}),
        ("DDIM", V5, {"_class_name": "DDIMScheduler"}),  # diffusers' default is epsilon
        ("DDIM", V5, {}),
        ("Flow", V5_1, {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}),
        ("Flow", V5_1, {"beta_start": 0.00085}),
    ],
)
def test_a_config_of_another_model_is_refused(name, version, config):
    with pytest.raises(SchedulerError, match="config belongs to another model"):
        check_scheduler(name, version, config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_karras_sigmas": True}, "use_karras_sigmas to True"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps to 1000000000"),
        ({"trained_betas": [0.1]}, "trained_betas to [0.1]"),
        ({"beta_schedule": "cosine"}, "beta_schedule to 'cosine'"),
        ({"timestep_spacing": 7}, "timestep_spacing to 7"),
        ({"beta_end": "0.02"}, "beta_end to '0.02'"),
        ({"beta_end": float("nan")}, "beta_end to nan"),
        ({"steps_offset": None}, "steps_offset to None"),
    ],
)
def test_what_a_config_asks_for_is_done_or_refused(configs, change, said):
    """Nothing of it is left out silently, and nothing is taken for what it is not."""
    config = configs[V5] | {"timestep_spacing": "leading"} | change
    with pytest.raises(SchedulerError) as caught:
        make_schedule("DDIM", config, steps=5)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_name_gives_the_same_walk_twice(name, configs):
    """A schedule has state; a second one starts afresh and the config is left as it was."""
    config = config_for(name, configs)
    before = dict(config)
    ends = []
    for _ in range(2):
        generators = [torch.Generator().manual_seed(3)]
        schedule = make_schedule(name, config, steps=5)
        start = schedule.start(draw_noise((16, 2, 4, 6), generators), None)
        ends.append(denoise(lambda x, _: x * 0.1, schedule, start, generators=generators))
    assert ends[0].isfinite().all()
    assert torch.equal(*ends)
    assert config == before


@pytest.mark.parametrize("name", NAMES)
def test_strength_walks_the_last_part(name, configs):
    config = config_for(name, configs)
    whole = make_schedule(name, config, steps=20).timesteps
    part = make_schedule(name, config, steps=20, strength=0.3).timesteps
    if name == "PNDM":  # three Runge-Kutta steps of four timesteps each, wherever it starts
        assert (len(whole), len(part)) == (29, 15)
        assert torch.equal(part[12:], whole[-3:])
    else:
        assert torch.equal(part, whole[14:])
    assert (part <= whole[0]).all()


@pytest.mark.parametrize("name", V5_NAMES)
def test_nearly_all_of_the_strength_is_nearly_all_of_it(name, configs):
    """A denoiser that knows the clip: what it is led to is the clip, wherever the walk starts."""
    clip, noise = torch.randn(2, 1, 4, 2, 4, 6, generator=torch.Generator().manual_seed(5))
    for strength in (1.0, 0.999, 0.5, 0.25):
        schedule = make_schedule(name, configs[V5], steps=20, strength=strength)
        generators = [torch.Generator().manual_seed(3)]
        found = denoise(
            # What an Euler step is shown is scaled to what the other solvers have.
            lambda shown, timestep, schedule=schedule: schedule.velocity(shown, clip, timestep),
            schedule, schedule.start(noise, clip), generators=generators,
        )  # fmt: skip
        assert (found - clip).abs().mean() < 0.05, strength


@pytest.mark.parametrize("strength", [0.3, 0.5, 0.999])
def test_less_strength_leaves_pndm_its_start_or_is_refused(strength):
    """What the message names as enough is enough."""
    for steps in range(4, 1001):
        if int(steps * strength) >= 4:
            check_steps(steps, strength, "PNDM")
            continue
        with pytest.raises(SchedulerError, match=r"leaves .* step.*, and PNDM needs 4\.") as caught:
            check_steps(steps, strength, "PNDM")
        message = str(caught.value)
        check_steps(steps, float(message.rpartition("at least ")[2].removesuffix(".")), "PNDM")
        check_steps(int(message.partition("Use at least ")[2].partition(" ")[0]), strength, "PNDM")


def test_less_strength_starts_with_less_noise(configs):
    known, noise = torch.ones(1, 16, 2, 4, 6), torch.randn(1, 16, 2, 4, 6)
    for name in NAMES:
        distances = [
            (make_schedule(name, config_for(name, configs), steps=20, strength=s).start(
                noise, known) - known).abs().mean()
            for s in (0.2, 0.5, 0.9)
        ]  # fmt: skip
        assert distances == sorted(distances), name


@given(st.integers(1, 1000), st.floats(0, 1, exclude_min=True))
def test_the_remedy_of_too_little_strength_is_one(steps, strength):
    """What the message names as enough is enough."""
    if int(steps * strength) >= 1:
        check_steps(steps, strength)
        return
    with pytest.raises(SchedulerError) as caught:
        check_steps(steps, strength)
    message = str(caught.value)
    assert f"strength {strength} of {steps} step{'s' * (steps > 1)} leaves no step" in message
    least_strength = float(message.rpartition("at least ")[2].removesuffix("."))
    check_steps(steps, least_strength)
    if "Use at least " in message:
        needed = int(message.partition("Use at least ")[2].partition(" ")[0])
        check_steps(needed, strength)
        with pytest.raises(SchedulerError, match="leaves no step"):
            check_steps(needed - 1, strength)
    else:
        with pytest.raises(SchedulerError, match="leaves no step"):
            check_steps(1000, strength)


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01, float("nan")])
def test_strength_out_of_range_is_refused(strength):
    with pytest.raises(SchedulerError, match="must be above 0 and at most 1"):
        check_steps(50, strength)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [-1, 0, 1001])
def test_steps_out_of_range_are_refused(name, steps, configs):
    with pytest.raises(SchedulerError, match=f"steps is {steps}; it must be between 1 and 1000"):
        make_schedule(name, config_for(name, configs), steps=steps)


@pytest.mark.parametrize("name", NAMES)
def test_the_fewest_steps_of_each(name, configs):
    config = config_for(name, configs)
    if name == "PNDM":
        with pytest.raises(SchedulerError, match="PNDM needs at least 4 steps, not 3"):
            make_schedule(name, config, steps=3)
    least = 4 if name == "PNDM" else 1
    assert len(make_schedule(name, config, steps=least).timesteps) >= least


def test_a_seed_alone_decides_the_noise_of_its_row():
    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    batch = draw_noise((16, 2, 4, 6), generators(5, 6))
    assert torch.equal(batch[1:], draw_noise((16, 2, 4, 6), generators(6)))
    assert not torch.equal(batch[0], batch[1])
    assert batch.device.type == "cpu"
    assert batch.dtype == torch.float32


def test_flow_shift_moves_timesteps_towards_noise(configs):
    walks = [
        make_schedule("Flow", configs[V5_1], steps=10, flow_shift=shift).timesteps
        for shift in (1.0, FLOW_SHIFT, 9.0)
    ]
    plain = make_schedule("Flow", configs[V5_1], steps=10).timesteps
    assert torch.equal(plain, walks[1])
    torch.testing.assert_close(walks[0], torch.linspace(1000, 1, 10), rtol=1e-5, atol=1e-3)
    assert (walks[0][1:] < walks[1][1:]).all()
    assert (walks[1][1:] < walks[2][1:]).all()
