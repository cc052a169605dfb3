"""Long clips are read all over: windows, their turns, and the frames that they show."""

import collections
import json

import numpy as np
import pytest
import torch
from PIL import Image

from easyanimate_core.media import write_mp4
from easyanimate_core.models.specs import Head
from easyanimate_core.paths.camera import camera_path, write_camera_file
from easyanimate_core.training.data.buckets import (
    MOST_WINDOWS,
    Batches,
    parts_used,
    remedy_for,
    seconds_used,
    shapes_for,
    windows_of,
)
from easyanimate_core.training.data.manifest import manifest_records
from easyanimate_core.training.data.records import Record, Sample, Shape
from easyanimate_core.training.run import run_training
from tests.factories import V5_1, pixels
from tests.training_runs import config


def record(frames, **more):
    load = None
    return Record(f"clip {frames}", ("a",), frames, 32, 32, load, seconds=frames / 8, **more)


@pytest.mark.parametrize("frames", [1, 5, 9, 17, 49])
@pytest.mark.parametrize("length", [*range(1, 60), 72, 800, 4800])
def test_windows_cover_a_clip_from_its_first_to_its_last_frame(length, frames):
    starts = windows_of(record(length), frames)
    assert starts[0] == 0 and starts == sorted(set(starts)) and len(starts) <= MOST_WINDOWS
    if length <= frames:
        assert starts == [0]
    else:
        assert starts[-1] == length - frames
    steps = np.diff(starts)
    if len(starts) < MOST_WINDOWS:
        assert (steps <= frames).all()
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_what_lies_beside_a_clip_bounds_its_windows():
    assert windows_of(record(49, span=20), 9) == [0, 5, 11]
    assert windows_of(record(49, span=4), 9) == [0]


def test_what_is_never_seen_of_a_clip_is_told():
    shapes = [Shape(9, 32, 32), Shape(17, 32, 32)]
    assert seconds_used(record(72), shapes) == 9
    assert seconds_used(record(10), shapes) == 10 / 8
    assert seconds_used(record(8), shapes) == 0
    assert seconds_used(record(1600), shapes[:1]) == 16 * 9 / 8
    assert parts_used(record(20), [9, 49]) == [(0, 20)]


def batches(*records, lengths=(5, 9), seed=1):
    shapes = [shapes_for(one, (12,), lengths) for one in records]
    return Batches(records, shapes, tokens_per_batch=24, seed=seed)


def drawn(made, epochs):
    return [draw for n in range(epochs) for step in made.epoch(n) for rank in step for draw in rank]


def test_all_windows_have_their_turn_before_one_comes_again():
    made = batches(record(72), record(30), lengths=(9,))
    starts = [draw.start for draw in drawn(made, 16) if draw.index == 0]
    wanted = windows_of(record(72), 9)
    assert len(wanted) == 8
    turns = list(dict.fromkeys(starts[:8]))
    assert sorted(turns) == sorted(dict.fromkeys(starts[8:])) == wanted
    assert starts[:8] != sorted(starts[:8]) and starts[:8] != starts[8:]


def test_each_length_of_a_clip_is_seen_whole():
    seen = collections.defaultdict(set)
    for draw in drawn(batches(record(72)), 60):
        seen[draw.shape.frames].add(draw.start)
    assert {n: sorted(starts) for n, starts in seen.items()} == {
        n: windows_of(record(72), n) for n in (5, 9)
    }


def test_the_windows_of_an_epoch_depend_on_the_seed_alone():
    one, other = batches(record(72), record(40)), batches(record(72), record(40))
    late = other.epoch(7)
    assert one.epoch(2) == other.epoch(2) and one.epoch(7) == late
    assert batches(record(72), record(40), seed=2).epoch(7) != late


def test_repeats_are_drawn_as_often_and_differ():
    draws = drawn(batches(record(72, repeats=3), record(9), lengths=(9,)), 1)
    own = {(draw.epoch, draw.start) for draw in draws if draw.index == 0}
    assert len(own) == 3 and {epoch for epoch, _ in own} == {0, 1, 2}
    assert len({start for _, start in own}) == 3


@pytest.mark.parametrize(
    ("size", "frames", "tokens", "lengths"),
    [((16, 16), 9, (12,), (9,)), ((17, 200), 30, (400,), (9, 17)), ((300, 40), 6, (9000,), (5,)),
     ((64, 64), 3, (12,), (9, 49)), ((32, 32), 5, (45, 468), (9, 17)), ((64, 64), 49, (5,), (49,))],
)  # fmt: skip
def test_the_remedy_for_a_clip_without_a_shape_helps(size, frames, tokens, lengths):
    clip = Record("one", ("a",), frames, *size, lambda *_: Sample(torch.zeros(1)))
    assert not shapes_for(clip, tokens, lengths)
    words = remedy_for(clip, tokens, lengths).removeprefix("add ").split(" and ")
    for number, _, what in map(str.split, words):
        tokens += (int(number),) if what == "data.tokens" else ()
        lengths += (int(number),) if what == "data.frames" else ()
    assert shapes_for(clip, tokens, lengths)


