"""The VAE against the original's outputs, with the original's weights."""

from pathlib import Path

import torch

from easyanimate_core.doctor.runs import pixels, vae_of
from easyanimate_core.models.vae import Tiles, decode_tiled, encode_tiled

TOLERANCE = 5e-5


def _load(parity, vae_file):
    fixture = parity.read(vae_file)
    vae = vae_of(fixture, torch.device("cpu"))
    return fixture, vae


def _video(fixture, name):
    return pixels(fixture.tensors[f"inputs.{name}.video"])


def test_encode_and_decode_match_the_original(parity, vae_file, assert_close):
    fixture, vae = _load(parity, vae_file)
    assert fixture.meta["shapes"]
    for shape in fixture.meta["shapes"]:
        name = "x".join(map(str, shape))
        expected = fixture.group(f"outputs.{name}")
        posterior = vae.encode(_video(fixture, name))
        assert_close(posterior.mean, expected["mean"], TOLERANCE, f"{vae_file} {name} mean")
        assert_close(posterior.logvar, expected["logvar"], TOLERANCE, f"{vae_file} {name} logvar")
        decoded = vae.decode(expected["mean"])
        assert_close(decoded, expected["decoded"], TOLERANCE, f"{vae_file} {name} decoded")


def _mean_error(actual, expected):
    return float((actual - expected).abs().mean())


def test_tiles_are_as_close_to_the_whole_as_the_original(parity, vae_file, record_property):
    fixture, vae = _load(parity, vae_file)
    if "tiled" not in fixture.meta:  # the doctor's recordings ship without them
        fixture = parity.read(f"vae_tiled/{Path(vae_file).name}")
    expected = fixture.group("outputs.tiled")
    # The original's stride in latent pixels, rounded down as it does.
    size = fixture.meta["tiled"]["tile_sample_min_size"] // 8
    stride = int(size * (1 - fixture.meta["tiled"]["tile_overlap_factor"]))
    tiles = Tiles(size * 8, (size - stride) * 8)

    video = _video(fixture, "tiled")
    whole, tiled = vae.encode(video).mean, encode_tiled(vae, video, tiles).mean
    ours, theirs = _mean_error(tiled, whole), _mean_error(expected["mean"], whole)
    record_property("encode", (ours, theirs))
    print(f"{vae_file} tiled encode: mean abs error {ours:.3g}, the original's {theirs:.3g}")
    assert 0 < ours <= theirs

    errors = []
    for latents in (expected["mean"], whole):  # whichever the original decoded, its error is less
        whole_video, tiled_video = vae.decode(latents), decode_tiled(vae, latents, tiles)
        errors.append(
            (_mean_error(expected["decoded"], whole_video), _mean_error(tiled_video, whole_video))
        )
    theirs, ours = min(errors)
    record_property("decode", (ours, theirs))
    print(f"{vae_file} tiled decode: mean abs error {ours:.3g}, the original's {theirs:.3g}")
    assert 0 < ours <= theirs


@torch.inference_mode()
def test_a_clip_within_one_tile_is_not_changed(parity, vae_file, assert_close):
    fixture, vae = _load(parity, vae_file)
    shape = fixture.meta["shapes"][0]
    video = _video(fixture, "x".join(map(str, shape)))
    tiles = Tiles(512, 128)
    whole = vae.encode(video)
    assert_close(encode_tiled(vae, video, tiles).mean, whole.mean, 0, "encode")
    assert_close(decode_tiled(vae, whole.mean, tiles), vae.decode(whole.mean), 0, "decode")
