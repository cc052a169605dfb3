"""Settings: what is refused and why, what is filled in."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyanimate_core.errors import InputError, SchedulerError
from easyanimate_core.settings import Settings
from easyanimate_core.tasks import Camera, Control, ImageToVideo, TextToVideo, VideoToVideo
from tests.factories import V5, V5_1, pixels, quick

WHOLE_NUMBERS = ("frames", "steps", "seed", "batch", "tile")


@given(st.integers(-100, 4096), st.integers(-100, 4096))
def test_only_multiples_of_16_are_sizes(height, width):
    valid = all(side > 0 and side % 16 == 0 for side in (height, width))
    if valid:
        assert Settings(height=height, width=width).height == height
        return
    name, value = next(
        (name, side)
        for name, side in (("height", height), ("width", width))
        if side <= 0 or side % 16
    )
    with pytest.raises(InputError) as caught:
        Settings(height=height, width=width)
    message = str(caught.value)
    assert message.startswith(f"{name} is {value}; it must be a positive multiple of 16. Use ")
    low, high = (int(n) for n in message.rpartition("Use ")[2].rstrip(".").split(" or "))
    Settings(height=low, width=high)  # the remedy is one
    assert value < high


@given(st.integers(-20, 500))
def test_only_4n_plus_1_are_lengths(frames):
    if frames >= 1 and frames % 4 == 1:
        assert Settings(frames=frames).frames == frames
        return
    with pytest.raises(InputError, match=rf"frames is {frames}; the length must be 4n \+ 1") as e:
        Settings(frames=frames)
    for remedy in str(e.value).rpartition("Use ")[2].rstrip(".").split(" or "):
        Settings(frames=int(remedy))


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
@pytest.mark.parametrize("value", [5.0, "5", True, math.nan])
def test_counts_are_whole_numbers(name, value):
    with pytest.raises(InputError, match=f"{name} is .*; it must be a whole number"):
        Settings(**{name: value})


def test_a_size_of_floats_is_refused():
    with pytest.raises(InputError, match=r"height is 64\.0; it must be a whole number"):
        Settings(height=64.0, width=96.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 64}, "Give both height and width"),
        ({"width": 64}, "Give both height and width"),
        ({"fps": 0.0}, "fps is 0.0"),
        ({"fps": -8.0}, "fps is -8.0"),
        ({"fps": math.nan}, "fps is nan"),
        ({"fps": math.inf}, "fps is inf"),
        ({"fps": 241.0}, "at most 240"),
        ({"batch": 0}, "batch is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "between 0 and 2"),
        ({"reference_noise": -0.1}, "reference_noise is -0.1"),
        ({"reference_noise": 1.1}, "reference_noise is 1.1"),
        ({"reference_noise": math.nan}, "reference_noise is nan"),
        ({"guidance_scale": 0.5}, "guidance scale is 0.5"),
        ({"guidance_scale": math.nan}, "guidance scale is nan"),
        ({"guidance_rescale": 2.0}, "guidance rescale is 2.0"),
        ({"guidance_window": 1.5}, "guidance window is 1.5"),
        ({"guidance_window": "all"}, "guidance_window = 'all'"),
        ({"step_cache": 0.8}, "step_cache is 0.8; it is the share of steps"),
        ({"step_cache": math.nan}, "step_cache is nan"),
        ({"step_cache": True}, "step_cache = True"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1001}, "between 1 and 1000"),
        ({"short": "loop"}, "short is 'loop'; it must be 'refuse' or 'repeat'"),
        ({"tile": 0}, "tile size is 0"),
        ({"tile": 250}, "tile size is 250.*multiple of 8"),
        ({"tile": 64}, "Use larger tiles"),
    ],
)
def test_out_of_range_is_refused_with_value_and_rule(changes, message):
    with pytest.raises(InputError, match=message):
        Settings(**changes)


@given(st.integers(0, 2**63 - 1), st.integers(1, 1000), st.floats(1, 100), st.floats(0, 1))
def test_what_is_in_range_is_kept(seed, steps, scale, share):
    settings = Settings(
        seed=seed, steps=steps, guidance_scale=scale, guidance_rescale=share, reference_noise=share
    )
    assert (settings.seed, settings.steps, settings.guidance.scale) == (seed, steps, scale)
    assert settings.guidance.active == (scale > 1)


def test_default_schedulers_and_their_steps():
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
    ddim = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
    assert Settings().scheduler_for(V5_1, flow, strength=1.0) == "Flow"
    assert Settings().scheduler_for(V5, ddim, strength=1.0) == "DDIM"
    with pytest.raises(SchedulerError, match="leaves no step"):
        Settings(steps=4).scheduler_for(V5, ddim, strength=0.2)
    with pytest.raises(SchedulerError, match="PNDM needs at least 4 steps"):
        Settings(steps=3, scheduler="PNDM").scheduler_for(V5, ddim, strength=1.0)


# Size and length that were left open


def target(task, **changes):
    settings = Settings(**changes)
    return settings.target(task.load(max_seconds=settings.source_seconds()))


@pytest.mark.parametrize(
    ("task", "size"),
    [
        (TextToVideo(), (384, 672)),
        (ImageToVideo(start=pixels(height=50, width=50)), (512, 512)),
        (ImageToVideo(end=pixels(height=100, width=50)), (704, 352)),
        (ImageToVideo(keyframes={2: pixels(height=36, width=64)}), (384, 672)),
        (VideoToVideo(pixels(frames=5, height=36, width=64)), (384, 672)),
        (Control(pixels(frames=5, height=41, width=50), pixels()), (448, 544)),
        (Camera(("CW",)), (384, 672)),
        (Camera(("CW",), reference=pixels(height=50, width=50)), (512, 512)),
    ],
)
def test_the_size_follows_the_source(task, size):
    found = target(task)
    assert (found.height, found.width) == size
    fixed = target(task, height=64, width=96)
    assert (fixed.height, fixed.width) == (64, 96)


@pytest.mark.parametrize(
    ("num_source", "frames"), [(1, 1), (4, 1), (5, 5), (8, 5), (9, 9), (50, 49), (80, 49)]
)
def test_the_length_is_the_greatest_that_the_clip_gives(num_source, frames):
    assert target(VideoToVideo(pixels(frames=num_source, height=16, width=16))).frames == frames


def test_the_length_without_a_clip_is_the_trained_one():
    assert target(TextToVideo()).frames == target(ImageToVideo(start=pixels())).frames == 49
    assert target(TextToVideo(), frames=5).frames == 5


def test_source_seconds_are_what_the_run_shows():
    assert quick(frames=9, fps=4.0).source_seconds() == 2.25
    assert Settings(fps=7.0).source_seconds() == 7.0