def counting(frames, height=32, width=32):
    """A clip whose frames tell their numbers by their grey."""
    levels = torch.arange(frames) / max(1, frames - 1)
    return levels.view(-1, 1, 1, 1).expand(frames, height, width, 3).contiguous()


@pytest.mark.parametrize(("fps", "frames"), [(8, 72), (30, 270), (24, 100), (5, 30)])
def test_a_window_shows_what_the_whole_clip_shows_there(tmp_path, fps, frames):
    write_mp4(tmp_path / "a.mp4", counting(frames), fps=fps)
    (tmp_path / "m.json").write_text(json.dumps([{"file_path": "a.mp4", "text": "a"}]))
    (clip,) = manifest_records(tmp_path / "m.json", None, fps=8, report=print)
    assert clip.seconds in (0, pytest.approx(frames / fps))
    whole = clip.load(Shape((clip.frames - 1) // 4 * 4 + 1, 32, 32)).frames
    for length in (1, 9, 17):
        for start in windows_of(clip, length):
            window = clip.load(Shape(length, 32, 32), start).frames
            shared = whole[start : start + length]
            assert torch.equal(window[: len(shared)], shared), (length, start)
            assert len(window) == length


def test_a_window_of_a_variable_rate_and_of_an_animation_is_exact(tmp_path):
    steps = [60, 40, 400, 90, 120, 80, 900, 60, 60, 60, 300, 200] * 4
    pictures = [Image.fromarray((row * 255).byte().numpy()) for row in counting(len(steps))]
    pictures[0].save(
        tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=steps, loop=0
    )
    (tmp_path / "m.json").write_text(json.dumps([{"file_path": "a.gif", "text": "a"}]))
    (clip,) = manifest_records(tmp_path / "m.json", None, fps=8, report=print)
    whole = clip.load(Shape((clip.frames - 1) // 4 * 4 + 1, 32, 32)).frames
    for start in windows_of(clip, 9)[:-1]:
        assert torch.equal(clip.load(Shape(9, 32, 32), start).frames, whole[start : start + 9])


def test_control_and_camera_are_cut_at_the_same_start(tmp_path):
    write_mp4(tmp_path / "a.mp4", counting(40), fps=8)
    write_mp4(tmp_path / "control.mp4", 1 - counting(40), fps=8)
    path = camera_path(["Pan Left"], frames=30)
    write_camera_file(tmp_path / "camera.txt", path)
    row = {"file_path": "a.mp4", "text": "a", "control_file_path": "control.mp4",
           "camera_file_path": "camera.txt"}  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps([row]))
    said = []
    (clip,) = manifest_records(tmp_path / "m.json", None, fps=8, report=said.append)
    assert any("ends after 30 of its 40 frames" in line for line in said)
    assert windows_of(clip, 9)[-1] == 21
    for start in windows_of(clip, 9):
        sample = clip.load(Shape(9, 32, 32), start)
        assert (sample.frames + sample.control - 1).abs().mean() < 0.03
        poses = path.world_to_camera[start : start + 9]
        assert torch.allclose(sample.camera.world_to_camera, poses, atol=1e-8)


@pytest.mark.parametrize("task", ["text_to_video", pytest.param("vae", marks=pytest.mark.slow)])
def test_every_second_of_a_long_clip_is_trained_on(tmp_path, checkpoint, task):
    """Latents of few windows are cached; a second run of the same seed gives the same losses."""
    write_mp4(tmp_path / "a.mp4", pixels(1, frames=45, height=32, width=32), fps=8)
    (tmp_path / "m.json").write_text(json.dumps([{"file_path": "a.mp4", "text": "a"}]))
    folder = checkpoint(V5_1, Head.T2V)
    logs = []
    for name in ("one", "two"):
        wanted = config(
            tmp_path / name, folder, task=task, data__synthetic=None, data__frames=[5],
            data__manifest=str(tmp_path / "m.json"), run__steps=11, data__cache=str(tmp_path / "c"),
            data__tokens_per_batch=8, data__clips_per_batch=1,
        )  # fmt: skip
        run_training(wanted, report=lambda _: None)
        rows = [json.loads(row) for row in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        logs.append([row.get("loss", row.get("pixel_loss")) for row in rows])
    assert logs[0] == logs[1]
    if task == "text_to_video":
        assert len(list((tmp_path / "c" / "latents").rglob("*.safetensors"))) == 9
