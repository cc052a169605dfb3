"""What the VAE is trained on, and what it may not change."""

import json
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from easyanimate_core.errors import InputError
from easyanimate_core.models.specs import Head
from easyanimate_core.training.data.buckets import Draw
from easyanimate_core.training.strategies.base import Batch
from easyanimate_core.training.strategies.streams import any_in_latent
from easyanimate_core.weights.files import read_json
from tests.factories import V5, V5_1
from tests.training_runs import SHAPE, clips, config, strategy_of, train

CROP = [5, 16, 16]


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


def batch_of(strategy, epoch=0):
    draws = [Draw(index, SHAPE, epoch) for index in range(4)]
    batch = Batch(0, 0, 1, 4, 4 * SHAPE.tokens, strategy.read(draws))
    strategy.prepare(batch, torch.device("cpu"))
    return batch


def marked_share(strategy):
    """Of crops, those with the body in their middle frame."""
    masks = torch.cat([batch_of(strategy, epoch).content.masks for epoch in range(10)])
    assert masks.shape[1:] == (1, *CROP)
    return float(masks[:, 0, CROP[0] // 2].flatten(1).amax(1).mean())


def test_crops_hold_the_bodies_as_often_as_asked(folder, tmp_path):
    shares = [
        marked_share(
            strategy_of(
                config(
                    tmp_path,
                    folder,
                    task="vae",
                    data__clips_per_batch=4,
                    data__crop=CROP,
                    data__crop_masks=share,
                    vae_objective={"images": 0.0},
                )
            )
        )
        for share in (0.0, 1.0)
    ]
    assert shares[0] < shares[1] == 1


def without_masks(load, shape, start=0):
    return replace(load(shape, start), masks=None)


def test_crops_about_masks_need_clips_that_have_them(folder, tmp_path):
    wanted = config(tmp_path, folder, task="vae", data__crop=CROP, data__crop_masks=0.7)
    records = [replace(record, load=partial(without_masks, record.load)) for record in clips()]
    with pytest.raises(InputError, match=r"crop_masks is 0\.7.*no masks.*Set it to 0"):
        batch_of(strategy_of(wanted, records))


def test_latents_are_kept_outside_of_the_masks(folder, tmp_path):
    strategy = strategy_of(
        config(
            tmp_path,
            folder,
            task="vae",
            data__clips_per_batch=4,
            vae_objective={"images": 0.0, "keep_latents": 2.0},
        )
    )
    batch = batch_of(strategy)
    begin = strategy.loss("vae", strategy.networks, batch)
    assert begin.parts["latent_drift"] < 1e-6
    vae = strategy.networks["vae"].vae
    with torch.no_grad():
        variance = vae.encode(batch.content.video).mean.var()
        vae.quant_conv.bias[: vae.config.latent_channels] += 0.5
    with torch.no_grad():
        moved = strategy.loss("vae", strategy.networks, batch)
    assert moved.parts["latent_drift"] == pytest.approx(float(0.25 / variance), rel=1e-4)
    others = moved.parts["pixel_loss"] + 1e-6 * moved.parts["kl_loss"]
    assert moved.total == pytest.approx(float(others + 2 * moved.parts["latent_drift"]), rel=1e-4)
    # Where all is masked nothing is kept.
    batch.content.masks = torch.ones_like(batch.content.masks)
    assert any_in_latent(batch.content.masks[0], (2, 4, 4)).min() == 1
    assert strategy.loss("vae", strategy.networks, batch).parts["latent_drift"] == 0


@pytest.mark.parametrize("built", [False, True])
def test_latents_that_are_kept_keep_their_scale(folder, tmp_path, built):
    own = shutil.copytree(folder, tmp_path / "own")
    begin = read_json(own / "vae" / "config.json") | {"scaling_factor": 0.9}
    (own / "vae" / "config.json").write_text(json.dumps(begin))
    model = {}
    if built:
        names = ("block_out_channels", "layers_per_block", "norm_num_groups", "spatial_group_norm")
        network = {name: begin[name] for name in names}
        model = {"model__network": network, "model__weights": str(own / "vae")}
    (result,) = train(
        tmp_path / "run",
        own,
        task="vae",
        data__clips_per_batch=2,
        vae_objective={"keep_latents": 1.0},
        **model,
    )
    assert read_json(result / "config.json")["scaling_factor"] == 0.9


@pytest.mark.parametrize("version", [V5, V5_1], ids=lambda version: version.value)
def test_gradients_reach_across_chunks(checkpoint, tmp_path, version):
    # V5 encodes four frames at a time and decodes one latent frame at a time: five chunks here.
    strategy = strategy_of(config(tmp_path, checkpoint(version, Head.T2V), task="vae"))
    network = strategy.networks["vae"].double()
    generator = torch.Generator().manual_seed(0)
    video = torch.rand((1, 3, 9, 16, 16), generator=generator, dtype=torch.float64) * 2 - 1
    parameters = list(network.parameters())
    direction = [
        p.detach().std().clamp(0.01)
        * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for p in parameters
    ]

    def error(step):
        for parameter, part in zip(parameters, direction, strict=True):
            parameter.data += step * part
        made, _, _ = network(video, None)
        return (made - video).square().mean()

    error(0.0).backward()
    slope = sum(float((p.grad * part).sum()) for p, part in zip(parameters, direction, strict=True))
    with torch.no_grad():
        before, after = float(error(-1e-6)), float(error(2e-6))
    assert (after - before) / 2e-6 == pytest.approx(slope, rel=1e-4)
