"""Synthetic clips: that the pixels are what the scene says, and so are masks, edges and cameras."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from easyanimate_core.errors import InputError
from easyanimate_core.paths.camera import plucker_embedding
from easyanimate_core.paths.trajectory import heatmap_frames
from easyanimate_core.shapes.scenes import (
    CAMERAS,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Body,
    Ground,
    Scene,
    camera_of,
    control_video,
    make_scene,
    outlined_measure,
    reference,
    render,
    tracks_of,
)
from easyanimate_core.shapes.scenes.scene import PANS, PLANE_DEPTH

RADIUS = {size: share * 96 for size, share in SIZES.items()}


def first(count, *, seed=8, **wanted):
    """The first scenes of `seed` with these attributes."""
    kind = wanted.get("kind", "mixed")
    scenes = (make_scene(seed, index, kind=kind) for index in range(4000))
    found = (s for s in scenes if all(getattr(s, k) == v for k, v in wanted.items()))
    return [scene for scene, _ in zip(found, range(count), strict=False)]


def main_cover(scene):
    """How much of every pixel the main body covers, by the pixels' colours: [F, H, W].

    Of the scene on a flat ground, with nothing in front.
    """
    scene = replace(scene, ground=Ground("plain", "grey"), bodies=scene.bodies[:1])
    ground, colour = np.array([112, 112, 112]), np.array(COLOURS[scene.main.colour])
    channel = np.abs(colour - ground).argmax()
    values = render(scene).frames[..., channel].astype(float)
    return (values - ground[channel]) / (colour[channel] - ground[channel])


def centroids(cover):
    """(x, y) of every frame's body, in pixels from the top left: [F, 2]."""
    _, height, width = cover.shape
    area = cover.sum((1, 2))
    x = (cover * (np.arange(width) + 0.5)).sum((1, 2)) / area
    y = (cover * (np.arange(height) + 0.5)[:, None]).sum((1, 2)) / area
    return np.stack([x, y], 1)


def standing(shape="circle", colour="red", size="large", **changes):
    """A scene with one body in the middle."""
    body = Body(shape, colour, size, (0.5, 0.5), (0.5, 0.5), **changes)
    return Scene(0, 0, 96, 96, 17, "change", Ground("plain", "grey"), (body,), "turn")


def test_the_same_scene_gives_the_same_bytes_in_any_order():
    scenes = [make_scene(4, index) for index in range(12)]
    there = [render(scene).frames.tobytes() for scene in scenes]
    back = [render(scene).frames.tobytes() for scene in reversed(scenes)]
    assert there == back[::-1]
    assert len(set(there)) == len(scenes)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_body_moves_as_told(direction):
    for scene in first(6, kind="move", motion=direction):
        path = centroids(main_cover(scene)) / 96
        moved = path[-1] - path[0]
        along = DIRECTIONS[direction]
        assert 0.34 <= moved @ along <= 0.56
        assert abs(moved @ along[::-1]) < 0.001
        steps = np.diff(path, axis=0) @ along
        assert steps == pytest.approx(moved @ along / 16, abs=0.001)  # evenly


@pytest.mark.parametrize(("change", "low", "high"), [("grow", 3.2, 4.9), ("shrink", 0.2, 0.31)])
def test_a_body_changes_its_size_as_told(change, low, high):
    for scene in first(6, kind="change", motion=change):
        cover = main_cover(scene)
        area = cover.sum((1, 2))
        assert low < area[-1] / area[0] < high
        assert (np.diff(area) > 0).all() if change == "grow" else (np.diff(area) < 0).all()
        assert np.ptp(centroids(cover), axis=0).max() < 0.1


@pytest.mark.parametrize(("shape", "corners"), [("triangle", 3), ("square", 4), ("cross", 4)])
def test_a_body_turns_clockwise(shape, corners):
    cover = main_cover(standing(shape, turn=2.0))
    place = np.arange(96) + 0.5 - 48
    radius, angle = np.hypot(place, place[:, None]), np.arctan2(place[:, None], place)
    wave = (cover * radius**corners * np.exp(1j * corners * angle)).sum((1, 2))
    turned = np.unwrap(np.angle(wave)) / corners  # +y is down: clockwise is positive
    assert np.diff(turned) == pytest.approx(2.0 / 16, abs=0.04)
    assert turned[-1] - turned[0] == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_masks_have_the_areas_of_their_shapes(shape, size):
    in_radii = {
        "circle": math.pi,
        "square": 1.68**2,
        "triangle": 1.2**2 * math.sqrt(27) / 4,
        "cross": 2 * 2.1 * 0.72 - 0.72**2,
    }
    scene = standing(shape, size=size)
    area = main_cover(scene)[0].sum()
    assert area == pytest.approx(in_radii[shape] * RADIUS[size] ** 2, rel=0.01)
    cover = main_cover(scene)
    assert (render(scene).masks == (cover > 0.5)).mean() > 0.999


