"""Still pictures, animations, folders of pictures, and the names that people give to them."""

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from easyanimate_core.errors import EasyAnimateError, MediaError
from easyanimate_core.media import (
    Fit,
    read_any,
    read_facts,
    read_image,
    read_mask,
    read_metadata,
    read_still,
    read_video,
    write_mp4,
    write_png,
)
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.recipe import Recipe
from easyanimate_core.tasks import ImageToVideo, RegionEdit, Target, VideoToVideo
from tests.factories import V5_1, grey, numbered, quick, write_film

READERS = (read_image, read_mask, read_video, read_facts, read_metadata, read_any)


def ramp(kind=np.float32) -> np.ndarray:
    return np.tile(np.linspace(0, 1, 48, dtype=kind), (32, 1))


def png_with(path, name: bytes, content: bytes) -> Path:
    """The file with a chunk behind its header."""
    data = path.read_bytes()
    path.write_bytes(data[:33] + png_chunk(name, content) + data[33:])
    return path


def png_chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


# Formats


def test_a_format_that_runs_other_programs_is_not_opened(tmp_path):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "start.png").write_text(text)
    with pytest.raises(
        MediaError, match=r"not a picture in a supported format. Supported are PNG, JPEG"
    ):
        read_image(tmp_path / "start.png")


@pytest.mark.parametrize("ending", ["ppm", "tga", "ico", "pcx", "sgi", "dds", "jp2"])
def test_formats_beside_the_list_are_refused(tmp_path, ending):
    Image.fromarray(grey(0.5)).save(tmp_path / f"picture.{ending}")
    with pytest.raises(MediaError, match="not a picture in a supported format"):
        read_image(tmp_path / f"picture.{ending}")


@pytest.mark.parametrize("name", ["x.PNG", "x.JPG", "x.WebP", "x.TIFF", "x.bmp", "x.GIF", "x.avif"])
def test_formats_of_the_list_are_read_whatever_the_case(tmp_path, name):
    Image.fromarray(grey(0.5)).save(tmp_path / name)
    assert read_image(tmp_path / name).mean() == pytest.approx(0.5, abs=0.01)
    assert read_any(tmp_path / name).frames.shape == (1, 64, 96, 3)


def test_heic_is_told_what_it_is(tmp_path):
    head = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic"
    (tmp_path / "photo.HEIC").write_bytes(head + bytes(100))
    for read in READERS:
        with pytest.raises(MediaError, match=r"is a HEIC picture.*as JPEG or PNG"):
            read(tmp_path / "photo.HEIC")


# Bounds and damage


