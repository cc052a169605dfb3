"""What is known stays: which latents are kept, and that every scheduler ends with them."""

from dataclasses import replace

import pytest
import torch

from easyanimate_core.conditioning.known import Known, known_latents, known_share
from easyanimate_core.models.specs import Head, TransformerConfig, Version
from easyanimate_core.sampling import (
    PUBLISHED_CONFIG,
    SCHEDULERS,
    denoise,
    keeping_known,
    make_schedule,
)
from easyanimate_core.settings import Settings
from easyanimate_core.small_model import small_checkpoint
from easyanimate_core.tasks import ImageToVideo, RegionEdit, Target
from easyanimate_core.weights.files import inspect_checkpoint
from tests.factories import FRAMES, HEIGHT, LATENTS, V5, V5_1, WIDTH, pixels, quick

PROMPT = "A dog shakes its head."


def all_generated(frames=9, height=32, width=48):
    return torch.ones(1, 1, frames, height, width)


def test_a_share_is_of_the_area_in_the_least_known_frame_of_four():
    mask = torch.zeros(1, 1, 9, 32, 48)
    mask[:, :, 3, :4, :8] = 1  # half of a corner's 8 x 8 pixels, in one of the frames 1 to 4
    mask[:, :, 8, 8:16, 8:16] = 1
    share = known_share(mask, whole=True)
    assert share.shape == (1, 1, 3, 4, 6)
    expected = torch.ones_like(share)
    expected[:, :, 1, 0, 0] = 0.5
    expected[:, :, 2, 1, 1] = 0
    assert torch.equal(share, expected)


def test_soft_masks_give_soft_shares():
    share = known_share(0.25 * all_generated(), whole=True)
    torch.testing.assert_close(share, torch.full_like(share, 0.75))


@pytest.mark.parametrize(
    ("known", "kept"),
    [
        ([0], [0]),
        ([0, 1, 2, 3, 4], [0, 1]),
        ([0, 1, 2], [0]),
        ([0, 5, 6, 7, 8], [0]),  # behind frames that nobody knows
        ([8], []),
        ([4, 5], []),
    ],
)
def test_known_frames_are_kept_up_to_the_first_unknown_one(known, kept):
    mask = all_generated()
    mask[:, :, known] = 0
    share = known_share(mask, whole=False)
    assert share.amin((0, 1, 3, 4)).nonzero().flatten().tolist() == kept
    assert set(share.unique().tolist()) <= {0.0, 1.0}


def test_a_whole_video_is_kept_behind_frames_to_generate():
    mask = all_generated()
    mask[:, :, 5:] = 0
    assert known_share(mask, whole=True).amin((0, 1, 3, 4)).tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_ends_with_what_is_known(name):
    """The denoiser is wrong everywhere; where nothing is known its result is not changed."""
    version = Version.V5_1 if name == "Flow" else Version.V5
    share = torch.zeros(1, 1, 3, 4, 4)
    share[:, :, 0], share[:, :, 1, 0] = 1, 0.5
    known = torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(2))

    def wrong(latents, timestep):
        return 0.3 * latents.sin() + timestep / 5000

    def run(keep):
        schedule = make_schedule(name, PUBLISHED_CONFIG[version], steps=10)
        denoiser = keeping_known(wrong, schedule, Known(known, share), noise) if keep else wrong
        generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
        return denoise(denoiser, schedule, schedule.start(noise, None), generators=generators)

    kept, free = run(keep=True), run(keep=False)
    # PNDM goes on with the mean of the last velocities, so it does not end there by itself.
    tolerance = 0.6 if name == "PNDM" else 1e-3
    torch.testing.assert_close(kept[:, :, 0], known[:, :, 0].expand(2, -1, -1, -1),
                               atol=tolerance, rtol=0)  # fmt: skip
    torch.testing.assert_close(kept[:, :, 2], free[:, :, 2], atol=1e-4, rtol=0)
    half = (slice(None), slice(None), 1, 0)
    assert (kept[half] - known[half]).abs().mean() < (free[half] - known[half]).abs().mean()


