"""Tracks with times, splines, sizes and hidden parts, and their picture."""

import json

import pytest
import torch

from easyanimate_core.errors import InputError, MediaError
from easyanimate_core.paths.previews import track_preview
from easyanimate_core.paths.trajectory import (
    Track,
    blob_radius,
    heatmap_frames,
    read_tracks,
    resample,
    tracks_from_json,
    tracks_to_json,
)

BENT = Track(((10, 50), (40, 10), (70, 50), (90, 20)))
TIMED = Track(BENT.points, times=(None, 0.25, None, 0.75), spline=True, size=0.5)


def brightest(frame):
    """(x, y) of the middle of the brightest pixels."""
    row, column = (frame[..., 0] == frame.max()).nonzero().float().mean(0).tolist()
    return column, row


def drawn(track, frames=9, size=(64, 96)):
    return heatmap_frames([resample(track, frames)], height=size[0], width=size[1])


@pytest.mark.parametrize("spline", [False, True])
def test_a_track_passes_through_its_points_at_their_times(spline):
    track = Track(BENT.points, times=(0.0, 0.125, 0.5, 1.0), spline=spline)
    points = resample(track, 17).points
    for point, frame in zip(track.points, (0, 2, 8, 16), strict=True):
        assert points[frame] == pytest.approx(point)


def test_missing_times_are_spread_evenly():
    assert TIMED.reached() == (0, 0.25, 0.5, 0.75)
    assert BENT.reached() == pytest.approx((0, 1 / 3, 2 / 3, 1))
    assert Track(((1, 1),)).reached() == (0,)
    assert Track(((1, 1),), times=(0.5,)).reached() == (0.5,)
    even = Track(BENT.points, times=(0, None, None, 1))
    for point, expected in zip(resample(even, 10).points, resample(BENT, 10).points, strict=True):
        assert point == pytest.approx(expected)


def test_a_track_rests_before_its_first_and_after_its_last_time():
    points = resample(Track(((0, 0), (10, 20)), times=(0.25, 0.75)), 9).points
    assert points == ((0, 0), (0, 0), (0, 0), (2.5, 5), (5, 10), (7.5, 15)) + ((10, 20),) * 3


def test_a_spline_is_smooth_and_a_line_is_not():
    bends = []
    for spline in (True, False):
        points = torch.tensor(resample(Track(BENT.points, spline=spline), 301).points)
        bends.append(points.diff(dim=0).diff(dim=0).norm(dim=-1).max())
    assert bends[0] < 0.05
    assert bends[1] > 0.3
    straight = Track(((0, 0), (10, 20)), spline=True)
    for point, expected in zip(
        resample(straight, 7).points, resample(Track(straight.points), 7).points, strict=True
    ):
        assert point == pytest.approx(expected)


def test_hidden_from_a_point_to_the_next_visible_one():
    track = Track(BENT.points, times=(0, 0.25, 0.5, 1), visible=(True, False, True, False))
    assert resample(track, 9).visible == (True, True, False, False) + (True,) * 4 + (False,)
    lit = [bool(frame.max() > 0) for frame in drawn(track)]
    assert lit == list(resample(track, 9).visible)
    shown = drawn(Track(BENT.points, times=track.times))
    assert torch.equal(drawn(track)[5], shown[5])
    thirds = Track(BENT.points, visible=(True, False, True, True))  # times that no float has
    assert resample(thirds, 49).visible == (True,) * 16 + (False,) * 16 + (True,) * 17


def test_a_hidden_track_leaves_the_others():
    hidden = Track(((50, 50),), visible=(False,))
    both = heatmap_frames([resample(t, 5) for t in (BENT, hidden)], height=64, width=96)
    assert torch.equal(both, drawn(BENT, 5))


@pytest.mark.parametrize("size", [0.5, 1.0, 2.0])
def test_a_blob_s_size_follows_the_picture_and_the_track(size):
    for height, width in ((360, 640), (720, 1280)):
        track = Track(((width / 2, height / 2),), size=size)
        frame = drawn(track, 1, (height, width))[0]
        expected = 2 * 50 * size * height / 720
        assert 2 * blob_radius(track, height, width) == pytest.approx(expected, abs=2)
        lit = (frame[..., 0] > 0).nonzero()
        extent = (lit.amax(0) - lit.amin(0)).tolist()
        assert extent == pytest.approx([expected, expected], rel=0.06, abs=2)
        assert brightest(frame) == pytest.approx((width / 2, height / 2), abs=1)


def test_size_one_is_what_plain_tracks_are():
    assert torch.equal(drawn(BENT), drawn(Track(BENT.points, size=1.0, visible=(True,) * 4)))


