"""Measures against clips whose values are known, and the filter that stores them once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from easyanimate_core.errors import InputError
from easyanimate_core.media import read_video, resize_cover, write_mp4, write_png
from easyanimate_core.training.preparation import Limit, Measuring, filter_files
from easyanimate_core.training.preparation.files import data_file
from easyanimate_core.training.preparation.measures import judge, limits_with
from easyanimate_core.training.preparation.pixels import measure_pixels
from easyanimate_core.training.preparation.pool import each
from easyanimate_core.training.preparation.writing import measure_writing
from tests.factories import real_clip

HEIGHT, WIDTH, FPS, FRAMES = 96, 144, 24, 16


@pytest.fixture(scope="module")
def picture():
    """A real picture [720, 1280, 3]."""
    return read_video(real_clip("bigbuckbunny"), max_frames=1).frames[0]


def pan(picture, speed):
    """A window that goes right by `speed` times its height per second: [F, H, W, 3]."""
    import cv2

    frames = []
    for number in range(FRAMES):
        left = 100 + number * speed * HEIGHT / FPS
        move = np.array([[1, 0, -left], [0, 1, -250]], np.float32)
        frames.append(cv2.warpAffine(picture.numpy(), move, (WIDTH, HEIGHT)))
    return torch.from_numpy(np.stack(frames)).clamp(0, 1)


def measured(frames, folder, fps=FPS):
    file = write_mp4(folder / "clip.mp4", frames, fps=fps)
    return measure_pixels(data_file(file, folder))


# Measures


@pytest.mark.parametrize("speed", [0.05, 0.5, 1.5])
def test_motion_is_the_speed_of_a_pan(picture, tmp_path, speed):
    assert measured(pan(picture, speed), tmp_path)["motion"] == pytest.approx(speed, rel=0.05)


def test_motion_of_a_still_and_independence_of_rate(picture, tmp_path):
    assert measured(pan(picture, 0), tmp_path)["motion"] < 0.001
    every_second = pan(picture, 0.5)[::2]
    assert measured(every_second, tmp_path, fps=FPS / 2)["motion"] == pytest.approx(0.5, rel=0.05)
    assert measured(pan(picture, 1)[:1], tmp_path)["motion"] == 0


def test_sharpness_is_the_variance_of_the_laplacian(tmp_path):
    """A checkerboard of 80 and 160: at every pixel the Laplacian is 4 x 80, with either sign."""
    odd = (torch.arange(64)[:, None] + torch.arange(96)) % 2
    board = ((80 + 80 * odd) / 255)[..., None].expand(-1, -1, 3)
    file = write_png(tmp_path / "board.png", board)
    assert measure_pixels(data_file(file, tmp_path))["sharpness"] == pytest.approx(320**2)


def test_blur_lowers_sharpness(picture, tmp_path):
    sharp = pan(picture, 0.1)
    values = [measured(sharp, tmp_path)["sharpness"]]
    for factor in (2, 4):
        small = resize_cover(sharp, HEIGHT // factor, WIDTH // factor)
        values.append(measured(resize_cover(small, HEIGHT, WIDTH), tmp_path)["sharpness"])
    assert values[0] > 4 * values[1] > 6 * values[2]


def test_dark_and_bright_are_shares_of_the_frames(picture, tmp_path):
    frames = pan(picture, 0.1)
    frames[: FRAMES // 2] = 0.02
    assert measured(frames, tmp_path)["dark"] == pytest.approx(0.5, abs=0.1)
    frames[: FRAMES // 4] = 1
    values = measured(frames, tmp_path)
    assert (values["dark"], values["bright"]) == pytest.approx((0.25, 0.25), abs=0.1)


def test_bars_are_black_and_stay(picture, tmp_path):
    frames = pan(picture, 0.5)
    assert measured(frames, tmp_path)["bars"] == 0
    frames[:, :12] = frames[:, -12:] = 0
    frames[:, :, :18] = 0
    exact = 1 - (72 / 96) * (126 / 144)
    assert measured(frames, tmp_path)["bars"] == pytest.approx(exact, abs=0.01)
    frames[8:, :12, 18:] = 0.5  # a bar that goes is none
    assert measured(frames, tmp_path)["bars"] == pytest.approx(
        1 - (84 / 96) * (126 / 144), abs=0.01
    )


def test_size_and_length(tmp_path, picture):
    values = measured(pan(picture, 0), tmp_path)
    wanted = {"height": 96, "width": 144, "side": 96, "frames": 16, "fps": 24, "seconds": 16 / 24}
    assert {name: values[name] for name in wanted} == pytest.approx(wanted)
    file = write_png(tmp_path / "picture.png", picture[:40, :30])
    values = measure_pixels(data_file(file, tmp_path))
    assert (values["side"], values["frames"]) == (30, 1)
    assert not {"motion", "fps", "seconds"} & values.keys()


def test_text_is_the_share_under_writing(tmp_path):
    pytest.importorskip("rapidocr", reason="an OCR is optional: pip install rapidocr")
    picture = Image.new("RGB", (640, 360), (90, 120, 90))
    plain = write_png(tmp_path / "plain.png", torch.from_numpy(np.array(picture)) / 255)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=48)
    left, top, right, bottom = draw.textbbox((60, 100), "BREAKING NEWS TODAY", font=font)
    draw.text((60, 100), "BREAKING NEWS TODAY", font=font, fill="white")
    written = write_png(tmp_path / "written.png", torch.from_numpy(np.array(picture)) / 255)
    assert measure_writing(data_file(plain, tmp_path)) == {"text": 0.0}
    tight = (right - left) * (bottom - top) / (640 * 360)
    share = measure_writing(data_file(written, tmp_path))["text"]
    assert tight < share < 1.6 * tight, "boxes have a margin around the letters"


# Limits


def test_judging():
    limits = limits_with({"motion": Limit(0.1, 0.5), "sharpness": Limit()})
    assert judge({"motion": 0.1, "sharpness": 0.0}, limits) == ()
    assert judge({"motion": 0.5}, limits) == ()
    (reason,) = judge({"motion": 0.6, "text": None}, limits)
    assert (reason.measure, reason.said) == ("motion", "motion 0.6 is above 0.5")
    both = judge({"motion": 0.01, "bars": 0.3}, limits)
    assert [reason.measure for reason in both] == ["motion", "bars"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beauty": Limit(1)}, "'beauty' is unknown. Available: side, seconds"),
        ({"motion": Limit(2, 1)}, "2..1 of motion keeps nothing"),
        ({"motion": Limit(float("nan"))}, "keeps nothing"),
    ],
)
def test_limits_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        limits_with(changes)


# The filter


@pytest.fixture
def dataset(tmp_path, picture):
    """Clips with one fault each, a good one, a picture and a broken file."""
    folder = tmp_path / "data"
    write_mp4(folder / "good.mp4", pan(picture, 0.3), fps=FPS)
    write_mp4(folder / "still.mp4", pan(picture, 0), fps=FPS)
    write_mp4(folder / "black.mp4", pan(picture, 0.3) * 0.01, fps=FPS)
    write_png(folder / "pictures/one.png", picture[200:400, 200:500])
    (folder / "broken.mp4").write_bytes(b"no video" * 100)
    return folder


def reasons(decisions):
    return {d.path: [reason.measure for reason in d.reasons] for d in decisions.files}


def test_each_fault_is_named(dataset):
    decisions = filter_files(dataset)
    found = reasons(decisions)
    assert found["good.mp4"] == found["pictures/one.png"] == []
    assert found["still.mp4"] == ["motion"]
    assert found["broken.mp4"] == ["unreadable"]
    assert {"dark", "bars"} <= set(found["black.mp4"])
    assert decisions.off["consistency"] == "no CLIP is given"


def test_other_limits_decide_without_measuring(dataset):
    filter_files(dataset)
    journal = dataset / "preparation/measures.jsonl"
    before = journal.read_bytes()
    stages = []
    decisions = filter_files(
        dataset,
        {"motion": Limit(0.4, None), "side": Limit(None, 150)},
        progress=lambda stage, _, total: stages.append((stage, total)),
    )
    assert journal.read_bytes() == before
    assert ("measure", 0) in stages
    assert reasons(decisions)["good.mp4"] == ["motion"]
    assert reasons(decisions)["pictures/one.png"] == ["side"]


def test_a_changed_file_is_measured_again(dataset, picture):
    filter_files(dataset)
    write_mp4(dataset / "still.mp4", pan(picture, 0.3)[:12], fps=FPS)
    write_mp4(dataset / "new.mp4", pan(picture, 0.2), fps=FPS)
    totals = set()
    decisions = filter_files(dataset, progress=lambda stage, _, total: totals.add((stage, total)))
    assert ("measure", 2) in totals
    assert reasons(decisions)["still.mp4"] == reasons(decisions)["new.mp4"] == []


def lines_of(folder):
    file = folder / "preparation/measures.jsonl"
    return file.read_text().splitlines()[1:] if file.exists() else []


def values_by_path(folder):
    return {line["path"]: line["values"] for line in map(json.loads, lines_of(folder))}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends programs otherwise")
@pytest.mark.slow
def test_killed_in_the_middle_and_started_again(tmp_path, picture):
    folder = tmp_path / "data"
    first = write_mp4(folder / "00.mp4", pan(picture, 0.5).repeat(8, 1, 1, 1), fps=FPS)
    for number in range(1, 25):
        shutil.copy(first, folder / f"{number:02d}.mp4")
    command = [sys.executable, "-m", "easyanimate_core", "prepare-data", "filter", str(folder)]
    process = subprocess.Popen([*command, "--workers", "1", "--no-ocr"])
    try:
        deadline = time.monotonic() + 60
        while len(lines_of(folder)) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = len(lines_of(folder))
    assert 2 <= done < 25
    whole = values_by_path(folder)

    totals = set()
    filter_files(folder, progress=lambda stage, _, total: totals.add((stage, total)))
    assert totals & {("measure", 25 - done), ("measure", 26 - done)}, "the rest alone is measured"
    assert len(lines_of(folder)) == 25
    values = values_by_path(folder)
    assert len(values) == 25
    assert whole.items() <= values.items()
    assert len({json.dumps(v) for v in values.values()}) == 1, "copies have the same values"


def test_a_line_that_was_cut_off_is_dropped(dataset):
    filter_files(dataset)
    journal = dataset / "preparation/measures.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    filter_files(dataset)
    assert sorted(journal.read_bytes().splitlines()) == sorted(whole.splitlines())
    journal.write_bytes(whole.replace(b'"identity"', b'"identity', 1))
    with pytest.raises(InputError, match=r"measures.jsonl, line 2, is damaged.*Delete the line"):
        filter_files(dataset)


@pytest.mark.slow
def test_two_processes_measure_the_same(dataset):
    alone = filter_files(dataset, measuring=Measuring(workers=1))
    values = values_by_path(dataset)
    shutil.rmtree(dataset / "preparation")
    assert filter_files(dataset, measuring=Measuring(workers=2)) == alone
    assert values_by_path(dataset) == values


@pytest.mark.slow
def test_a_worker_that_is_ended_from_outside():
    with pytest.raises(InputError, match=r"One of the 2 workers was killed.*with fewer workers"):
        list(each(os._exit, [1, 1], workers=2, stage="measure"))


def test_refusals(dataset, tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        filter_files(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="contains no clips or images"):
        filter_files(tmp_path / "empty")
    with pytest.raises(InputError, match=r"aesthetics has a limit.*no CLIP is given"):
        filter_files(dataset, {"aesthetics": Limit(4)})
    with pytest.raises(
        InputError, match=r"does not contain CLIP: config.json and model.safetensors"
    ):
        filter_files(dataset, measuring=Measuring(clip=tmp_path))
    with pytest.raises(InputError, match="An aesthetic head needs the CLIP"):
        filter_files(dataset, measuring=Measuring(aesthetic_head=tmp_path / "head.safetensors"))
    with pytest.raises(InputError, match="workers is 0"):
        filter_files(dataset, measuring=Measuring(workers=0))
    assert not (dataset / "preparation").exists()
