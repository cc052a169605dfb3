"""A part of a video is read from the keyframe before it, and is what the whole shows there."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from easyanimate_core.media import Fit, align_clip, read_video
from easyanimate_core.media.streams import open_film
from tests.factories import damage

FIT = Fit(8, (48, 64))


def write(path, frames=90, codec="libx264", options=None, steps=(1,)):
    """A moving square over noise, with a keyframe every 12 frames."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=24, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size, stream.time_base = 12, Fraction(1, 24)
        stream.codec_context.time_base = Fraction(1, 24)
        moment = 0
        for number in range(frames):
            picture = noise // 2
            picture[number % 40 : number % 40 + 8, number % 50 : number % 50 + 8] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, 24)
            moment += steps[number % len(steps)]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def part(path, start, frames=9):
    clip = read_video(path, start=start / 8, max_seconds=frames / 8, fit=FIT)
    return align_clip(clip, height=48, width=64, frames=frames, fps=8, short="repeat").frames


@pytest.mark.parametrize(
    ("name", "settings"),
    [("a.mp4", {}), ("a.mkv", {"options": {"bf": "3"}}), ("a.ts", {}),
     ("open.mp4", {"options": {"x264-params": "open-gop=1:bframes=4"}}),
     ("refresh.mp4", {"options": {"intra-refresh": "1"}}),
     ("a.avi", {"codec": "mpeg4"}), ("variable.mp4", {"steps": (1, 1, 4, 2, 7, 1)})],
)  # fmt: skip
def test_a_part_is_what_the_whole_shows_there(tmp_path, name, settings):
    path = write(tmp_path / name, **settings)
    whole = part(path, 0, frames=21)
    for start in range(1, 20, 3):
        shared = whole[start : start + 9]
        assert torch.equal(part(path, start)[: len(shared)], shared), start


def test_what_lies_well_before_a_part_is_not_decoded(tmp_path):
    path = write(tmp_path / "a.mp4")
    whole = part(path, 20)
    with open_film(path, start=2.5) as film:
        assert next(film.frames).number == 48
    damage(path, 3, whole=False)
    damage(path, 4, whole=False)
    assert torch.equal(part(path, 20), whole)
    assert not read_video(path, start=2.5, max_seconds=0.5).is_damaged


def test_a_part_after_the_end_holds_the_last_frame(tmp_path):
    path = write(tmp_path / "a.mp4", frames=30)
    assert torch.equal(part(path, 60)[-1], read_video(path).frames[-1])