def huge_png(path, width, height) -> Path:
    """One bit per pixel, and so nothing to speak of on the disk."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    row = bytes(1 + (width + 7) // 8)
    compressor = zlib.compressobj(9)
    data = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    return path


@pytest.mark.parametrize("size", [(40, 1_000_000), (1_000_000, 40)])
def test_a_picture_of_endless_rows_is_refused(tmp_path, size):
    with pytest.raises(MediaError, match="sides may have at most 65535 pixels"):
        read_image(huge_png(tmp_path / "long.png", *size))


@pytest.mark.parametrize("side", [13_300, 20_000])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, side):
    path = huge_png(tmp_path / "huge.png", side, side)
    assert path.stat().st_size < 60_000
    for read in (read_image, read_mask):
        with pytest.raises(MediaError, match=r"too many pixels|million pixels; at most 67 million"):
            read(path)


def test_a_damaged_picture_gives_a_result_or_a_refusal(tmp_path):
    """Pillow reports each of these by another type of exception, or reads on."""
    whole = write_png(tmp_path / "whole.png", torch.rand(16, 16, 3)).read_bytes()
    broken = {
        "text.png": png_with(write_png(tmp_path / "a.png", torch.rand(8, 8, 3)), b"iTXt", b"x"),
        "bomb.png": png_with(
            write_png(tmp_path / "b.png", torch.rand(8, 8, 3)),
            b"zTXt",
            b"k\0\0" + zlib.compress(bytes(10**7)),
        ),
        "head.png": whole[:20],
        "size.png": whole[:16] + bytes(8) + whole[24:],
        "tiff.tiff": b"II*\0\x08\0\0\0\xff\xff" + bytes(40),
        "webp.webp": b"RIFF\x20\0\0\0WEBPVP8X" + bytes(24),
        "gif.gif": b"GIF89a\xff\xff\xff\xff\xf7\0\0" + bytes(30),
        "avif.avif": struct.pack(">I", 24) + b"ftypavif" + bytes(4) + b"mif1avif" + bytes(60),
        "jpeg.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(30),
        "bmp.bmp": b"BM" + bytes(12) + b"\x28\0\0\0" + b"\xff" * 40,
    }
    for name, content in broken.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            content.rename(tmp_path / name)
        for read in (read_image, read_mask, read_video):
            with suppress(EasyAnimateError):
                read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 300 + ".png", "cannot be opened: File name too long"),
        ("a\0b.mp4", "is not a valid file name"),
        ("missing.mp4", "does not exist"),
        ("frames/%04d.png", "does not exist: no file matches this pattern"),
    ],
)
def test_names_that_no_file_has(tmp_path, name, message):
    for read in READERS:
        with pytest.raises(MediaError, match=message.split(":")[0]):
            read(tmp_path / name)
    with pytest.raises(MediaError, match=message):
        VideoToVideo(tmp_path / name).load(max_seconds=1)


def test_the_home_folder_is_meant_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_png(tmp_path / "picture.png", numbered(1)[0])
    write_mp4(tmp_path / "clip.mp4", numbered(5))
    assert len(read_video("~/clip.mp4").frames) == 5
    task = ImageToVideo("~/picture.png").load(max_seconds=1)
    assert task.source_size() == (64, 96)


def test_texts_in_another_encoding_do_not_matter(tmp_path):
    """A title in Latin-1, as old programs write it."""
    path = write_mp4(tmp_path / "clip.mp4", numbered(5), metadata={"comment": "Cafe"})
    path.write_bytes(path.read_bytes().replace(b"Cafe", b"Caf\xe9"))
    assert len(read_video(path).frames) == 5
    assert read_facts(path).frames == 5
    assert read_metadata(path)["comment"].startswith("Caf")
    read_metadata(path)["comment"].encode()


def test_exif_that_is_damaged_does_not_lose_the_picture(tmp_path):
    """XMP in another encoding than UTF-8, which Pillow reads for the orientation."""
    Image.fromarray(grey(0.5)).save(tmp_path / "photo.jpg", xmp=b"<x\xa8\xff tiff:Orientation>")
    Image.fromarray(grey(0.5)).save(tmp_path / "other.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    for name in ("photo.jpg", "other.jpg"):
        picture = read_still(tmp_path / name)
        assert picture.frames.mean() == pytest.approx(0.5, abs=0.01)
        assert all("EXIF data is damaged" in note for note in picture.notes)


# Depth and colours


def test_floating_point_grey(tmp_path):
    Image.fromarray(ramp(), mode="F").save(tmp_path / "depth.tiff")
    image = read_image(tmp_path / "depth.tiff")
    assert torch.allclose(image[0, ..., 2], torch.from_numpy(ramp()))
    assert torch.equal(read_mask(tmp_path / "depth.tiff")[0], (image[0, ..., 0] >= 0.5).float())
    for values in (ramp() * 255, ramp() - 0.5, np.full((8, 8), np.nan, np.float32)):
        Image.fromarray(values, mode="F").save(tmp_path / "other.tiff")
        with pytest.raises(MediaError, match="floating-point values from"):
            read_image(tmp_path / "other.tiff")


def wide_profile() -> bytes:
    """That of a screen whose red, green and blue are BT.2020's, in gamma 2.2."""

    def fixed(value):
        return struct.pack(">i", round(value * 65536))

    def tag_xyz(*values):
        return b"XYZ " + bytes(4) + b"".join(map(fixed, values))

    text = b"Wide screen"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(90 - 11),
        b"wtpt": tag_xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": tag_xyz(0.6734, 0.2790, -0.0019),
        b"gXYZ": tag_xyz(0.1656, 0.6753, 0.0299),
        b"bXYZ": tag_xyz(0.1251, 0.0456, 0.7969),
        **dict.fromkeys(
            (b"rTRC", b"gTRC", b"bTRC"), b"curv" + bytes(4) + struct.pack(">IH", 1, 563) + bytes(2)
        ),
    }
    place, table, content = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", place + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    body = struct.pack(">I", len(tags)) + table + content
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"lcms", 2**26, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642) + fixed(1.0) + fixed(0.8249) + bytes(48)
    return head[:128] + body


