import json
import math

import pytest
import torch

from easyanimate_core.errors import InputError
from easyanimate_core.paths.trajectory import (
    Track,
    heatmap_frames,
    resample,
    tracks_from_json,
)

POINTS = [{"x": 10, "y": 20}, {"x": 30.5, "y": 40.25}]
TRACK = Track(((10.0, 20.0), (30.5, 40.25)))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (json.dumps(POINTS), 1),
        (str(POINTS), 1),  # single quotes, as KJNodes writes
        (json.dumps([POINTS, POINTS]), 2),
        (f"  {[POINTS, POINTS]}\n", 2),
        ([str(POINTS), json.dumps(POINTS), str(POINTS)], 3),
    ],
)
def test_every_spelling_gives_the_same_track(text, count):
    assert tracks_from_json(text) == (TRACK,) * count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "not valid JSON"),
        ("__import__('os').getcwd()", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "a list of"),
        ("{}", "a list of"),
        ("7", "a list of"),
        ([], "no tracks"),
        ("[[]]", "no points"),
        ("[{'x': 1}]", "Point 0 of track 0"),
        ("[{'x': 1, 'y': 2, 'z': 3}]", "Point 0 of track 0"),
        ("[{'x': 1, 'y': '2'}]", "Point 0 of track 0"),
        ("[{'x': 1, 'y': True}]", "Point 0 of track 0"),
        ('[[{"x": 1, "y": 2}], [{"x": 1, "y": NaN}]]', "Point 0 of a track is .* finite"),
        ('[[{"x": 1, "y": 2}], 3]', "Point 0 of track 0"),
    ],
)
def test_malformed_text(text, message):
    with pytest.raises(InputError, match=message):
        tracks_from_json(text)


def test_the_bump_is_brightest_at_its_point():
    frames = heatmap_frames([TRACK], height=64, width=96)
    assert frames.shape == (2, 64, 96, 3)
    assert frames.dtype == torch.float32
    assert float(frames.min()) == 0
    assert float(frames.max()) <= 1
    assert torch.equal(frames[..., 0], frames[..., 1])
    assert torch.equal(frames[..., 0], frames[..., 2])
    for frame, (x, y) in zip(frames, TRACK.points, strict=True):
        row, column = divmod(int(frame[..., 0].argmax()), 96)
        assert abs(row - y) <= 1
        assert abs(column - x) <= 1


def test_fractions_are_rounded_to_the_nearest_pixel():
    near = heatmap_frames([Track(((30.4, 39.6),))], height=64, width=96)
    assert torch.equal(near, heatmap_frames([Track(((30.0, 40.0),))], height=64, width=96))


def test_tracks_merge_by_maximum_in_any_order():
    other = Track(((12.0, 22.0), (80.0, 10.0)))
    both = heatmap_frames([TRACK, other], height=64, width=96)
    alone = [heatmap_frames([track], height=64, width=96) for track in (TRACK, other)]
    assert torch.equal(both, torch.maximum(*alone))
    assert torch.equal(both, heatmap_frames([other, TRACK], height=64, width=96))


@pytest.mark.parametrize("point", [(-100.0, 30.0), (30.0, 500.0), (200.0, 30.0), (1e9, -1e9)])
def test_a_point_outside_draws_nothing(point):
    assert float(heatmap_frames([Track((point,))], height=64, width=96).max()) == 0


def test_resampling_keeps_the_ends_and_the_way():
    track = Track(((0.0, 0.0), (10.0, 20.0), (20.0, 0.0)))
    assert resample(track, 3) == track
    assert resample(track, 5).points == ((0, 0), (5, 10), (10, 20), (15, 10), (20, 0))
    assert resample(track, 1).points == ((0, 0),)
    assert resample(Track(((3.0, 4.0),)), 4).points == ((3, 4),) * 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Track(()), "no points"),
        (lambda: Track(((math.nan, 1.0),)), "Point 0 of a track is"),
        (lambda: resample(TRACK, 0), "frames is 0"),
        (lambda: heatmap_frames([], height=64, width=64), "at least one track"),
        (
            lambda: heatmap_frames([TRACK, Track(((1.0, 1.0),))], height=64, width=64),
            "Use resample",
        ),
        (lambda: heatmap_frames([TRACK], height=0, width=64), "must be positive"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InputError, match=message):
        call()
