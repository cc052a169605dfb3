"""Sources brought to the target: what goes where, what is said, what is refused."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyanimate_core.conditioning.encode import from_model_range, to_model_range
from easyanimate_core.errors import EasyAnimateError, HeadError, InputError
from easyanimate_core.media import Clip, read_image, read_video, write_mp4
from easyanimate_core.models.specs import Head
from easyanimate_core.paths.camera import camera_path
from easyanimate_core.paths.trajectory import Track
from easyanimate_core.tasks import (
    TASKS,
    Camera,
    Control,
    ImageToVideo,
    RegionEdit,
    Target,
    Task,
    TextToVideo,
    Trajectory,
    VideoToVideo,
)
from tests.factories import FRAMES, HEIGHT, V5_1, WIDTH, left_half, numbered, pixels, quick

SECONDS = 10.0


def aligned(task, **changes):
    target = {"height": HEIGHT, "width": WIDTH, "frames": FRAMES, **changes}
    return task.load(max_seconds=SECONDS).align(Target(**target))


def shown(video):
    """The number that `numbered` gave to every frame of a source's video."""
    return [round(float(frame.mean()) * 100) for frame in from_model_range(video[0])]


@dataclass(frozen=True)
class Echo(Task):
    """A mode of one's own, which says no more than it must."""

    video: object
    mode = "echo"
    heads = (Head.T2V,)

    def load(self, *, max_seconds=None, fit=None):
        return VideoToVideo(self.video).load(max_seconds=max_seconds, fit=fit)


def test_a_mode_is_what_the_protocol_says(pipeline):
    task = Echo(numbered(FRAMES))
    model = pipeline(V5_1, Head.T2V)
    made = model.generate("a fox", task, quick())
    assert made.frames.shape == (1, FRAMES, HEIGHT, WIDTH, 3)
    assert made.recipe.to_json()["mode"] == "echo"
    assert list(made.recipe.sources) == ["video"]
    with pytest.raises(HeadError, match="cannot do echo: it needs the T2V head"):
        pipeline(V5_1, Head.INPAINT).generate("a fox", task, quick())


def test_modes_go_by_their_names():
    assert {name: task.mode for name, task in TASKS.items()} == {name: name for name in TASKS}
    assert TextToVideo().strength == 1
    assert TextToVideo().reference is None


def test_text_shows_nothing():
    sources = aligned(TextToVideo())
    assert (sources.video, sources.mask, sources.control, sources.notes) == (None, None, None, ())


# Known frames


def known_frames(sources):
    """Frame number to picture, where the mask says known; the others must be hidden."""
    mask = sources.mask[0, 0]
    assert sources.mask.shape == (1, 1, FRAMES, HEIGHT, WIDTH)
    assert all(float(frame.min()) == float(frame.max()) for frame in mask)
    assert sources.video.shape == (1, 3, FRAMES, HEIGHT, WIDTH)
    video = from_model_range(sources.video[0])
    return {i: video[i] for i in range(FRAMES) if mask[i].max() == 0}


def check_known(task, expected):
    found = known_frames(aligned(task))
    assert sorted(found) == sorted(expected)
    for index, picture in expected.items():
        torch.testing.assert_close(found[index], picture)


A, B, C = pixels(1), pixels(2), pixels(3)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (ImageToVideo(start=A), {0: A[0]}),
        (ImageToVideo(end=B), {4: B[0]}),
        (ImageToVideo(A, B), {0: A[0], 4: B[0]}),
        (ImageToVideo(keyframes={2: A}), {2: A[0]}),
        (ImageToVideo(keyframes={-1: A, -4: B}), {4: A[0], 1: B[0]}),
        (ImageToVideo(A, B, {2: C}), {0: A[0], 4: B[0], 2: C[0]}),
        (ImageToVideo(start=torch.cat([A, B])), {0: A[0], 1: B[0]}),
        (ImageToVideo(end=torch.cat([A, B])), {3: A[0], 4: B[0]}),
    ],
    ids=["start", "end", "both", "middle", "from the end", "all kinds", "two first", "two last"],
)
def test_known_frames_are_in_their_place(task, expected):
    check_known(task, expected)


