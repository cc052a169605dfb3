"""Clips whose frames are frame rate varies: reading, picking, training, preparing data."""

import json

import av
import numpy as np
import pytest
import torch
from PIL import Image

from easyanimate_core.errors import MediaError
from easyanimate_core.media import (
    Clip,
    Fit,
    Timing,
    align_clip,
    available_frames,
    pick_frames,
    read_any,
    read_facts,
    read_image,
    read_video,
    stream_frames,
)
from easyanimate_core.tasks import RegionEdit, Target, VideoToVideo
from easyanimate_core.training.data.manifest import manifest_records
from easyanimate_core.training.data.records import Shape
from easyanimate_core.training.preparation import Splitting, split_scenes
from easyanimate_core.training.preparation.files import find_files
from easyanimate_core.training.preparation.pixels import measure_pixels, sample_frames
from tests.factories import grey, write_film

SECONDS = 4.0
#: 24 pictures in the first second, then one every half second, and the other way round.
FAST_FIRST = [i / 24 for i in range(24)] + [1 + i / 2 for i in range(6)]
SLOW_FIRST = [i / 2 for i in range(6)] + [3 + i / 24 for i in range(24)]


def film(path, times, last=0.5, **options):
    """Its grey tells the moment: 0 s is black, `SECONDS` white."""
    return write_film(path, [grey(min(1, t / SECONDS)) for t in times], times, last=last, **options)


def moments(frames) -> list[float]:
    return [float(frame.mean()) * SECONDS for frame in frames]


@pytest.fixture(scope="module", params=["fast first", "slow first", "matroska"])
def varying(request, tmp_path_factory):
    times = SLOW_FIRST if request.param == "slow first" else FAST_FIRST
    ending = "mkv" if request.param == "matroska" else "mp4"
    folder = tmp_path_factory.mktemp("varying")
    return film(folder / f"clip.{ending}", times, 1 / 24 if times is SLOW_FIRST else 0.5), times


def test_frames_are_taken_at_their_own_times(varying):
    path, times = varying
    clip = read_video(path)
    assert clip.times.starts == pytest.approx(times, abs=0.002)
    aligned = align_clip(clip, height=64, width=96, frames=25, fps=8)
    for index, moment in enumerate(moments(aligned.frames)):
        nearest = min(times, key=lambda time: abs(time - index / 8))
        assert abs(moment - index / 8) <= abs(nearest - index / 8) + 0.05
    assert any("a variable rate" in line for line in aligned.report.lines())


def test_reading_ends_at_the_wanted_second_whatever_the_rate(varying):
    path, times = varying
    for seconds in (0.5, 2.0):
        starts = read_video(path, max_seconds=seconds).times.starts
        assert starts[-2] < seconds <= starts[-1]
        assert len(starts) == sum(time < seconds - 0.002 for time in times) + 1


def test_what_is_kept_while_reading_is_what_picking_takes(varying):
    path, _ = varying
    whole = align_clip(read_video(path), height=64, width=96, frames=25, fps=8)
    clip = read_video(path, max_seconds=25 / 8, fit=Fit(8.0, (64, 96)))
    kept = align_clip(clip, height=64, width=96, frames=25, fps=8)
    assert len(clip.frames) < 20
    assert torch.equal(whole.frames, kept.frames)
    assert kept.report.source_size == (64, 96)


def test_the_length_is_that_of_the_last_frame_too(varying):
    path, times = varying
    end = times[-1] + (1 / 24 if times is SLOW_FIRST else 0.5)
    assert read_video(path).times.end == pytest.approx(end, abs=0.01)
    facts = read_facts(path)
    assert facts.frames == len(times)
    assert facts.seconds == pytest.approx(end, abs=0.05)
    assert facts.even_fps == pytest.approx(24, abs=0.3)