def test_colour_profiles_are_applied_and_told(tmp_path):
    orange = np.full((16, 16, 3), (200, 120, 40), np.uint8)
    Image.fromarray(orange).save(tmp_path / "wide.png", icc_profile=wide_profile())
    wide = read_still(tmp_path / "wide.png")
    red, green, blue = (wide.frames[0, 0, 0] * 255).tolist()
    assert (red, blue) > (225, 0)
    assert green < 120
    assert "profile 'Wide screen'" in wide.notes[0]
    sources = ImageToVideo(tmp_path / "wide.png").load(max_seconds=1).align(Target(16, 16, 5))
    assert any(note.startswith("The start image: Its colours") for note in sources.notes)
    standard = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(orange).save(tmp_path / "same.png", icc_profile=standard)
    same = read_still(tmp_path / "same.png")
    assert (same.frames[0, 0, 0] * 255).tolist() == pytest.approx([200, 120, 40])
    assert same.notes == ()
    Image.fromarray(orange).save(tmp_path / "broken.png", icc_profile=b"no profile")
    broken = read_still(tmp_path / "broken.png")
    assert (broken.frames[0, 0, 0] * 255).tolist() == pytest.approx([200, 120, 40])
    assert "cannot be used" in broken.notes[0]


def test_hdr_pictures(tmp_path):
    """PNG says its colours by the chunk cICP; 149 of 255 is about HDR's reference white in PQ."""
    Image.fromarray(np.full((16, 16, 3), 148, np.uint8)).save(tmp_path / "hdr.png")
    picture = read_still(png_with(tmp_path / "hdr.png", b"cICP", bytes([9, 16, 0, 1])))
    assert picture.frames.mean() == pytest.approx(0.94, abs=0.04)
    assert "HDR (PQ) in BT.2020" in picture.notes[0]


def test_hdr_avif(tmp_path):
    with av.open(str(tmp_path / "hdr.avif"), "w", format="avif") as container:
        try:
            stream = container.add_stream("libsvtav1", rate=1)
        except (ValueError, av.FFmpegError):
            pytest.skip("this PyAV writes no AV1")
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, 16
        context.color_range = 2
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 148, np.uint8))
        container.mux(stream.encode(frame.reformat(format="yuv420p10le", dst_color_range=2)))
        container.mux(stream.encode())
    picture = read_still(tmp_path / "hdr.avif")
    assert "HDR (PQ) in BT.2020" in picture.notes[0]
    assert picture.frames.mean() == pytest.approx(0.94, abs=0.05)


# Animations