def test_several_kinds_in_one_text():
    text = """[
        [{"x": 1, "y": 2}, {"x": 3, "y": 4}],
        {"points": [{"x": 10, "y": 50}, {"x": 40, "y": 10, "t": 0.25},
                    {"x": 70, "y": 50, "t": null}, {"x": 90, "y": 20, "t": 0.75, "visible": true}],
         "spline": true, "size": 0.5},
        {"points": [{"x": 5, "y": 6, "visible": false}]}
    ]"""
    plain, timed, hidden = tracks_from_json(text)
    assert plain == Track(((1, 2), (3, 4)))
    assert timed == TIMED
    assert hidden == Track(((5, 6),), visible=(False,))
    kjnodes = "[{'x': 1, 'y': 2}, {'x': 3, 'y': 4}]"
    assert tracks_from_json([kjnodes, str([{"points": [{"x": 5, "y": 6}]}])]) == (
        plain,
        Track(((5, 6),)),
    )
    assert tracks_from_json(str(json.loads(text.replace("null", "0.5")))) == (
        plain,
        Track(TIMED.points, (None, 0.25, 0.5, 0.75), (), True, 0.5),
        hidden,
    )


def test_what_is_written_is_read_again(tmp_path):
    tracks = (BENT, TIMED, Track(((1.5, 2), (3, 4)), (0.1, None), (False, True), size=3))
    text = tracks_to_json(tracks)
    assert tracks_from_json(text) == tracks
    assert json.loads(text)[0][0] == {"x": 10, "y": 50}
    file = tmp_path / "tracks.json"
    file.write_text(text)
    assert read_tracks(file) == read_tracks(text) == tracks
    with pytest.raises(MediaError, match="cannot be read"):
        read_tracks(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"points": []}]', "Track 0: A track has no points"),
        ('[{"points": 7}]', "points of track 0 are 7; they must be a list"),
        ('[[{"x": 1, "y": 1}], {"points": [3]}]', "Point 0 of track 1 is 3"),
        ('[{"points": [], "color": "red"}]', "Track 0 has the unknown key 'color'.*size, spline"),
        ('[{"points": [], "spline": 1}]', "spline of track 0 is 1; it must be true or false"),
        ('[{"points": [], "size": "big"}]', "size of track 0 is 'big'; it must be a number"),
        ('[{"points": [{"x": 1, "y": 1}], "size": 0}]', "Track 0: A track's size is 0"),
        ('[{"points": [{"x": 1, "y": 1}], "size": NaN}]', "size is nan"),
        ('[{"points": [{"x": 1, "y": 1}], "size": 21}]', "at most 20"),
        ('[{"x": 1, "y": 1, "t": "0"}]', '"t" is a number'),
        ('[{"x": 1, "y": 1, "t": 2}]', "Point 0 of a track is reached at t = 2"),
        ('[{"x": 1, "y": 1, "t": NaN}]', "reached at t = nan"),
        ('[{"x": 1, "y": 1, "visible": 1}]', '"visible" is true or false'),
        ('[{"x": 1, "y": 1}, {"x": 2, "y": 2, "t": 0}]', "Point 1 .* t = 0; .*increase"),
        (
            '[{"x": 1, "y": 1, "t": 0.5}, {"x": 2, "y": 2}, {"x": 2, "y": 2, "t": 0.4}]',
            "Point 1 of a track is reached at t = 0.45",
        ),
        ('[{"x": 1, "y": 1}, {"points": []}]', "Point 1 of track 0"),
    ],
)
def test_malformed_text(text, message):
    with pytest.raises(InputError, match=message):
        tracks_from_json(text)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Track(((1, 1),), times=(0, 1)), "1 point and 2 times"),
        (lambda: Track(((1, 1),), visible=(True, True)), "1 point and 2 visible"),
        (lambda: tracks_to_json([]), "no tracks"),
        (lambda: track_preview([], height=8, width=8, frames=1), "at least one track"),
        (lambda: track_preview([BENT], height=0, width=8, frames=1), "must be positive"),
        (lambda: track_preview([BENT], height=8, width=8, frames=0), "frames is 0"),
        (
            lambda: track_preview([BENT], height=8, width=8, frames=1, image=torch.ones(8, 8)),
            "image under the tracks",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_preview_draws_over_the_picture():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 50, 50, 3, generator=generator)
    tracks = (BENT, Track(((500, 30), (-900, 1e6))), Track(((20, 20),), visible=(False,)))
    over, black = (
        track_preview(tracks, height=64, width=96, frames=9, image=under) for under in (image, None)
    )
    assert over.shape == black.shape == (1, 64, 96, 3)
    assert 0 <= float(over.min()) < float(over.max()) <= 1
    assert float(black[0, 60:, 80:].max()) == 0  # nothing is drawn there
    assert float(over[0, 60:, 80:].max()) > 0.2
    two = track_preview([BENT, BENT], height=64, width=96, frames=9)
    assert not torch.equal(two, track_preview([BENT], height=64, width=96, frames=9))


def test_preview_shows_the_way_in_the_track_s_colour():
    track = Track(((20, 150), (280, 150)))
    picture = track_preview([track], height=300, width=300, frames=49)[0]
    reddish = (picture[..., 0] > 0.8) & (picture[..., 1] < 0.6)
    assert reddish[150, 30:260].float().mean() > 0.6
    assert not reddish[[*range(100), *range(200, 300)]].any()
    hidden = Track(track.points, visible=(False, True))
    dotted = track_preview([hidden], height=300, width=300, frames=49)[0]
    assert float(dotted[150, 60:240].sum()) < 0.5 * float(picture[150, 60:240].sum())