@given(st.lists(st.integers(-7, 7), min_size=1, max_size=5, unique=True))
def test_keyframes_anywhere(positions):
    task = ImageToVideo(keyframes={index: pixels(index + 50) for index in positions})
    inside = all(-FRAMES <= index < FRAMES for index in positions)
    places = {index % FRAMES for index in positions}
    if inside and len(places) == len(positions) < FRAMES:
        check_known(task, {index % FRAMES: pixels(index + 50)[0] for index in positions})
        return
    with pytest.raises(InputError, match=r"is outside the video|without overlap|is known"):
        aligned(task)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (ImageToVideo(A, keyframes={0: B}), r"2 known frames do not fit into 5.*\(frame 0\)"),
        (ImageToVideo(end=A, keyframes={-1: B}), r"without overlap \(frame 4\)"),
        (ImageToVideo(pixels(frames=3), pixels(frames=3)), r"6 known frames .*\(frame 2\)"),
        (ImageToVideo(pixels(frames=7)), "7 known frames do not fit into 5"),
        (ImageToVideo(end=pixels(frames=7)), "7 known frames do not fit into 5"),
        (ImageToVideo(keyframes={5: A}), "Keyframe 5 is outside the video: it has 5 frames, 0 to"),
        (ImageToVideo(keyframes={-6: A}), "Keyframe -6 is outside"),
        (ImageToVideo(pixels(frames=5)), "Every frame of 5 is known: nothing is left"),
        (ImageToVideo(pixels(frames=2), pixels(frames=3)), "Every frame of 5 is known"),
    ],
)
def test_known_frames_that_do_not_fit_are_refused(task, message):
    with pytest.raises(InputError, match=message):
        aligned(task)


def test_a_start_image_of_a_picture_leaves_nothing_to_make():
    with pytest.raises(InputError, match="Every frame of 1 is known"):
        aligned(ImageToVideo(A), frames=1)


def test_one_place_takes_one_picture():
    with pytest.raises(InputError, match="keyframe 2 has 3 frames; give one picture"):
        aligned(ImageToVideo(keyframes={2: pixels(frames=3)}))
    for task in (
        Control(pixels(frames=5), pixels(frames=2)),
        Camera(("CW",), reference=pixels(frames=2)),
        Trajectory((Track(((1, 1),)),), pixels(frames=2)),
    ):
        with pytest.raises(InputError, match="reference image has 2 frames; give one picture"):
            aligned(task)


def test_a_cropped_picture_is_told():
    task = ImageToVideo(pixels(height=64, width=192), pixels(height=96, width=96))
    assert aligned(task).notes == (
        "The image at frame 0 is cropped to 64 x 96: 50% cut off.",
        "The image at frame 4 is cropped to 64 x 96: 33% cut off.",
    )
    assert aligned(ImageToVideo(pixels(height=128, width=192))).notes == ()


# Clips


def test_frames_in_memory_are_taken_one_by_one():
    sources = aligned(VideoToVideo(numbered(9)), fps=24.0)
    assert shown(sources.video) == [0, 1, 2, 3, 4]
    assert sources.notes == ("The video: 4 frames cut at the end of the source.",)
    assert sources.mask is None


@pytest.mark.parametrize(
    ("task", "name"),
    [(VideoToVideo, "The video"), (Control, "The control video")],
)
def test_another_rate_is_resampled_and_told(task, name):
    sources = aligned(task(Clip(numbered(20), 24.0)))
    found = sources.video if sources.video is not None else sources.control
    assert shown(found) == [0, 3, 6, 9, 12]
    assert sources.notes[0] == (
        f"{name}: Resampled from 24 to 8 frames per second: 8 frames dropped."
    )


def test_a_slower_clip_repeats_frames_and_says_so():
    sources = aligned(VideoToVideo(Clip(numbered(6), 4.0)))
    assert shown(sources.video) == [0, 0, 1, 1, 2]
    assert "2 frames repeated" in sources.notes[0]


@pytest.mark.parametrize("task", [VideoToVideo, Control, lambda c: RegionEdit(c, left_half())])
def test_a_short_clip_is_refused_or_continued_as_asked(task):
    clip = task(numbered(3))
    with pytest.raises(
        InputError,
        match=r"has 3 frames at 8 .* Use 1 frame, .*short: repeat",
    ):
        aligned(clip)
    sources = aligned(clip, short="repeat")
    found = sources.video if sources.video is not None else sources.control
    assert shown(found) == [0, 1, 2, 2, 2]
    assert any("too short: its last frame was repeated 2 times" in note for note in sources.notes)


@pytest.mark.parametrize("fps", [math.nan, math.inf, -8.0])
def test_a_clip_without_a_sane_rate_is_refused(fps):
    with pytest.raises(InputError, match=f"The video's fps is {fps}"):
        VideoToVideo(Clip(numbered(5), fps)).load(max_seconds=SECONDS)


def test_lengths_that_are_not_4n_plus_1_are_refused():
    with pytest.raises(InputError, match=r"frames is 6; the length must be 4n \+ 1"):
        aligned(VideoToVideo(numbered(9)), frames=6)


