"""What is in a frame: streams, turns, pixels that are not square, transparency, fields, colours."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from PIL import Image

from easyanimate_core.errors import InputError, MediaError
from easyanimate_core.media import (
    Fit,
    read_facts,
    read_image,
    read_mask,
    read_video,
    stream_frames,
    write_mp4,
)
from easyanimate_core.tasks import Control, RegionEdit, Target, VideoToVideo
from tests.factories import damage, grey, pixels, write_film

EIGHTHS = [i / 8 for i in range(5)]


def corners(height=32, width=64) -> np.ndarray:
    """Another colour in each quarter: tells every turn and flip."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (230, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 200, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 230)
    pixels[height // 2 :, width // 2 :] = (220, 220, 220)
    return pixels


def middle(pixels) -> list[list[int]]:
    """The colours in the middle of the quarters."""
    height, width = pixels.shape[:2]
    places = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [(pixels[place] * 255).round().int().tolist() for place in places]


def close(found, expected, tolerance=8):
    return np.abs(np.array(found) - np.array(expected)).max() <= tolerance


# Which stream


@pytest.mark.parametrize("is_default", [True, False])
def test_the_film_is_read_and_not_the_picture_before_it(tmp_path, is_default):
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        small = container.add_stream("mjpeg", rate=1)
        small.width, small.height, small.pix_fmt = 32, 32, "yuvj420p"
        film = container.add_stream("libx264", rate=8)
        film.width, film.height, film.pix_fmt = 96, 64, "yuv420p"
        if is_default:
            film.disposition = Disposition.default
        container.mux(small.encode(av.VideoFrame.from_ndarray(grey(0.9, 32, 32))))
        container.mux(small.encode())
        for index in range(9):
            container.mux(film.encode(av.VideoFrame.from_ndarray(grey(index / 10))))
        container.mux(film.encode())
    clip = read_video(tmp_path / "clip.mp4")
    assert clip.frames.shape == (9, 64, 96, 3)
    facts = read_facts(tmp_path / "clip.mp4")
    assert (facts.height, facts.width, facts.frames, facts.fps) == (64, 96, 9, 8)


# Which way up


ONE = {1: (1 << 16).to_bytes(4, "big"), 0: bytes(4), -1: (-1 << 16).to_bytes(4, "big", signed=True)}


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
        ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
        ((1, 0, 0, -1), lambda p: p[::-1]),
        ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda p: p[::-1, ::-1].swapaxes(0, 1)),
    ],
)
def test_turns_and_flips(tmp_path, matrix, shown):
    data = bytearray(write_film(tmp_path / "as_is.mp4", [corners()] * 5, EIGHTHS).read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (ONE[value] for value in matrix)
    data[place : place + 24] = a + b + bytes(4) + c + d + bytes(4)
    (tmp_path / "turned.mp4").write_bytes(data)
    clip = read_video(tmp_path / "turned.mp4")
    expected = np.ascontiguousarray(shown(corners()))
    assert clip.frames.shape[1:3] == expected.shape[:2]
    assert close(middle(clip.frames[2]), middle(torch.from_numpy(expected) / 255))
    facts = read_facts(tmp_path / "turned.mp4")
    assert (facts.height, facts.width) == expected.shape[:2]


# Pixels that are not square


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(2), 128), (Fraction(8, 9), 57)])
def test_pixels_that_are_not_square_are_made_so(tmp_path, aspect, width):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = aspect

    path = write_film(tmp_path / "clip.mp4", [corners()] * 5, EIGHTHS, set_up=wide)
    clip = read_video(path)
    assert clip.frames.shape == (5, 32, width, 3)
    assert close(middle(clip.frames[0]), middle(torch.from_numpy(corners()) / 255), 12)
    assert f"64 x 32 is shown as {width} x 32" in clip.notes[0]
    assert (read_facts(path).height, read_facts(path).width) == (32, width)
    sources = (
        VideoToVideo(path).load(max_seconds=0.6, fit=Fit(8.0, (32, 64))).align(Target(32, 64, 5))
    )
    assert any(note.startswith("The video: Its pixels are not square") for note in sources.notes)


# Transparency


def cut_out() -> np.ndarray:
    """A green square; the colour under the transparency around it is magenta, which none shows."""
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[..., :3] = (255, 0, 255)
    rgba[16:48, 16:48] = (0, 200, 0, 255)
    return rgba


