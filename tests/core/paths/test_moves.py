import math

import pytest
import torch

from easyanimate_core.errors import InputError, MediaError
from easyanimate_core.paths.camera import (
    CAMERA_MOVES,
    EASINGS,
    CameraPath,
    Intrinsics,
    camera_path,
    from_cameractrl_text,
    move_progress,
    plucker_embedding,
    read_camera_file,
    to_cameractrl_text,
    write_camera_file,
)
from easyanimate_core.paths.keyframes import (
    Keyframe,
    keyframe_path,
    keyframes_from_text,
)
from easyanimate_core.paths.moves import (
    PRESETS,
    combine_paths,
    continue_path,
    joined,
    positions_of,
    preset_path,
)
from easyanimate_core.paths.previews import camera_preview

START = torch.eye(3, 4, dtype=torch.float64)
TABLE = """\
frame x y z yaw pitch roll
0, 0, 0, 0, 0, 0, 0   # the start
12; 1; 0; 2; 30; -10; 5
24 1 -1 4
"""


def directions(path):
    """What the cameras look at, [F, 3], in the world."""
    return path.world_to_camera[:, 2, :3]


def assert_same(path, other, tolerance=1e-12):
    assert torch.allclose(path.world_to_camera, other.world_to_camera, rtol=0, atol=tolerance)
    for lens, expected in zip(path.intrinsics, other.intrinsics, strict=True):
        assert (lens.fx, lens.fy) == pytest.approx((expected.fx, expected.fy), abs=tolerance)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_starts_at_rest_with_proper_rotations(preset):
    path = preset_path(preset, frames=9, speed=0.7)
    rotations = path.world_to_camera[:, :, :3]
    assert torch.equal(path.world_to_camera[0], START)
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3).double().expand(9, 3, 3))
    assert torch.linalg.det(rotations).min() > 0.999
    moved = not torch.equal(path.world_to_camera[-1], START)
    assert (moved or path.intrinsics[-1] != path.intrinsics[0]) == (preset != "Static")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("easing", EASINGS)
def test_the_exact_timing_ends_where_the_move_ends(preset, easing):
    """However many frames: the end of 5 is the end of 9; the original's timing never gets there."""
    short, long = (preset_path(preset, frames=n, easing=easing) for n in (5, 9))
    assert torch.equal(short.world_to_camera[-1], long.world_to_camera[-1])
    assert short.intrinsics[-1] == long.intrinsics[-1]
    beyond = preset_path(preset, frames=9, exact=False)
    assert_same(preset_path(preset, frames=10).first(9), beyond)


@pytest.mark.parametrize("move", CAMERA_MOVES)
def test_the_original_s_moves_are_the_same_in_its_timing(move):
    path, expected = preset_path(move, frames=7, exact=False), camera_path([move], frames=7)
    assert torch.equal(path.world_to_camera, expected.world_to_camera)
    assert path.intrinsics == expected.intrinsics


def test_where_presets_go():
    ends = {
        "Pan Left": (-1.5, 0, 0),
        "Pan Up": (0, -1.5, 0),
        "Zoom In": (0, 0, 3),
        "Dolly Out": (0, 0, -1.5),
        "Orbit Left": (-3 * math.sqrt(0.5), 0, 3 - 3 * math.sqrt(0.5)),
        "Orbit Up": (0, -3 * math.sqrt(0.5), 3 - 3 * math.sqrt(0.5)),
    }
    for preset, end in ends.items():
        assert positions_of(preset_path(preset, frames=5))[-1].tolist() == pytest.approx(end)
    half = math.sqrt(3) / 2
    looks = {"Turn Left": (-0.5, 0, half), "Tilt Up": (0, -0.5, half), "Turn Right": (0.5, 0, half)}
    for preset, look in looks.items():
        path = preset_path(preset, frames=5)
        assert directions(path)[-1].tolist() == pytest.approx(look)
        assert torch.equal(positions_of(path), torch.zeros(5, 3).double())
    lens = preset_path("Lens In", frames=5).intrinsics[-1]
    assert (lens.fx, lens.fy) == (2 * Intrinsics().fx, 2 * Intrinsics().fy)


@pytest.mark.parametrize("preset", ["Orbit Left", "Orbit Right", "Orbit Up", "Orbit Down"])
def test_an_orbit_keeps_its_distance_and_looks_at_its_point(preset):
    path = preset_path(preset, frames=17, speed=1.7, distance=4.5, easing="ease out")
    point = torch.tensor([0.0, 0.0, 4.5], dtype=torch.float64)
    to_point = point - positions_of(path)
    assert torch.allclose(to_point.norm(dim=-1), torch.tensor(4.5).double())
    assert torch.allclose(directions(path) * 4.5, to_point)