@pytest.mark.parametrize("colour", COLOURS)
def test_bodies_have_their_colour_and_grounds_are_far_from_every_colour(colour):
    for texture in TEXTURES:
        scene = replace(standing(colour=colour), ground=Ground(texture, "teal", (0.3, 0.6)))
        rendered = render(scene)
        deep = rendered.distances[0] < -0.5
        assert (rendered.frames[deep] == COLOURS[colour]).all()
        ground = rendered.frames[rendered.distances[0] > 0.5].astype(int)
        away = np.abs(ground[:, None] - np.array(list(COLOURS.values()))).max(-1)
        assert away.min() > 60
        assert (ground.std(0).max() > 5) == (texture != "plain")


def test_a_body_passes_behind_another():
    for scene in first(12, kind="occlusion"):
        rendered = render(scene)
        back, front = rendered.body_masks
        assert not (back & front).any()
        assert (front == front[0]).all()
        area = back.sum((1, 2))
        assert area[8] <= 0.15 * area[0]
        assert not (rendered.distances[:, [0, -1]] < 0).all(0).any()  # side by side at both ends
        for mask, body in zip((back, front), scene.bodies, strict=True):
            deep = mask & (rendered.distances < -0.5).any(0)
            deep &= np.abs(rendered.distances).min(0) > 0.5
            assert deep.sum() > 500
            assert (rendered.frames[deep] == COLOURS[body.colour]).all()
        path = centroids(back[[0, -1]])
        assert (path[1] - path[0]) @ DIRECTIONS[scene.motion] > 0.5 * 96


def test_depth_is_that_of_the_nearest_body():
    (scene,) = first(1, kind="occlusion")
    rendered = render(scene)
    back, front = rendered.body_masks
    near, nearest = (body.depth for body in scene.bodies)
    assert 0.2 < near < nearest <= 1
    expected = np.where(front, nearest, np.where(back, near, 0.2)).astype(np.float32)
    assert (rendered.depth == expected).all()
    assert (control_video(scene, "depth") == expected[..., None]).all()


def test_edges_are_the_outlines_two_pixels_wide():
    rendered = render(standing("circle"))
    assert (rendered.edges == rendered.edges[..., :1]).all()
    drawn = rendered.edges[0, :, :, 0] / 255
    perimeter = 2 * math.pi * RADIUS["large"]
    assert drawn.sum() == pytest.approx(2 * perimeter, rel=0.01)
    place = np.arange(96) + 0.5 - 48
    away = np.abs(np.hypot(place, place[:, None]) - RADIUS["large"])
    assert (drawn[away < 0.5] == 1).all()
    assert (drawn[away > 1.5] == 0).all()
    assert control_video(standing("circle"), "edges")[0, :, :, 0] == pytest.approx(drawn)


def test_edges_leave_out_what_is_hidden():
    (scene,) = first(1, kind="occlusion", motion="left")
    rendered = render(scene)
    middle = rendered.edges[8, :, :, 0]
    inside_front = rendered.distances[1, 8] < -1.5
    assert rendered.distances[0, 8][inside_front].min() < -1  # the other one is there
    assert (middle[inside_front] == 0).all()