def test_training_and_data_preparation_see_the_same_moments(varying, tmp_path):
    path, _ = varying
    entries = [{"file_path": str(path), "text": "", "type": "video"}]
    (tmp_path / "clips.json").write_text(json.dumps(entries))
    (record,) = manifest_records(tmp_path / "clips.json", None, fps=8.0, report=print)
    assert record.frames == available_frames(read_video(path), 8.0)
    sample = record.load(Shape(frames=25, height=64, width=96))
    assert moments(sample.frames)[8:25:8] == pytest.approx([1, 2, 3], abs=0.3)
    (data,) = [d for d in find_files(path.parent) if d.file == path]
    values = measure_pixels(data)
    assert values["seconds"] == pytest.approx(read_video(path).times.end, abs=0.05)
    seen = [float(f.mean()) / 255 * SECONDS for f in sample_frames(data, 5)]
    end = values["seconds"]
    assert seen == pytest.approx([0, end / 4, end / 2, 3 * end / 4, end], abs=0.55)


def test_scenes_keep_their_moments(tmp_path):
    (tmp_path / "in").mkdir()
    source = film(tmp_path / "in" / "clip.mp4", FAST_FIRST)
    summary = split_scenes(
        source, tmp_path / "out", splitting=Splitting(min_seconds=1, max_seconds=10, margin=0)
    )
    assert summary.clips == 1
    (clip,) = (file for file in (tmp_path / "out").rglob("*.mp4") if file.is_file())
    again = read_video(clip)
    assert again.times.end == pytest.approx(4.0, abs=0.1)
    taken = align_clip(again, height=64, width=96, frames=25, fps=8).frames
    assert moments(taken)[8:25:8] == pytest.approx([1, 2, 3], abs=0.3)


def still_mp4(folder):
    return film(folder / "still.mp4", [i / 10 for i in range(10)], last=4.1)


def still_gif(folder):
    pictures = [Image.fromarray(grey(i / 10 / SECONDS)) for i in range(10)]
    pictures[0].save(
        folder / "still.gif", save_all=True, append_images=pictures[1:], duration=[100] * 9 + [4100]
    )
    return folder / "still.gif"


@pytest.mark.parametrize("make", [still_mp4, still_gif])
def test_a_picture_that_stays_to_the_end_is_no_damage(tmp_path, make):
    clip = read_video(make(tmp_path))
    assert clip.times.end == pytest.approx(5.0, abs=0.01)
    assert read_facts(tmp_path / clip_name(make)).seconds == pytest.approx(5.0, abs=0.05)
    assert available_frames(clip, 8) == 40
    assert pick_frames(clip, frames=37, fps=8)[-20:] == [9] * 20
    sources = (
        VideoToVideo(tmp_path / clip_name(make)).load(max_seconds=37 / 8).align(Target(64, 96, 37))
    )
    assert sources.video.shape[2] == 37


def clip_name(make):
    return "still.mp4" if make is still_mp4 else "still.gif"


def test_moments_of_timing():
    timing = Timing((0.0, 1.0, 1.0, 3.0), 5.0, 1.0)
    assert [timing.nearest(m) for m in (0, 0.5, 0.6, 1.9, 2.0, 2.1, 9)] == [0, 0, 2, 2, 2, 3, 3]
    assert not timing.is_steady
    assert Timing.steady(10, 8).count(8) == 10
    assert Timing.steady(10, 24).count(8) == 4


def test_a_clip_of_another_rate_than_it_was_read_for_is_refused(tmp_path):
    clip = read_video(film(tmp_path / "clip.mp4", FAST_FIRST), fit=Fit(8.0, (64, 96)))
    with pytest.raises(ValueError, match="read for another rate"):
        align_clip(clip, height=64, width=96, frames=25, fps=24)


def test_masks_follow_the_frames_of_a_clip_that_was_read_for_its_result(varying, tmp_path):
    path, times = varying
    half = np.zeros((64, 96, 3), np.uint8)
    half[:, :48] = 255
    masks = [half if 1.9 < time < 2.2 else np.zeros_like(half) for time in times]
    mask = write_film(tmp_path / "mask.mp4", masks, times, last=0.5)
    task = RegionEdit(path, mask)
    target = Target(32, 48, 25)
    for fit in (None, Fit(8.0, (32, 48))):
        sources = task.load(max_seconds=25 / 8, fit=fit).align(target)
        marked = sources.mask[0, 0].amax((1, 2)).nonzero().flatten().tolist()
        shown = [i for i in range(25) if 1.9 < min(times, key=lambda t: abs(t - i / 8)) < 2.2]
        assert set(marked) <= set(range(14, 20))
        assert len(set(marked) ^ set(shown)) <= 1