def test_easings():
    for easing in EASINGS:
        progress = move_progress(101, speed=1, easing=easing, exact=True)
        assert (progress[0], progress[-1]) == (0, 1)
        assert (progress.diff() > 0).all()
    steps = {e: move_progress(101, speed=1, easing=e, exact=True).diff() for e in EASINGS}
    slow, fast = 0.001, 0.014  # of a mean of 0.01
    assert steps["ease in"][0] < slow
    assert steps["ease in"][-1] > fast
    assert steps["ease out"][-1] < slow
    assert steps["ease out"][0] > fast
    assert steps["ease in-out"][[0, -1]].max() < slow
    assert steps["ease in-out"][50] > fast


def test_joining_is_continuous():
    """The joint is there once, and the second path counts from its own start."""
    first, second = preset_path("Orbit Left", frames=25), preset_path("Lens In", frames=25)
    path = continue_path(first, second)
    assert len(path) == 49
    assert_same(path.first(25), first)
    assert path.intrinsics[-1].fx == pytest.approx(2 * first.intrinsics[-1].fx)
    whole = preset_path("Turn Right", frames=9, speed=2)
    assert_same(joined([preset_path("Turn Right", frames=5)] * 2), whole)
    moved = CameraPath(whole.world_to_camera[4:], whole.intrinsics[4:])
    assert_same(continue_path(preset_path("Turn Right", frames=5), moved), whole)


def test_combining_with_static_is_the_move():
    still = preset_path("Static", frames=9)
    for preset in PRESETS:
        path = preset_path(preset, frames=9, easing="ease in")
        for both in (combine_paths(path, still), combine_paths(still, path)):
            assert_same(both, path)


def test_moves_at_once():
    pair = camera_path(["ACW", "Pan Left"], frames=5, exact=True)
    assert_same(preset_path(["Pan Left", "ACW"], frames=5), pair)
    path = preset_path(["Lens In", "Pan Left"], frames=5)
    assert positions_of(path)[-1].tolist() == pytest.approx((-1.5, 0, 0))
    assert path.intrinsics[-1].fx == pytest.approx(2 * Intrinsics().fx)
    ahead = preset_path(["Turn Right", "Dolly In"], frames=5)  # forward is where it looks then
    assert torch.allclose(positions_of(ahead)[-1], 1.5 * directions(ahead)[-1])


def test_keyframes_are_hit_exactly():
    keyframes = keyframes_from_text(TABLE)
    path = keyframe_path(keyframes, frames=30)
    for keyframe in keyframes:
        position = positions_of(path)[keyframe.frame]
        assert position.tolist() == pytest.approx(keyframe.position, abs=1e-12)
        yaw, pitch = (math.radians(angle) for angle in (keyframe.yaw, keyframe.pitch))
        look = (
            math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)
        )  # fmt: skip
        assert directions(path)[keyframe.frame].tolist() == pytest.approx(look, abs=1e-12)
    assert torch.equal(path.world_to_camera[24], path.world_to_camera[29])
    assert len(keyframe_path(keyframes)) == 25


def test_keyframes_turn_evenly_and_the_short_way():
    path = keyframe_path([Keyframe(0, (0, 0, 0), 170), Keyframe(4, (0, 0, 0), -170)])
    yaws = [math.degrees(math.atan2(float(d[0]), float(d[2]))) for d in directions(path)]
    assert [yaw % 360 for yaw in yaws] == pytest.approx([170, 175, 180, 185, 190])
    rolled = keyframe_path([Keyframe(0, (0, 0, 0)), Keyframe(8, (0, 0, 0), roll=-60)])
    expected = preset_path("ACW", frames=9)
    assert torch.allclose(rolled.world_to_camera, expected.world_to_camera)


def test_two_keyframes_make_a_straight_line_and_many_a_smooth_one():
    line = positions_of(keyframe_path([Keyframe(0, (0, 0, 0)), Keyframe(4, (4, 0, 8))]))
    assert torch.allclose(line, torch.arange(5.0).double()[:, None] * torch.tensor([1.0, 0, 2.0]))
    places = [(0, 0, 0), (1, 0, 3), (5, 1, 3), (6, 0, 0)]
    curve = positions_of(keyframe_path([Keyframe(20 * i, p) for i, p in enumerate(places)]))
    bends = curve.diff(dim=0).diff(dim=0).norm(dim=-1)
    assert bends.max() < 0.05  # a corner at a keyframe would bend by about 0.2


def test_looking_at_a_point():
    for place, point in (((1, 2, 3), (4, -1, 0)), ((0, 0, 0), (0, -2, 0)), ((1, 1, 1), (-1, 1, 1))):
        path = keyframe_path([Keyframe.looking_at(0, place, point, roll=20)])
        way = torch.tensor(point) - torch.tensor(place)
        assert torch.allclose(directions(path)[0], (way / way.double().norm()).double())