@pytest.mark.parametrize("camera", CAMERAS[1:])
def test_the_picture_is_what_the_path_sees_of_a_plane(camera):
    """By the Pluecker rays that the model is given, met with the plane."""
    for scene in first(3, kind="camera", camera=camera):
        rendered = render(scene)
        embedding = plucker_embedding(camera_of(scene), 96, 96).to(torch.float64)
        moment, direction = embedding.split(3, dim=-1)
        nearest = torch.linalg.cross(direction, moment)
        steps = (PLANE_DEPTH - nearest[..., 2:]) / direction[..., 2:]
        plane = (nearest + steps * direction)[..., :2]  # [F, H, W, 2] where every ray meets it
        pixel = (plane[0, 0, -1, 0] - plane[0, 0, 0, 0]) / 95

        cover = torch.from_numpy(main_cover(scene))[..., None]
        seen = (plane * cover).sum((1, 2)) / cover.sum((1, 2))
        assert ((seen - seen[0]).norm(dim=-1) / pixel).max() < 0.1

        # Where a later frame sees what the first saw, it sees it in the same colour.
        at = plane / (pixel * 48)
        frames = torch.from_numpy(rendered.frames).permute(0, 3, 1, 2).double()
        warped = F.grid_sample(frames[:1].expand(17, -1, -1, -1), at, align_corners=False)
        overlap = (at.abs() < 0.97).all(-1)
        away = (warped - frames).abs().mean(1)[overlap]
        assert overlap[-1].float().mean() > 0.25
        assert away.mean() < 6
        assert (F.grid_sample(frames, at, align_corners=False) - frames)[16].abs().mean() > 8


@pytest.mark.parametrize("camera", CAMERAS[1:])
def test_camera_moves_are_as_far_as_they_should_be(camera):
    for scene in first(4, kind="camera", camera=camera):
        assert torch.equal(camera_of(scene).world_to_camera[0], torch.eye(3, 4).double())
        cover = main_cover(scene)
        path = centroids(cover)
        if camera in PANS:  # what is seen goes against the camera
            moved = (path[-1] - path[0]) @ DIRECTIONS[PANS[camera]] / 96
            assert 0.249 <= moved <= 0.451
        else:
            area = cover.sum((1, 2))
            grown = math.sqrt(area[-1] / area[0])
            assert 1.39 < (grown if camera == "Zoom In" else 1 / grown) < 1.81


def test_cameras_of_other_shapes_of_pictures():
    for height, width in ((64, 128), (128, 64), (48, 160)):
        for index in range(20):
            scene = make_scene(1, index, kind="camera", height=height, width=width)
            cover = main_cover(scene)
            assert not cover[:, [0, -1]].any()
            assert not cover[:, :, [0, -1]].any()
            if scene.camera in PANS:
                path = centroids(cover) / (width, height)
                assert 0.249 <= (path[-1] - path[0]) @ DIRECTIONS[PANS[scene.camera]] <= 0.451


@pytest.mark.parametrize("kind", ["move", "camera"])
def test_tracks_are_the_centres_that_are_seen(kind):
    for scene in first(10, kind=kind):
        (track,) = tracks_of(scene)
        found = centroids(main_cover(scene))
        assert np.array(track.points) == pytest.approx(found, abs=0.1)


def test_only_what_moves_has_a_track():
    (change,) = first(1, kind="change")
    assert tracks_of(change) == ()
    assert not control_video(change, "trajectory").any()
    (scene,) = first(1, kind="occlusion")
    (track,) = tracks_of(scene)
    points = np.array(track.points) / 96
    assert points[[0, -1]] == pytest.approx(np.array([scene.main.start, scene.main.end]))
    drawn = control_video(scene, "trajectory")
    assert torch.equal(torch.from_numpy(drawn), heatmap_frames([track], height=96, width=96))


def test_control_videos_and_references_have_their_shapes():
    scene = make_scene(0, 0, height=48, width=64, frames=5)
    assert reference(scene).tobytes() == render(scene).frames[0].tobytes()
    for kind in ("edges", "depth", "trajectory"):
        video = control_video(scene, kind)
        assert video.shape == (5, 48, 64, 3)
        assert video.dtype == np.float32
        assert 0 <= video.min() <= video.max() <= 1
    with pytest.raises(InputError, match="'pose'; it must be one of edges, depth, trajectory"):
        control_video(scene, "pose")


def test_a_single_frame_is_the_first_of_a_clip():
    for index in range(10):
        picture, clip = (make_scene(0, index, frames=frames) for frames in (1, 17))
        assert render(picture).frames.tobytes() == render(clip).frames[:1].tobytes()


def test_looks_are_told_apart_by_their_measure_and_have_the_same_masks():
    for index in range(20):
        textured, outlined = (
            render(make_scene(9, index, look=look)) for look in ("textured", "outlined")
        )
        assert (textured.body_masks == outlined.body_masks).all()
        white, black = outlined_measure(textured.frames / 255)
        assert white <= 0.15
        assert black == 0
        white, black = outlined_measure(outlined.frames / 255)
        assert white >= 0.75
        assert black >= 0.01