@pytest.fixture(scope="module", params=["mov", "prores", "vp9", "vp8", "gif", "webp", "png"])
def transparent(request, tmp_path_factory):
    folder, kind = tmp_path_factory.mktemp("transparent"), request.param
    frames = [cut_out()] * 5
    if kind in ("gif", "webp", "png"):
        moving = [Image.fromarray(frame) for frame in frames]
        moving[1].putpixel((20, 20), (0, 190, 0, 255))  # or the encoder keeps a single picture
        path = folder / f"clip.{kind}"
        options = {"lossless": True, "exact": True} if kind == "webp" else {}
        moving[0].save(
            path, save_all=True, append_images=moving[1:], duration=120, disposal=2, **options
        )
        return path
    codec, form, name = {
        "mov": ("qtrle", "argb", "clip.mov"),
        "prores": ("prores_ks", "yuva444p10le", "clip.mov"),
        "vp9": ("libvpx-vp9", "yuva420p", "clip.webm"),
        "vp8": ("libvpx", "yuva420p", "clip.webm"),
    }[kind]
    options = {"profile": "4444"} if kind == "prores" else {}
    if kind.startswith("vp"):
        options = {"auto-alt-ref": "0", "crf": "10", "b": "1M"}
    return write_film(folder / name, frames, EIGHTHS, codec=codec, form=form, **options)


def test_transparency_of_clips_shows_white(transparent, tmp_path):
    Image.fromarray(cut_out()).save(tmp_path / "still.png")
    still = read_image(tmp_path / "still.png")[0]
    frames = read_video(transparent).frames
    assert (frames[-1] - still).abs().mean() < 0.01
    assert frames[0, :8].min() > 0.97


def test_transparent_mask_clips_are_refused(transparent):
    with pytest.raises(InputError, match="has transparency"):
        read_mask(transparent)


# Fields


def test_fields_are_made_frames_of_one_moment(tmp_path):
    def bar(place):
        pixels = np.zeros((64, 96, 3), np.uint8)
        pixels[:, place : place + 12] = 235
        return pixels

    frames = []
    for index in range(5):
        woven = bar(8 * index)
        woven[1::2] = bar(8 * index + 4)[1::2]
        frames.append(woven)
    path = write_film(
        tmp_path / "fields.mp4", frames, EIGHTHS, flags="+ilme+ildct", **{"x264-params": "tff=1"}
    )
    clip = read_video(path)
    combs = (clip.frames[:, 1:] - clip.frames[:, :-1]).abs().mean()
    assert len(clip.frames) == 5
    assert clip.times.starts == pytest.approx(EIGHTHS)
    assert combs < 0.01
    assert any("interlaced" in note for note in clip.notes)
    assert len(list(stream_frames(path))) == 5
    sources = Control(path).load(max_seconds=0.6).align(Target(64, 96, 5))
    assert any("interlaced" in note for note in sources.notes)


# Colours


def ramp() -> np.ndarray:
    """Grey from black to white, and colours of three quarters; float [H, W, 3]."""
    rgb = np.zeros((64, 96, 3))
    rgb[:32] = np.linspace(0, 1, 96)[None, :, None]
    for index, colour in enumerate([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0.75, 0.6)]):
        rgb[32:, 24 * index : 24 * index + 24] = np.array(colour) * 0.75
    return rgb


TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
TO_P3 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])


def to_hlg(rgb):
    light = rgb**2.4 * 0.203 @ TO_2020.T  # of a screen of 1000 cd/m2
    luma = np.maximum(light @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
    scene = light * luma ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene.clip(0)), high)


def to_pq(rgb):
    power = ((rgb**2.4 @ TO_2020.T).clip(0) * 203 / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def to_linear_p3(rgb):
    return ((rgb**2.4) @ TO_P3.T).clip(0, 1) ** (1 / 2.4)


def to_2020(rgb):
    return ((rgb**2.4) @ TO_2020.T).clip(0, 1) ** (1 / 2.4)


def coloured(path, rgb, *, matrix, primaries, transfer, full=False, form="yuv444p10le"):
    """A clip whose pixels are worked out here, and whose tags are those that are given."""
    kr, kb = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]
    luma = kr * rgb[..., 0] + (1 - kr - kb) * rgb[..., 1] + kb * rgb[..., 2]
    planes = [luma, (rgb[..., 2] - luma) / (2 * (1 - kb)), (rgb[..., 0] - luma) / (2 * (1 - kr))]
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], form)
    for index, (plane, values) in enumerate(zip(frame.planes, planes, strict=True)):
        scale, ground = (
            (1023, 512 if index else 0) if full else ((896, 512) if index else (876, 64))
        )
        row = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        row[:, : plane.width] = np.round(ground + scale * values).clip(0, 1023)
        plane.update(row.tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = *rgb.shape[:2], form
        stream.options = {"crf": "1"}
        context = stream.codec_context
        context.colorspace, context.color_primaries = matrix, primaries
        context.color_trc, context.color_range = transfer, 2 if full else 1
        for index in range(3):
            frame.pts, frame.time_base = index, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("made", "tags", "told", "tolerance"),
    [
        (to_hlg, {"matrix": 9, "primaries": 9, "transfer": 18}, "HDR (HLG) in BT.2020", 0.075),
        (to_pq, {"matrix": 9, "primaries": 9, "transfer": 16}, "HDR (PQ) in BT.2020", 0.075),
        (to_2020, {"matrix": 9, "primaries": 9, "transfer": 14}, "BT.2020", 0.09),
        (to_linear_p3, {"matrix": 1, "primaries": 12, "transfer": 1}, "Display P3", 0.09),
    ],
)
def test_hdr_and_wide_gamut_come_as_on_an_ordinary_screen(tmp_path, made, tags, told, tolerance):
    rgb = ramp()
    clip = read_video(coloured(tmp_path / "clip.mp4", made(rgb), **tags))
    expected = torch.from_numpy(rgb).float()
    difference = (clip.frames[1] - expected)[:, 2::4].abs()
    assert difference.max() < tolerance
    assert difference.mean() < tolerance / 2
    assert told in clip.notes[0]
    # Scaled before it is converted, which saves time, it is the same.
    fit = read_video(tmp_path / "clip.mp4", fit=Fit(8.0, (32, 48)))
    assert fit.frames.shape[1:3] == (32, 48)
    assert (fit.frames[1] - clip.frames[1, ::2, ::2]).abs().mean() < 0.02