@pytest.mark.parametrize("name", ["Flow", "DDIM"])
def test_noise_levels_go_both_ways(name):
    version = Version.V5_1 if name == "Flow" else Version.V5
    schedule = make_schedule(name, PUBLISHED_CONFIG[version], steps=5)
    clean, noise = torch.randn(2, 1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for timestep in schedule.timesteps:
        latents = schedule.noised(clean, noise, timestep)
        velocity = schedule.velocity(latents, clean, timestep)
        torch.testing.assert_close(
            schedule.clean(latents, velocity, timestep), clean, atol=1e-4, rtol=0
        )
    if name == "Flow":
        torch.testing.assert_close(velocity, noise - clean, atol=1e-4, rtol=1e-4)
    else:
        signal, spread = schedule.prediction.levels(timestep)
        wanted = signal * noise - spread * clean
        torch.testing.assert_close(velocity, wanted, atol=1e-3, rtol=1e-3)


def left_of(width):
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[..., width:] = 1
    return mask


@pytest.mark.parametrize("version", [V5_1, V5])
def test_outside_a_region_the_latents_are_the_source_s(pipeline, version):
    model, clip = pipeline(version, Head.INPAINT), pixels(1, frames=FRAMES)
    known = 16
    task = RegionEdit(clip, left_of(known))
    wanted = source_latents(model, task)
    kept = model.generate(PROMPT, task, quick(batch=2, keep_known=True)).latents
    outside = (..., slice(known // 8))
    assert kept.shape == (2, *LATENTS)
    torch.testing.assert_close(kept[outside], wanted[outside].expand_as(kept[outside]))
    free = model.generate(PROMPT, task, quick(keep_known=False)).latents
    assert (free[outside] - wanted[outside]).abs().mean() > 0.05


def source_latents(model, task):
    sources = task.load().align(Target(HEIGHT, WIDTH, FRAMES))
    with model._networks.vae(lambda *_: None) as vae, torch.inference_mode():
        known = known_latents(vae, sources.video, sources.mask, whole=sources.whole)
    return known.latents


@pytest.mark.parametrize("version", [V5_1, V5])
def test_a_start_image_s_latents_stay(pipeline, version):
    model, task = pipeline(version, Head.INPAINT), ImageToVideo(start=pixels(3))
    wanted = source_latents(model, task)
    kept = model.generate(PROMPT, task, quick(keep_known=True)).latents
    free = model.generate(PROMPT, task, quick(keep_known=False)).latents
    torch.testing.assert_close(kept[:, :, :1], wanted[:, :, :1])
    assert (free[:, :, 0] - wanted[:, :, 0]).abs().mean() > 0.05
    assert torch.equal(wanted[:, :, 1:], torch.zeros_like(wanted[:, :, 1:]))


def test_what_is_known_is_kept_where_the_checkpoint_asks_for_it(pipeline):
    model, task = pipeline(V5_1, Head.INPAINT), ImageToVideo(start=pixels(3))
    plain, kept, free = (
        model.generate(PROMPT, task, quick(keep_known=keep)).latents for keep in (None, True, False)
    )
    assert torch.equal(plain, free)
    own = replace(model.info, transformer=replace(model.info.transformer, keep_known=True))
    model.info, published = own, model.info
    try:
        asked, refused = (
            model.generate(PROMPT, task, quick(keep_known=keep)).latents for keep in (None, False)
        )
    finally:
        model.info = published
    assert torch.equal(asked, kept)
    assert torch.equal(refused, free)


def test_the_small_model_asks_for_it_and_a_published_one_does_not():
    asked = inspect_checkpoint(small_checkpoint(Head.INPAINT)).transformer
    assert asked.keep_known
    assert TransformerConfig.from_dict({"in_channels": 33}).keep_known is False
    assert Settings().keep_known is None


def test_an_end_image_alone_holds_nothing(pipeline):
    model, task = pipeline(V5_1, Head.INPAINT), ImageToVideo(end=pixels(3))
    kept, free = (model.generate(PROMPT, task, quick(keep_known=k)).latents for k in (True, False))
    assert torch.equal(kept, free)


def test_a_clip_that_sampling_starts_from_is_encoded_once(pipeline):
    """A region at less than full strength: the masked clip, and the clip for both uses."""
    model = pipeline(V5_1, Head.INPAINT)
    stages = []
    task = RegionEdit(pixels(1, frames=FRAMES), left_of(16), strength=0.5)
    wanted = source_latents(model, task)
    kept = model.generate(
        PROMPT, task, quick(keep_known=True), progress=lambda *stage: stages.append(stage)
    ).latents
    encodes = [stage for stage in stages if stage[0] == "encode" and stage[1] == stage[2]]
    assert len(encodes) == 2
    torch.testing.assert_close(kept[..., :2], wanted[..., :2])