@pytest.mark.parametrize("ending", ["webp", "png", "avif", "gif"])
def test_animations_are_clips_with_their_own_times(tmp_path, ending):
    frames = [Image.fromarray(grey(i / 5)) for i in range(5)]
    times = [120, 120, 400, 120, 1000]
    path = tmp_path / f"moving.{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0)
    clip = read_video(path)
    assert clip.times.starts == pytest.approx([0, 0.12, 0.24, 0.64, 0.76], abs=0.011)
    assert clip.times.end == pytest.approx(1.76, abs=0.02)
    assert [float(frame.mean()) for frame in clip.frames] == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8], abs=0.02
    )
    facts = read_facts(path)
    assert (facts.frames, facts.height, facts.width) == (5, 64, 96)
    assert facts.seconds == pytest.approx(1.76, abs=0.05)
    with pytest.raises(MediaError, match="is an animation; read it as a video"):
        read_image(path)
    sources = (
        VideoToVideo(path)
        .load(max_seconds=5 / 4, fit=Fit(4.0, (64, 96)))
        .align(Target(64, 96, 5, fps=4))
    )
    assert sources.video.shape[2] == 5
    assert read_mask(path).amax((1, 2)).tolist() == [0, 0, 0, 1, 1]


def test_a_single_picture_is_no_video(tmp_path):
    Image.fromarray(grey(0.5)).save(tmp_path / "still.webp")
    with pytest.raises(MediaError, match="not a video but a single picture"):
        read_video(tmp_path / "still.webp")


# Folders and patterns


@pytest.fixture
def folder(tmp_path):
    """Five pictures, 8 to 12, which text would sort otherwise; hidden files do not count."""
    place = tmp_path / "frames"
    place.mkdir()
    for number in range(8, 13):
        write_png(place / f"f_{number}.png", numbered(13)[number])
    (place / ".DS_Store").write_bytes(b"x")
    return place


def shown(clip) -> list[int]:
    return [round(float(frame.mean()) * 100) for frame in clip.frames]


def test_a_folder_of_pictures_is_a_clip(folder):
    clip = read_video(folder)
    assert shown(clip) == [8, 9, 10, 11, 12]
    assert clip.fps == 8
    assert clip.notes == ("It is 5 pictures, shown at 8 frames per second.",)
    assert read_video(folder, fit=Fit(24.0, (64, 96))).fps == 24
    assert (read_facts(folder).frames, read_facts(folder).seconds) == (5, 5 / 8)
    sources = RegionEdit(folder, folder).load(max_seconds=1, fit=Fit(8.0, (64, 96)))
    assert len(sources.video.frames) == 5
    with pytest.raises(MediaError, match="is a folder; name a file"):
        read_image(folder)


def test_a_pattern_is_a_clip(folder):
    clip = read_video(folder / "f_%d.png")
    assert shown(clip) == [8, 9, 10, 11, 12]
    (folder / "f_10.png").unlink()
    notes = read_video(folder / "f_%d.png").notes
    assert notes[1] == "Skipped: 1 number without a picture."
    assert shown(read_video(folder / "f_%02d.png")) == [11, 12]


def test_folders_that_are_no_clip_are_refused(folder, tmp_path):
    Image.fromarray(grey(0.5, 32, 32)).save(folder / "f_13.png")
    with pytest.raises(MediaError, match=r"f_13.png is 32 x 32, but the first picture .* 96 x 64"):
        read_video(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="is a folder without pictures"):
        read_video(tmp_path / "empty")
    write_film(folder / "clip.mp4", [grey(0.5)] * 2, [0, 0.1])
    with pytest.raises(MediaError, match=r"is a folder with videos, such as clip.mp4"):
        read_video(folder)


def test_a_run_from_a_folder_is_repeated_by_its_recipe(checkpoint, folder, tmp_path):
    pipeline = Pipeline.load(checkpoint(V5_1, Head.T2V))
    result = pipeline.generate("A boat", VideoToVideo(folder), quick())
    assert any(note.startswith("The video: It is 5 pictures") for note in result.notes)
    (_, sidecar) = result.save(tmp_path / "result.mp4")
    again = Recipe.read(sidecar)
    assert torch.equal(
        pipeline.generate(again.prompts, again.task, again.settings).frames, result.frames
    )
    write_png(folder / "f_9.png", numbered(3)[2])
    with pytest.raises(EasyAnimateError, match="has changed since the recipe was made"):
        Recipe.read(sidecar)
