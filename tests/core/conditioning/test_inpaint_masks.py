"""Shaping masks, and the picture of what an InP model sees."""

import pytest
import torch

from easyanimate_core.conditioning.inpaint import seen_by_model, shape_mask


def square(side=32, frames=5):
    """A mask of 8 x 8 in the middle."""
    mask = torch.zeros(1, 1, frames, side, side)
    low = side // 2 - 4
    mask[..., low : low + 8, low : low + 8] = 1
    return mask


@pytest.mark.parametrize(("grow", "side"), [(0, 8), (3, 14), (-2, 4)])
def test_grow_moves_every_edge(grow, side):
    shaped = shape_mask(square(), grow=grow)
    assert shaped.shape == square().shape
    assert shaped[0, 0, 2].sum() == side * side
    assert shaped[0, 0, 2, 16, :].sum() == side


def test_blur_softens_the_edge_and_keeps_the_middle():
    shaped = shape_mask(square(64, 1), grow=8, blur=4)
    row = shaped[0, 0, 0, 32]
    assert row[32] == pytest.approx(1, abs=1e-3)
    assert row[0] == 0
    soft = (row > 0.01) & (row < 0.99)
    assert 4 <= soft.sum() <= 16
    assert (row > 0.5).sum() == 24  # what is hidden stays the grown region


def test_blur_of_a_small_mask_does_not_fail():
    assert shape_mask(square(16, 1), blur=200).isfinite().all()


def test_seen_keeps_known_pixels_and_reddens_the_others():
    video = torch.full((1, 3, 5, 32, 32), 0.5)
    mask = torch.zeros(1, 1, 5, 32, 32)
    mask[:, :, 1:, :, 16:] = 1
    seen = seen_by_model(video, mask)
    assert seen.shape == (5, 32, 32, 3)
    torch.testing.assert_close(seen[0], torch.full((32, 32, 3), 0.75))  # the first frame is known
    torch.testing.assert_close(seen[3, :, :8], torch.full((32, 8, 3), 0.75))
    red, green, _ = seen[3, 5, 28]
    assert red > 0.6
    assert green < 0.15
