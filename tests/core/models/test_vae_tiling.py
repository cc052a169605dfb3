"""Tiles: validation, cover, progress. Their closeness to the whole is in tests/parity."""

import pytest
import torch

from easyanimate_core.errors import InputError
from easyanimate_core.models.specs import VAEConfig
from easyanimate_core.models.vae import (
    AutoencoderKLMagvit,
    Tiles,
    decode_tiled,
    encode_tiled,
    sides_for,
)


class Shifted(AutoencoderKLMagvit):
    """Decodes latents to their own values, eight times as large: tiles can be checked exactly."""

    def decode(self, latents_BCfhw, *, progress):
        progress("decode", 1, 1)
        return latents_BCfhw[:, :3].repeat_interleave(8, 3).repeat_interleave(8, 4)


def vae():
    config = VAEConfig(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1)
    return Shifted(config, device="meta")


@pytest.mark.parametrize("size", [(3, 4), (8, 8), (9, 8), (13, 21), (30, 17)])
def test_shares_of_the_tiles_add_up(size):
    latents = torch.randn(2, 16, 2, *size, generator=torch.Generator().manual_seed(0))
    expected = latents[:, :3].repeat_interleave(8, 3).repeat_interleave(8, 4)
    for overlap in (8, 24, 32):
        actual = decode_tiled(vae(), latents, Tiles(64, overlap))
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "overlap", "words"),
    [
        (100, 16, "size is 100.*Use 96"),
        (64, 12, "overlap is 12"),
        (64, 0, "overlap is 0"),
        (64, 40, "overlap is 40 and the size 64"),
    ],
)
def test_bad_tiles_are_refused(size, overlap, words):
    with pytest.raises(InputError, match=words):
        Tiles(size, overlap)


@pytest.mark.parametrize(
    ("side", "overlap"), [(768, 128), (512, 128), (384, 96), (264, 64), (256, 64), (128, 64)]
)
def test_a_side_says_how_far_tiles_overlap(side, overlap):
    assert Tiles.of_side(side) == Tiles(side, overlap)


@pytest.mark.parametrize(
    ("height", "width", "first", "work"),
    [
        (1024, 1024, 576, 1.27),  # tiles of 512 and of 768: 2.25
        (384, 672, 384, 1.14),
        (576, 1008, 576, 1.14),
        (768, 1344, 768, 1.14),
    ],
)
def test_sides_of_a_frame_waste_little(height, width, first, work):
    sides = sides_for(height, width)
    costs = [Tiles.of_side(side).work(height, width) for side in sides]
    assert sides[0] == first
    assert costs[0] == pytest.approx(work, abs=0.005)
    assert list(sides) == sorted(sides, reverse=True), "ever less memory"
    assert costs == sorted(costs), "for ever more work"
    assert sides[-1] == 256
    assert costs[-1] <= Tiles.of_side(256).work(height, width)


def test_the_work_of_tiles_is_what_they_compute():
    done = []

    class Counting(Shifted):
        def decode(self, latents_BCfhw, *, progress):
            done.append(latents_BCfhw.shape[3] * latents_BCfhw.shape[4])
            return super().decode(latents_BCfhw, progress=progress)

    for size, side in [((13, 21), 128), ((16, 30), 136), ((9, 40), 256)]:
        done.clear()
        tiles = Tiles.of_side(side)
        decode_tiled(Counting(vae().config, device="meta"), torch.zeros(1, 16, 1, *size), tiles)
        work = tiles.work(*(8 * length for length in size))
        assert sum(done) == pytest.approx(work * size[0] * size[1])


def test_small_frames_have_no_tiles():
    assert sides_for(256, 256) == ()
    assert sides_for(96, 96) == ()


def test_a_side_without_room_for_its_overlap_is_refused():
    with pytest.raises(InputError, match=r"overlap is 64 and the size 120.*Use larger tiles"):
        Tiles.of_side(120)


def test_bad_video_is_refused():
    with pytest.raises(InputError, match="frames is 2"):
        encode_tiled(vae(), torch.zeros(1, 3, 2, 64, 64), Tiles(64, 16))


def test_progress_counts_all_tiles():
    calls = []
    decode_tiled(
        vae(),
        torch.zeros(1, 16, 1, 8, 20),
        Tiles(64, 16),
        progress=lambda *call: calls.append(call),
    )
    assert calls == [("decode", 1, 3), ("decode", 2, 3), ("decode", 3, 3)]
