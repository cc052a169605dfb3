import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from easyanimate_core.errors import InputError
from easyanimate_core.media import Clip, align_clip
from easyanimate_core.models import geometry

# Whether a rule holds does not depend on how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

sides = st.integers(1, 4000)
valid_sides = st.integers(1, 128).map(lambda n: 16 * n)
valid_frames = st.integers(0, 30).map(lambda n: 4 * n + 1)


@given(source=st.tuples(sides, sides), target=st.tuples(sides, sides))
def test_cover_crop_covers_and_keeps_the_aspect(source, target):
    crop = geometry.cover_crop(source, target)
    scale = max(target[0] / source[0], target[1] / source[1])
    for axis, start in ((0, crop.top), (1, crop.left)):
        assert crop.resized[axis] >= target[axis]
        assert abs(crop.resized[axis] - source[axis] * scale) <= 1
        rest = crop.resized[axis] - target[axis]
        assert start == rest // 2  # centred
    assert target[0] in crop.resized or target[1] in crop.resized  # no larger than needed
    assert 0 <= crop.cropped_fraction < 1


@given(size=st.tuples(sides, sides))
def test_cover_crop_of_the_same_size_does_nothing(size):
    crop = geometry.cover_crop(size, size)
    assert (crop.resized, crop.top, crop.left, crop.cropped_fraction) == (size, 0, 0, 0)


@given(frames=st.integers(1, 1000))
def test_floor_frames_is_the_greatest_valid_length(frames):
    length = geometry.floor_frames(frames)
    geometry.check_frames(length)
    assert length <= frames < length + 4
    assert geometry.pixel_frames(geometry.latent_frames(length)) == length


@given(frames=st.integers(-10, 1000))
def test_an_invalid_length_is_refused_with_valid_ones(frames):
    assume(frames < 1 or frames % 4 != 1)
    with pytest.raises(InputError, match=f"frames is {frames};") as error:
        geometry.check_frames(frames)
    proposals = [int(n) for n in str(error.value).rsplit("Use", 1)[1].rstrip(".").split(" or ")]
    for proposal in proposals:
        geometry.check_frames(proposal)


@given(side=st.integers(-100, 3000))
def test_an_invalid_side_is_refused_with_valid_ones(side):
    assume(side <= 0 or side % 16)
    for size, name in (((side, 512), "height"), ((512, side), "width")):
        with pytest.raises(InputError, match=f"{name} is {side};") as error:
            geometry.check_size(*size)
        for proposal in str(error.value).rsplit("Use", 1)[1].rstrip(".").split(" or "):
            geometry.check_size(int(proposal), 16)


@given(frames=valid_frames, height=valid_sides, width=valid_sides)
def test_tokens_cover_every_pixel_once(frames, height, width):
    pixels_per_token = 16 * 16
    latent_frames = (frames - 1) // 4 + 1
    assert geometry.num_tokens(frames, height, width) * pixels_per_token == (
        latent_frames * height * width
    )


def test_token_count_of_the_published_size():
    assert geometry.num_tokens(49, 512, 512) == 13_312


@given(height=sides, width=sides, base=st.sampled_from([512, 768, 960, 1024]))
def test_bucket_is_a_valid_size_near_in_aspect(height, width, base):
    aspect = height / width
    assume(0.25 <= aspect <= 4)
    bucket = geometry.bucket_size(height, width, base)
    geometry.check_size(*bucket)
    # Neighbouring buckets are at most 20 % apart; rounding to 16 adds a little.
    assert abs(math.log(bucket[0] / bucket[1] / aspect)) < 0.16
    assert bucket[0] * bucket[1] == pytest.approx(base * base, rel=0.14)


@pytest.mark.parametrize("call", [(0, 10), (10, -1)])
def test_bucket_of_no_size_is_refused(call):
    with pytest.raises(InputError, match="must be positive"):
        geometry.bucket_size(*call)


rates = st.sampled_from([4.0, 8.0, 12.5, 15.0, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0])


@given(length=st.integers(1, 120), source_fps=rates, fps=rates)
def test_aligned_length_and_moments(length, source_fps, fps):
    # Each frame's value is its number, so the result tells which source frame was taken.
    values = torch.arange(length, dtype=torch.float32) / 255
    clip = Clip(values[:, None, None, None].expand(-1, 16, 16, 3), source_fps)
    aligned = align_clip(clip, height=16, width=16, frames=None, fps=fps)
    report = aligned.report
    geometry.check_frames(len(aligned.frames))
    assert len(aligned.frames) == report.frames
    taken = (aligned.frames[:, 0, 0, 0] * 255).round().tolist()
    assert taken[0] == 0
    for index, source in enumerate(taken):
        assert abs(source / source_fps - index / fps) <= 0.5 / source_fps + 1e-4
    used = len(set(taken))
    assert report.source_frames == used + report.dropped_by_rate + report.dropped_at_end
    assert report.frames == used + report.repeated_by_rate
    # Four more would have gone beyond the source.
    assert (report.frames + 3) / fps > (length - 1) / source_fps
    if source_fps == fps:
        assert report.frames == geometry.floor_frames(length)
        assert report.dropped_by_rate == report.repeated_by_rate == 0


@given(length=st.integers(1, 60), frames=valid_frames)
def test_a_short_clip_is_refused_or_holds_its_last_frame(length, frames):
    values = torch.arange(length, dtype=torch.float32) / 255
    clip = Clip(values[:, None, None, None].expand(-1, 16, 16, 3), 8.0)
    if frames > length:
        with pytest.raises(InputError, match="short: repeat"):
            align_clip(clip, height=16, width=16, frames=frames, fps=8.0)
    repeated = align_clip(clip, height=16, width=16, frames=frames, fps=8.0, short="repeat")
    assert len(repeated.frames) == frames
    assert repeated.report.repeated_at_end == max(0, frames - length)
    assert torch.equal(repeated.frames[-1], clip.frames[min(frames, length) - 1])