def test_one_rate_for_those_who_know_no_other(tmp_path):
    clip = read_any(film(tmp_path / "clip.mp4", FAST_FIRST))
    assert clip.fps == pytest.approx(24, abs=0.3)
    assert len(clip.frames) == pytest.approx(96, abs=2)
    assert moments(clip.frames)[24::24] == pytest.approx([1, 2, 3], abs=0.3)
    assert "frame rate varies" in clip.notes[-1]
    even = [frame.number for frame in stream_frames(tmp_path / "clip.mp4", fps=clip.fps)]
    assert even == list(range(len(clip.frames)))
    Image.fromarray(grey(0.5)).save(tmp_path / "still.png")
    still = read_any(tmp_path / "still.png")
    assert torch.equal(still.frames, read_image(tmp_path / "still.png"))


def test_times_that_run_backwards_go_on(tmp_path):
    """Two recordings one after the other, as some cutters leave them, begin at 0 twice."""
    with av.open(str(tmp_path / "one.mpg"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(index / 25))))
        container.mux(stream.encode())
    (tmp_path / "two.mpg").write_bytes((tmp_path / "one.mpg").read_bytes() * 2)
    clip = read_video(tmp_path / "two.mpg")
    assert list(clip.times.starts) == sorted(clip.times.starts)
    assert clip.times.end == pytest.approx(2, abs=0.1)


def test_a_picture_that_stands_for_ever_does_not_stop_the_work(tmp_path):
    """A clip whose times are damaged: its second picture comes after two days."""
    path = film(tmp_path / "clip.mkv", [0, 0.1, 0.2, 180_000.0], last=0.1)
    assert len(read_video(path, max_seconds=1, fit=Fit(8.0, (64, 96))).frames) <= 4
    for work in (lambda: list(stream_frames(path, fps=24)), lambda: read_any(path)):
        with pytest.raises(MediaError, match="shows one picture for"):
            work()
    data = next(d for d in find_files(tmp_path) if d.file == path)
    with pytest.raises(MediaError, match="shows one picture for"):
        measure_pixels(data)


def test_a_phone_s_clip_is_prepared_at_its_usual_rate(tmp_path):
    """30 per second but for a stutter: the rate on which all times lie would be a multiple."""
    times, moment = [], 0.0
    for index in range(60):
        times.append(round(moment, 3))
        moment += 0.05 if index % 20 == 19 else 1 / 30
    assert read_facts(film(tmp_path / "clip.mp4", times, last=1 / 30)).even_fps == pytest.approx(
        30, abs=0.2
    )


def test_frames_in_memory_keep_their_plain_rate():
    clip = Clip(torch.zeros(9, 32, 32, 3), 8.0)
    assert clip.times == Timing.steady(9, 8.0)
    assert clip.size == (32, 32)


def test_scenes_tell_what_was_changed(tmp_path):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = 2

    write_film(tmp_path / "clip.mp4", [grey(0.5)] * 25, [i / 8 for i in range(25)], set_up=wide)
    summary = split_scenes(tmp_path / "clip.mp4", tmp_path / "out")
    assert summary.notes[0].startswith("clip.mp4: Its pixels are not square (2:1)")
    (clip,) = (file for file in (tmp_path / "out").rglob("*.mp4") if file.is_file())
    assert read_video(clip).frames.shape[1:3] == (64, 192)
    assert split_scenes(tmp_path / "clip.mp4", tmp_path / "out").notes == summary.notes


def test_frames_of_one_time_have_a_step():
    """A damaged WebM may tell so; nothing is divided by it."""
    assert Timing.of_frames([0.0, 0.0, 0.0], 0.0, 8).step == 1 / 8
    assert Timing.of_frames([0.0], 0.0, 8).end == 1 / 8