@pytest.mark.parametrize("size", [(720, 1280), (384, 672), (672, 384), (512, 512), (256, 1024)])
def test_a_lens_keeps_its_view_at_every_aspect_ratio(size):
    lens = Intrinsics.of_view(60, height=size[0], width=size[1])
    path = camera_path(["Static"], frames=1, intrinsics=lens)
    rays = plucker_embedding(path, *size)[0, ..., 3:].double()
    slopes = rays[..., :2] / rays[..., 2:]
    side = math.tan(math.radians(30)) * (size[1] - 1) / size[1]
    assert float(slopes[size[0] // 2, -1, 0]) == pytest.approx(side, rel=1e-5)
    across = float(slopes[0, 1, 0] - slopes[0, 0, 0])  # square pixels
    assert float(slopes[1, 0, 1] - slopes[0, 0, 1]) == pytest.approx(across, rel=1e-3)


def test_files_give_the_path_again(tmp_path):
    moves = preset_path(["Orbit Down", "CW", "Lens Out"], frames=9)
    path = joined([moves, keyframe_path(keyframes_from_text(TABLE))])
    again = from_cameractrl_text(to_cameractrl_text(path))
    assert_same(again, path, tolerance=1e-9)
    file = write_camera_file(tmp_path / "new" / "path.txt", path)
    assert_same(read_camera_file(file), again, tolerance=0)
    with pytest.raises(MediaError, match="is a folder"):
        write_camera_file(tmp_path, path)


@pytest.mark.parametrize(
    "path",
    [
        preset_path("Static", frames=1),
        preset_path(["Orbit Left", "Pan Up"], frames=49, speed=-3),
        preset_path("Zoom In", frames=5, speed=1e4),
        keyframe_path(keyframes_from_text(TABLE)),
    ],
)
def test_preview(path):
    picture = camera_preview(path)
    assert picture.shape == (1, 580, 1032, 3)
    assert picture.dtype == torch.float32
    assert 0 <= float(picture.min()) < float(picture.max()) <= 1
    assert torch.equal(picture, camera_preview(path))
    green, red = torch.tensor([98, 210, 140]) / 255, torch.tensor([240, 110, 90]) / 255
    panels = picture[0, 44:524]
    for colour in (green, red) if len(path) > 1 else (green,):
        for half in panels.split(516, dim=1):
            assert int(((half - colour).abs().amax(-1) < 0.01).sum()) > 20


def test_preview_shows_where_the_camera_goes():
    left, right = (camera_preview(preset_path(p, frames=5)) for p in ("Pan Left", "Pan Right"))
    red = torch.tensor([240, 110, 90]) / 255

    def column(picture):
        is_red = (picture[0, 44:524, :516] - red).abs().amax(-1) < 0.01
        return is_red.nonzero()[:, 1].float().mean()

    assert column(left) < 264 < column(right)


STILL = preset_path("Static", frames=5)
SHEARED = CameraPath(2 * STILL.world_to_camera, STILL.intrinsics)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preset_path("Pan Sideways", frames=5), r"\['Pan Sideways'\].*Orbit Left"),
        (lambda: preset_path([], frames=5), "one or more of"),
        (lambda: preset_path("CW", frames=0), "frames is 0"),
        (lambda: preset_path("CW", frames=5, speed=math.nan), "speed is nan"),
        (lambda: preset_path("CW", frames=5, easing="bounce"), "'bounce'.*ease in-out"),
        (lambda: preset_path("Orbit Up", frames=5, distance=0), "distance is 0"),
        (lambda: combine_paths(STILL, preset_path("CW", frames=9)), "have 5 and 9 poses"),
        (lambda: continue_path(STILL, SHEARED), "not a rotation"),
        (lambda: Intrinsics.of_view(180, height=9, width=9), "view is 180"),
        (lambda: Intrinsics.of_view(60, height=0, width=9), "all sides must be positive"),
        (lambda: keyframe_path([]), "at least one"),
        (lambda: keyframe_path([Keyframe(3, (0, 0, 0))] * 2), r"\[3, 3\]"),
        (lambda: keyframe_path([Keyframe(9, (0, 0, 0))], frames=9), "frame 9, but .* 9 frames"),
        (lambda: Keyframe(-1, (0, 0, 0)), "frame -1"),
        (lambda: Keyframe(0, (0, math.inf, 0)), "the values finite"),
        (lambda: Keyframe.looking_at(0, (1, 1, 1), (1, 1, 1)), "cannot look"),
        (lambda: keyframes_from_text("\n# nothing\n"), "no keyframes"),
        (lambda: keyframes_from_text("0 0 0 0\n1 2 3"), "Line 2 .* has 3 numbers"),
        (lambda: keyframes_from_text("0 0 0 0 1 2"), "Line 1 .* has 6 numbers"),
        (lambda: keyframes_from_text("1.5 0 0 0"), "Line 1 .*'1.5 0 0 0'.*whole number"),
        (lambda: keyframes_from_text("0 0 x 0"), "Line 1 .*could not convert"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InputError, match=message):
        call()