def test_highlights_of_hdr_stay_apart(tmp_path):
    """What is brighter than white paper is not cut off at white."""
    rgb = np.repeat(np.linspace(1, 1.9, 96)[None, :, None], 64, 0).repeat(3, 2)
    path = coloured(tmp_path / "clip.mp4", to_pq(rgb), matrix=9, primaries=9, transfer=16)
    row = read_video(path).frames[1, 32, :, 1]
    assert row[0] < 0.96 and row[0] + 0.03 < row[24] < row[48] < row[95]


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("full", [False, True])
def test_matrix_and_range_are_those_of_the_tags(tmp_path, matrix, full):
    rgb = ramp()
    path = coloured(tmp_path / "clip.mp4", rgb, matrix=matrix, primaries=1, transfer=1, full=full)
    clip = read_video(path)
    assert (clip.frames[1] - torch.from_numpy(rgb).float())[:, 2::4].abs().max() < 0.03
    assert clip.notes == ()


def test_dolby_vision_without_another_picture_is_refused(tmp_path):
    """Its colours would come out green and magenta."""
    path = write_film(tmp_path / "clip.mp4", [grey(0.5)] * 3, EIGHTHS[:3], codec="libx265",
                      **{"x265-params": "log-level=none"})  # fmt: skip
    path.write_bytes(path.read_bytes().replace(b"hev1", b"dvh1"))
    with pytest.raises(MediaError, match="is Dolby Vision without a fallback for other players"):
        read_video(path)


# Bounds


def test_a_clip_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "huge.y4m").write_bytes(
        b"YUV4MPEG2 W13300 H13300 F8:1 C420jpeg\nFRAME\n" + bytes(99)
    )
    with pytest.raises(MediaError, match="13300 x 13300, 177 million pixels; at most 67 million"):
        read_video(tmp_path / "huge.y4m")


def test_memory_follows_the_result(tmp_path):
    """Frames that are shown are kept, at the size that is asked for, and no others."""
    times = [i / 60 for i in range(60)]
    path = write_film(tmp_path / "clip.mp4", [grey(0.5, 360, 640)] * 60, times)
    task = VideoToVideo(path).load(max_seconds=5 / 8, fit=Fit(8.0, (64, 96)))
    assert task.video.frames.shape[1:] == (64, 96, 3)
    assert task.video.frames.shape[0] <= 7
    assert task.source_size() == (360, 640)
    masked = RegionEdit(path, path).load(max_seconds=5 / 8, fit=Fit(8.0, (64, 96)))
    assert masked.mask.frames.shape == masked.video.frames.shape[:3]


def test_an_index_that_is_cut_off_is_told(tmp_path):
    data = write_film(tmp_path / "clip.mp4", [grey(0.5)] * 5, EIGHTHS).read_bytes()
    place = data.index(b"moov")
    (tmp_path / "cut.mp4").write_bytes(data[: place + 60])
    with pytest.raises(MediaError, match="cut off"):
        read_video(tmp_path / "cut.mp4")


def test_frames_that_a_decoder_has_made_up_are_told(tmp_path):
    """Players fill in what is missing of a frame, of the one before; so is it here, and said."""
    path = write_mp4(tmp_path / "clip.mp4", pixels(1, frames=9), fps=8)
    whole = read_video(path)
    assert not whole.is_damaged
    damage(path, 6, whole=False)
    clip = read_video(path)
    assert len(clip.frames) == len(whole.frames)
    assert clip.is_damaged
    assert clip.notes == ("It is damaged from frame 6 on; missing parts are filled in.",)
    assert [f.is_damaged for f in stream_frames(path)] == [number == 6 for number in range(9)]
    assert not read_video(path, max_frames=6).is_damaged
    assert torch.equal(clip.frames[:6], whole.frames[:6])
