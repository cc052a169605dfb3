"""Scenes: real clips in one video with known cuts, and the plan of the clips."""

import json
import shutil
from pathlib import PurePosixPath

import pytest
import torch

from easyanimate_core.errors import InputError
from easyanimate_core.evaluation import find_video_set
from easyanimate_core.media import (
    VIDEO_SUFFIXES,
    read_facts,
    read_video,
    resize_cover,
    write_mp4,
)
from easyanimate_core.training.data.manifest import manifest_records
from easyanimate_core.training.preparation import (
    Detection,
    Splitting,
    read_captions,
    split_scenes,
    write_manifest,
)
from easyanimate_core.training.preparation.cuts import Cuts, find_cuts
from easyanimate_core.training.preparation.files import find_files
from easyanimate_core.training.preparation.scenes import Piece, pieces_of
from tests.factories import real_clip

HEIGHT, WIDTH, FPS = 64, 96, 25
#: Scenes of the long video: no clip has a cut of its own within these frames.
SCENES = (("bigbuckbunny", 40), ("carphone_pristine", 30), ("bikes", 25), ("bigbuckbunny", 50))
CUTS = (40, 70, 95)
SPLITTING = Splitting(min_seconds=0.9, max_seconds=1.2, margin=0.08)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with one video of `SCENES`, one after the other."""
    folder = tmp_path_factory.mktemp("videos")
    parts = []
    for name, frames in SCENES:
        clip = read_video(real_clip(name), max_frames=frames)
        parts.append(resize_cover(clip.frames, HEIGHT, WIDTH))
    write_mp4(folder / "day" / "long.mp4", torch.cat(parts), fps=FPS)
    return folder


@pytest.mark.parametrize("detector", ["content", "adaptive"])
def test_cuts_are_found_to_the_frame(videos, detector):
    found = find_cuts(videos / "day/long.mp4", Detection(detector))
    assert found == Cuts(frames=145, fps=FPS, height=HEIGHT, width=WIDTH, cuts=CUTS)


def test_clips_are_the_frames_of_their_scene(videos, tmp_path):
    out = tmp_path / "data"
    summary = split_scenes(videos, out, splitting=SPLITTING)
    assert (summary.sources, summary.scenes, summary.clips, summary.too_short) == (1, 4, 4, 1)
    scenes = json.loads(summary.list_file.read_text())
    assert [(s["start_frame"], s["end_frame"]) for s in scenes] == [
        (0, 40), (40, 70), (70, 95), (95, 145),
    ]  # fmt: skip
    clips = [clip for scene in scenes for clip in scene["clips"]]
    # Scenes lose 2 frames at each cut. 38 are no two clips of 23, 21 are none, 48 are two.
    assert [(clip["start_frame"], clip["end_frame"]) for clip in clips] == [
        (0, 30), (42, 68), (97, 121), (121, 145),
    ]  # fmt: skip
    source = read_video(videos / "day/long.mp4").frames
    for clip in clips:
        written = read_video(out / clip["file_path"])
        wanted = source[clip["start_frame"] : clip["end_frame"]]
        assert written.fps == FPS
        assert written.frames.shape == wanted.shape
        distance = (written.frames - wanted).abs().mean((1, 2, 3))
        assert distance.max() < 0.02, "each frame is its own, at the codec's loss"


@pytest.mark.parametrize(
    ("frames", "cuts", "splitting", "expected"),
    [
        (100, (), Splitting(1, 10), [[Piece(0, 100)]]),
        (100, (30,), Splitting(1, 10, margin=0.2), [[Piece(0, 28)], [Piece(32, 100)]]),
        (100, (12, 40), Splitting(2, 10, margin=0), [[], [Piece(12, 40)], [Piece(40, 100)]]),
        (100, (), Splitting(1, 4), [[Piece(0, 33), Piece(33, 67), Piece(67, 100)]]),
        (55, (), Splitting(4, 5), [[Piece(0, 50)]]),
        (9, (), Splitting(1, 4), [[]]),
        (10, (), Splitting(1, 1), [[Piece(0, 10)]]),
        (25, (), Splitting(1, 1), [[Piece(0, 10), Piece(10, 20)]]),
    ],
)
def test_plan_of_clips(frames, cuts, splitting, expected):
    assert pieces_of(Cuts(frames, 10.0, 64, 96, cuts), splitting) == expected


def test_a_list_first_and_clips_later(videos, tmp_path):
    out = tmp_path / "data"
    split_scenes(videos, out, splitting=SPLITTING, list_only=True)
    assert not (out / "clips").exists()
    stages = []
    split_scenes(
        videos,
        out,
        splitting=SPLITTING,
        progress=lambda stage, _, total: stages.append((stage, total)),
    )
    assert set(stages) == {("scenes", 0), ("clips", 1)}, "the cuts are not looked for again"
    before = {file: file.stat().st_mtime_ns for file in (out / "clips").rglob("0*.mp4")}
    assert len(before) == 4
    split_scenes(videos, out, splitting=SPLITTING)
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_changed_source_is_split_again(videos, tmp_path):
    source, out = tmp_path / "a.mp4", tmp_path / "data"
    frames = read_video(videos / "day/long.mp4").frames
    write_mp4(source, frames[:50], fps=FPS)
    split_scenes(source, out, splitting=Splitting(1, 1))
    assert sorted(file.name for file in out.rglob("0*.mp4")) == ["0000.mp4"]
    write_mp4(source, frames[95:], fps=FPS)
    split_scenes(source, out, splitting=Splitting(1, 1))
    assert sorted(file.name for file in out.rglob("0*.mp4")) == ["0000.mp4", "0001.mp4"]
    write_mp4(source, frames[:30], fps=FPS)
    split_scenes(source, out, splitting=Splitting(1, 1))
    assert sorted(file.name for file in out.rglob("0*.mp4")) == ["0000.mp4"]


def test_a_journal_of_elsewhere_removes_nothing(videos, tmp_path):
    out, kept = tmp_path / "data", tmp_path / "kept.mp4"
    split_scenes(videos, out, splitting=SPLITTING)
    kept.write_bytes(b"mine")
    journal = out / "preparation" / "clips.jsonl"
    head, record = map(json.loads, journal.read_text().splitlines())
    record |= {"identity": "another", "clips": [str(kept), "../kept.mp4", "clips/../../kept.mp4"]}
    journal.write_text(f"{json.dumps(head)}\n{json.dumps(record)}\n")
    assert split_scenes(videos, out, splitting=SPLITTING).clips == 4
    assert kept.read_bytes() == b"mine"


@pytest.mark.slow
def test_no_folder_is_taken_for_a_clip(videos, tmp_path):
    """Videos of one stem, and a name that looks like another's folder, do not meet either."""
    sources, out = tmp_path / "sources", tmp_path / "data"
    for name in ("a.mp4", "a.mov", "a-mp4.mp4", "a-mp4/b.mp4"):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(videos / "day/long.mp4", sources / name)
    assert split_scenes(sources, out, splitting=SPLITTING).clips == 16
    clips = [file.relative_to(out).as_posix() for file in out.rglob("*.mp4")]
    assert len(clips) == 16
    assert {str(PurePosixPath(clip).parent) for clip in clips} == {
        "clips/a-mp4", "clips/a-mov", "clips/a-mp4-mp4", "clips/a-mp4/b-mp4",
    }  # fmt: skip
    folders = [path for path in out.rglob("*") if path.is_dir()]
    assert not [path for path in folders if path.suffix.lower() in VIDEO_SUFFIXES]
    assert sorted(data.path for data in find_files(out)) == sorted(clips)
    assert len(find_video_set(out / "clips").videos) == 16
    (tmp_path / "texts.json").write_text(
        json.dumps([{"file_path": clip, "text": "A clip."} for clip in clips])
    )
    read_captions(out, tmp_path / "texts.json")
    manifest = write_manifest(out, out / "train.json").file
    assert len(manifest_records(manifest, None, fps=8, report=print)) == 16