def test_strength_comes_through():
    assert aligned(VideoToVideo(numbered(5), 0.3)).strength == 0.3
    assert aligned(RegionEdit(numbered(5), left_half(), 0.4)).strength == 0.4


# Masks


def test_one_mask_holds_for_all_frames():
    sources = aligned(RegionEdit(numbered(9), left_half()))
    assert torch.equal(sources.mask[0, 0], left_half(FRAMES))


def test_a_mask_per_target_frame():
    masks = torch.zeros(FRAMES, HEIGHT, WIDTH)
    masks[3] = left_half()[0]
    sources = aligned(RegionEdit(Clip(numbered(20), 24.0), masks))
    assert torch.equal(sources.mask[0, 0], masks)
    assert not [note for note in sources.notes if note.startswith("The mask")]


def test_a_mask_per_source_frame_goes_where_its_frame_goes():
    masks = torch.zeros(20, HEIGHT, WIDTH)
    masks[6] = left_half()[0]
    masks[7] = 1  # a frame that the other rate leaves out
    sources = aligned(RegionEdit(Clip(numbered(20), 24.0), masks))
    assert shown(sources.video) == [0, 3, 6, 9, 12]
    expected = torch.zeros(FRAMES, HEIGHT, WIDTH)
    expected[2] = left_half()[0]
    assert torch.equal(sources.mask[0, 0], expected)
    assert "The mask: its 20 frames belong to the clip's frames, one to one." in sources.notes


def test_a_mask_per_source_frame_is_continued_with_a_short_clip():
    masks = torch.zeros(3, HEIGHT, WIDTH)
    masks[2] = 1
    sources = aligned(RegionEdit(numbered(3), masks), short="repeat")
    assert sources.mask[0, 0].amax((1, 2)).tolist() == [0, 0, 1, 1, 1]


def test_a_mask_file_per_source_frame(tmp_path):
    masks = torch.zeros(20, HEIGHT, WIDTH, 3)
    masks[6:9, :, : WIDTH // 2] = 1
    video = write_mp4(tmp_path / "clip.mp4", numbered(20), fps=24)
    mask = write_mp4(tmp_path / "mask.mp4", masks, fps=24, crf=0)
    sources = aligned(RegionEdit(video, mask))
    assert sources.mask[0, 0].amax((1, 2)).tolist() == [0, 0, 1, 0, 0]
    assert torch.equal(sources.mask[0, 0, 2], left_half()[0])


def test_a_mask_of_another_size_stays_on_its_clip():
    clip = torch.zeros(FRAMES, 128, 320, 3)
    clip[:, 32:96, 128:192] = 1
    sources = aligned(RegionEdit(clip, clip[:1, ..., 0]))
    white = from_model_range(sources.video[0])[..., 0] >= 0.5
    assert torch.equal(sources.mask[0, 0], white.float())


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (left_half(3), "3 masks for 5 frames"),
        (left_half() * 0, "mask is empty"),
        (left_half() * 255, "within"),
        (left_half() * math.nan, "mask contains NaN"),
        (left_half()[0], r"must be \[frames, height, width\]"),
        (left_half().bool(), "floating point"),
    ],
)
def test_masks_that_are_refused(mask, message):
    with pytest.raises(InputError, match=message):
        aligned(RegionEdit(numbered(9), mask))


# References, camera and trajectory


@pytest.mark.parametrize(
    "task",
    [
        Control(pixels(frames=5), A),
        Camera(("CW",), reference=A),
        Trajectory((Track(((1, 1),) * FRAMES),), A),
    ],
)
def test_a_reference_is_brought_to_the_size(task):
    assert torch.equal(aligned(task).reference, to_model_range(A))
    small = aligned(task, height=32, width=32)
    assert small.reference.shape == (1, 3, 1, 32, 32)
    assert "The reference image is cropped to 32 x 32: 33% cut off." in small.notes


def test_poses_and_moves_make_the_same_rays(files):
    moves = aligned(Camera(("Pan Up",)))
    poses = aligned(Camera(poses=files / "poses.txt"))
    assert moves.plucker.shape == (FRAMES, HEIGHT, WIDTH, 6)
    torch.testing.assert_close(moves.plucker, poses.plucker, atol=1e-5, rtol=0)
    assert torch.equal(
        aligned(Camera(poses=camera_path(["Pan Up"], frames=5))).plucker, moves.plucker
    )
    assert torch.equal(aligned(Camera("Pan Up")).plucker, moves.plucker)


