import math

import pytest
import torch

from easyanimate_core.errors import InputError, MediaError
from easyanimate_core.paths.camera import (
    CAMERA_MOVES,
    CameraPath,
    Intrinsics,
    camera_path,
    camera_path_from_rows,
    from_cameractrl_text,
    join_paths,
    plucker_embedding,
    read_camera_file,
    to_cameractrl_text,
)

ROW = "0 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"


@pytest.mark.parametrize("move", CAMERA_MOVES)
def test_every_move_starts_at_rest_with_proper_rotations(move):
    poses = camera_path([move], frames=9, speed=0.7).world_to_camera
    identity = torch.eye(3, dtype=torch.float64)
    assert torch.equal(poses[0], torch.eye(3, 4, dtype=torch.float64))
    rotations = poses[:, :, :3]
    assert torch.allclose(rotations @ rotations.mT, identity.expand(9, 3, 3))
    assert torch.linalg.det(rotations).min() > 0.999
    assert (poses[-1] != poses[0]).any() == (move != "Static")


def test_opposite_moves_cancel_and_speed_scales():
    still = camera_path(["Static"], frames=5).world_to_camera
    for pair in (["Pan Up", "Pan Down"], ["Zoom In", "Zoom Out"], ["ACW", "CW"]):
        assert torch.equal(camera_path(pair, frames=5).world_to_camera, still)
    fast = camera_path(["Pan Left", "Zoom In"], frames=5, speed=2).world_to_camera[..., 3]
    slow = camera_path(["Pan Left", "Zoom In"], frames=5).world_to_camera[..., 3]
    assert torch.allclose(fast, 2 * slow)


def test_joining_composes_from_the_last_pose():
    """A point seen by the second path sees the first path's end as its world."""
    first = camera_path(["ACW", "Pan Left"], frames=5)
    second = camera_path(["CW", "Zoom In"], frames=7, intrinsics=Intrinsics(fx=0.6))
    joined = join_paths(first, second)
    assert len(joined) == 12
    assert joined.intrinsics == first.intrinsics + second.intrinsics
    assert torch.equal(joined.world_to_camera[:5], first.world_to_camera)
    assert torch.equal(joined.world_to_camera[5], first.world_to_camera[4])
    point = torch.tensor([0.3, -0.2, 2.0, 1.0], dtype=torch.float64)
    seen_first = torch.cat([first.world_to_camera[-1] @ point, torch.ones(1)])
    assert torch.allclose(
        joined.world_to_camera[-1] @ point, second.world_to_camera[-1] @ seen_first
    )


def test_embedding_holds_rays():
    path = camera_path(["ACW", "Pan Up", "Zoom Out"], frames=5)
    embedding = plucker_embedding(path, 32, 48)
    moment, direction = embedding.double().split([3, 3], dim=-1)
    assert embedding.shape == (5, 32, 48, 6)
    assert embedding.dtype == torch.float32
    assert torch.allclose(direction.norm(dim=-1), torch.ones(5, 32, 48, dtype=torch.float64))
    assert (moment * direction).sum(-1).abs().max() < 1e-6  # perpendicular
    assert moment[0].abs().max() == 0  # the first camera is the origin


def test_embedding_does_not_depend_on_the_world():
    """Poses count from the first camera: moving the whole world changes nothing."""
    path = camera_path(["CW", "Pan Right"], frames=5)
    start = camera_path(["ACW", "Zoom In"], frames=3)
    moved = CameraPath(join_paths(start, path).world_to_camera[3:], path.intrinsics)
    assert torch.allclose(
        plucker_embedding(moved, 16, 32), plucker_embedding(path, 16, 32), atol=1e-6
    )


def test_intrinsics_follow_the_cover_crop():
    """At the original's aspect the horizontal view is 2 atan(0.5 / fx); a square crop sees less."""
    path = camera_path(["Static"], frames=1, intrinsics=Intrinsics(fx=0.5, fy=0.5 * 16 / 9))
    for height, width, half_view in ((720, 1280, 1.0), (720, 720, 9 / 16)):
        direction = plucker_embedding(path, height, width)[0, height // 2, -1, 3:]
        expected = half_view * (width - 1) / width
        assert float(direction[0] / direction[2]) == pytest.approx(expected, rel=1e-4)
    assert math.isclose(Intrinsics().fy / Intrinsics().fx, 16 / 9, rel_tol=1e-3)


def test_text_round_trip_with_changing_lenses(tmp_path):
    zoom = tuple(Intrinsics(fx=0.5 + 0.01 * i) for i in range(5))
    path = CameraPath(camera_path(["Pan Up", "CW"], frames=5).world_to_camera, zoom)
    file = tmp_path / "path.txt"
    file.write_text(to_cameractrl_text(path))
    again = read_camera_file(file)
    assert again.intrinsics == zoom
    assert (again.world_to_camera - path.world_to_camera).abs().max() < 1e-9
    assert len(from_cameractrl_text(f"https://example.org/video\n\n{ROW}\n{ROW}\n")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{ROW}\n{ROW}", "Line 1 is a camera pose"),
        (f"\n{ROW}\n1 2 3", "Line 3 of the camera file has 3 numbers"),
        (
            f"\n{ROW}\n{ROW.replace('0.9', 'x')}",
            "Line 3 of the camera file contains 'x', which is not a number",
        ),
        (f"\n{ROW.replace('0.9', 'nan')}", "Line 2"),
        (f"\n{ROW.replace('0.9', '0')}", "focal lengths positive"),
        ("\n", "no poses"),
        ("", "no poses"),
    ],
)
def test_malformed_text(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        from_cameractrl_text(text)
    file = tmp_path / "camera.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=r"camera\.txt"):
        read_camera_file(file)


def test_unreadable_file(tmp_path):
    (tmp_path / "picture.txt").write_bytes(b"\xff\xfe\x00\x89PNG")
    for name in ("missing.txt", "", "picture.txt"):
        with pytest.raises(MediaError, match="cannot be read"):
            read_camera_file(tmp_path / name)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: camera_path(["Pan Sideways"], frames=5), "Pan Up, Pan Down"),
        (lambda: camera_path([], frames=5), "one or more of"),
        (lambda: camera_path(["Static"], frames=0), "frames is 0"),
        (lambda: camera_path(["Static"], frames=5, speed=float("inf")), "speed is inf"),
        (lambda: camera_path(["Static"], frames=5).first(9), "has 5 poses; 9 were requested"),
        (lambda: camera_path_from_rows([]), "no camera poses"),
        (lambda: camera_path_from_rows([[0.0] * 18]), "Camera pose 0 has 18 numbers"),
        (lambda: Intrinsics(fx=-1), "focal lengths"),
        (lambda: CameraPath(torch.zeros(2, 4, 4), (Intrinsics(),) * 2), "shape"),
        (lambda: CameraPath(torch.full((1, 3, 4), math.nan), (Intrinsics(),)), "NaN"),
        (
            lambda: CameraPath(torch.zeros(2, 3, 4), (Intrinsics(),)),
            "There is 1 intrinsic for 2 poses",
        ),
        (
            lambda: plucker_embedding(CameraPath(torch.zeros(1, 3, 4), (Intrinsics(),)), 16, 16),
            "no inverse",
        ),
        (
            lambda: plucker_embedding(camera_path(["CW"], frames=1), 0, 16),
            "all sides must be positive",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_first_takes_the_beginning():
    path = camera_path(["Pan Up"], frames=9)
    assert torch.equal(path.first(5).world_to_camera, path.world_to_camera[:5])