def test_clips_of_an_earlier_layout_are_refused(videos, tmp_path):
    """They stay, and so does what the other steps have recorded of them."""
    out = tmp_path / "data"
    split_scenes(videos, out, splitting=SPLITTING)
    journal = out / "preparation" / "clips.jsonl"
    journal.write_text(journal.read_text().replace("long-mp4/", "long.mp4/"))
    (out / "clips/day/long-mp4").rename(out / "clips/day/long.mp4")
    before = sorted(out.rglob("*"))
    with pytest.raises(InputError, match=r"clips/day/long\.mp4.*Name another folder to write to"):
        split_scenes(videos, out, splitting=SPLITTING)
    assert sorted(out.rglob("*")) == before
    assert len(find_files(out)) == 4


def test_a_file_where_a_clip_would_lie_is_kept(videos, tmp_path):
    name = "clips/day/long-mp4/0000.mp4"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("notes")
    with pytest.raises(InputError, match=r"0000\.mp4 already exists and is not a valid MP4 video"):
        split_scenes(videos, tmp_path, splitting=SPLITTING)
    assert (tmp_path / name).read_text() == "notes"


def test_odd_sides_lose_a_row_and_damage_is_told(tmp_path):
    import av

    folder = tmp_path / "videos"
    folder.mkdir()
    with av.open(str(folder / "odd.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 65, 49, "yuv420p"
        for level in range(20):
            picture = torch.tensor([100 + 5 * level, 60, 30], dtype=torch.uint8)
            picture = picture.expand(49, 65, 3).numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    (folder / "broken.mp4").write_bytes(b"no video" * 50)
    summary = split_scenes(folder, tmp_path / "data", splitting=Splitting(1, 10))
    assert summary.clips == 1
    (error,) = summary.unreadable
    assert "broken.mp4 is not a video" in error
    clip = tmp_path / "data/clips/odd-avi/0000.mp4"
    assert read_facts(clip).frames == 20
    assert read_video(clip).frames.shape == (20, 48, 64, 3)


def test_refusals(videos, tmp_path):
    with pytest.raises(InputError, match="contains no videos"):
        split_scenes(tmp_path, tmp_path / "data")
    with pytest.raises(InputError, match="does not exist"):
        split_scenes(tmp_path / "missing", tmp_path / "data")
    with pytest.raises(InputError, match=r"'clever' is unknown. Use content or adaptive"):
        Detection("clever")
    with pytest.raises(InputError, match="above 0"):
        Detection(threshold=0)
    with pytest.raises(InputError, match="Clips cannot take 5 to 4 seconds"):
        Splitting(5, 4)
    with pytest.raises(InputError, match="margin is 2 seconds"):
        Splitting(2, 4, margin=2)
    with pytest.raises(InputError, match="crf is 60"):
        Splitting(crf=60)
    assert not (tmp_path / "data").exists()
    out = tmp_path / "out"
    split_scenes(videos, out, splitting=SPLITTING)
    with pytest.raises(InputError, match=r"min_seconds is 0.5 and was 0.9.*another output folder"):
        split_scenes(videos, out, splitting=Splitting(0.5, 1.2, margin=0.08))
    with pytest.raises(InputError, match="threshold is 30 and was None"):
        split_scenes(videos, out, detection=Detection(threshold=30), splitting=SPLITTING)