def test_poses_beyond_the_video_are_left_out_and_told():
    path = camera_path(["CW"], frames=9)
    sources = aligned(Camera(poses=path))
    assert sources.plucker.shape[0] == FRAMES
    assert sources.notes == ("The camera path has 9 poses; the first 5 are used.",)
    assert Camera(poses=path).load().default_frames(8.0) == 9
    with pytest.raises(InputError, match="has 3 poses; 5 were requested"):
        aligned(Camera(poses=camera_path(["CW"], frames=3)))


def test_speed_is_of_moves_alone(files):
    assert not torch.equal(
        aligned(Camera(("CW",), 2.0)).plucker, aligned(Camera(("CW",), 1.0)).plucker
    )
    with pytest.raises(InputError, match=r"speed is 2\.0; it scales moves"):
        aligned(Camera(poses=files / "poses.txt", speed=2.0))


def test_tracks_in_any_form_are_the_same(files):
    text = (files / "tracks.json").read_text()
    points = tuple((10.0 + 10 * i, 20.0) for i in range(FRAMES))
    forms = [files / "tracks.json", str(files / "tracks.json"), text, (Track(points),)]
    drawn = [aligned(Trajectory(form)) for form in forms]
    assert drawn[0].control.shape == (1, 3, FRAMES, HEIGHT, WIDTH)
    assert drawn[0].notes == ()
    for other in drawn[1:]:
        assert torch.equal(other.control, drawn[0].control)


def test_a_track_of_another_length_is_spread():
    sources = aligned(Trajectory((Track(((0, 10), (80, 10))),)))
    assert sources.notes == ()
    columns = [
        int(frame.amax(0).argmax()) for frame in from_model_range(sources.control[0])[..., 0]
    ]
    assert columns == sorted(columns)
    assert columns[0] < 20
    assert columns[-1] > 70


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        ((), "at least one track"),
        ("[]", "tracks"),
        ('[{"x": 1}]', "Point 0 of track 0"),
        ('[{"x": NaN, "y": 1}]', "must be finite"),
        ("[1, 2]", "Point 0"),
    ],
)
def test_bad_tracks_are_refused(tracks, message):
    with pytest.raises(InputError, match=message):
        aligned(Trajectory(tracks))


# Files


def test_files_are_what_they_hold(files):
    picture, clip = read_image(files / "picture.png"), read_video(files / "clip.mp4")
    by_path, by_text = (ImageToVideo(f(files / "picture.png")) for f in (lambda p: p, str))
    for task in (by_path, by_text):
        assert torch.equal(aligned(task).video, aligned(ImageToVideo(picture)).video)
    assert torch.equal(
        aligned(VideoToVideo(files / "clip.mp4")).video, to_model_range(clip.frames[:FRAMES])
    )
    masked = aligned(RegionEdit(files / "clip.mp4", files / "mask.png"))
    assert torch.equal(masked.mask[0, 0], left_half(FRAMES))


def test_no_more_of_a_clip_is_read_than_is_shown(files):
    loaded = VideoToVideo(files / "fast.mp4").load(max_seconds=5 / 8)
    assert len(loaded.video.frames) == 16  # 15 frames are 5 / 8 s at 24 per second, and one more


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (lambda f: ImageToVideo(f / "clip.mp4"), "not a picture"),
        (ImageToVideo, "is a folder"),
        (lambda f: VideoToVideo(f / "broken.mp4"), "not a video in a known format"),
        (lambda f: VideoToVideo(f / "picture.png"), "not a video"),
        (lambda f: RegionEdit(f / "clip.mp4", f / "broken.mp4"), "not a video"),
        (lambda f: RegionEdit(f / "clip.mp4", f / "black.png"), "mask is empty"),
        (lambda f: Camera(poses=f / "picture.png"), "cannot be read"),
        (lambda f: Camera(poses=f / "tracks.json"), "no poses after its header"),
        (lambda f: Trajectory(f / "picture.png"), "cannot be read"),
        (lambda f: Trajectory(f / "poses.txt"), "not valid JSON"),
    ],
)
def test_wrong_files_are_refused_by_name(files, task, message):
    with pytest.raises(EasyAnimateError, match=message):
        aligned(task(files))


def test_a_track_with_more_points_than_frames_is_noted():
    track = Track(tuple((float(i), 8.0) for i in range(9)))
    sources = Trajectory([track]).load().align(Target(HEIGHT, WIDTH, FRAMES))
    assert sources.notes == (f"Track 1: 9 points are thinned to {FRAMES}.",)


def test_a_track_outside_the_picture_is_refused():
    tracks = [Track(((8.0, 8.0),)), Track(((500.0, 8.0), (600.0, 8.0)))]
    with pytest.raises(InputError, match=r"Track 2 is outside the 96 x 64 image"):
        Trajectory(tracks).load().align(Target(HEIGHT, WIDTH, FRAMES))
