"""What the denoiser is asked, the masks that it is trained with, and what each task shows it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from easyanimate_core.conditioning.condition import Sources, make_condition
from easyanimate_core.conditioning.encode import to_model_range
from easyanimate_core.conditioning.inpaint import HIDDEN, inpaint_condition, masked_video
from easyanimate_core.errors import HeadError, InputError
from easyanimate_core.models.geometry import latent_shape
from easyanimate_core.models.specs import Head, Version
from easyanimate_core.paths.camera import plucker_embedding
from easyanimate_core.sampling import PUBLISHED_CONFIG
from easyanimate_core.training.config import ObjectiveConfig
from easyanimate_core.training.data.buckets import Draw
from easyanimate_core.training.data.records import Sample, Shape
from easyanimate_core.training.masks import draw_mask
from easyanimate_core.training.objective import draw_times, objective_of
from easyanimate_core.training.strategies.streams import streams_of
from easyanimate_core.weights.loading import load_vae
from tests.factories import V5_1
from tests.training_runs import SHAPE, clips, config


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_flow_goes_straight_from_latents_to_noise():
    latents, eps = noise(0, 2, 4, 2, 3, 3), noise(1, 2, 4, 2, 3, 3)
    asked = objective_of(Version.V5_1, {}).ask(latents, eps, torch.tensor([0.25, 1.0]))
    assert torch.allclose(asked.noisy[0], 0.75 * latents[0] + 0.25 * eps[0])
    assert torch.equal(asked.noisy[1], eps[1])
    assert torch.equal(asked.target, eps - latents)
    assert asked.timesteps.tolist() == [250.0, 1000.0]
    # One Euler step of the whole way is back at the latents.
    assert torch.allclose(eps - asked.target, latents, atol=1e-6)


def test_v5_asks_for_the_velocity_of_diffusers():
    known = PUBLISHED_CONFIG[Version.V5]
    latents, eps = noise(0, 4, 4, 2, 3, 3), noise(1, 4, 4, 2, 3, 3)
    times = torch.tensor([0.0, 0.3, 0.9994, 1.0])
    asked = objective_of(Version.V5, known).ask(latents, eps, times)
    assert asked.timesteps.tolist() == [0, 300, 999, 999]
    alphas = DDIMScheduler.from_config(known).alphas_cumprod[[0, 300, 999, 999]]
    share = alphas.view(-1, 1, 1, 1, 1)
    assert torch.allclose(asked.noisy, share.sqrt() * latents + (1 - share).sqrt() * eps, atol=1e-6)
    assert torch.allclose(
        asked.target, share.sqrt() * eps - (1 - share).sqrt() * latents, atol=1e-6
    )
    assert alphas[-1] < 1e-6  # zero terminal SNR: the last step is noise alone


def test_uniform_times_have_one_in_every_part():
    for seed in range(5):
        times = draw_times(ObjectiveConfig(), 8, np.random.default_rng(seed))
        assert sorted((times * 8).long().tolist()) == list(range(8))


def test_times_are_distributed_as_the_config_says():
    def drawn(**changes):
        return draw_times(ObjectiveConfig(**changes), 20000, np.random.default_rng(0))

    for times in (drawn(), drawn(timesteps="logit_normal", logit_std=2.0), drawn(shift=3.0)):
        assert 0 < times.min() < 0.02
        assert 0.98 < times.max() <= 1
    uniform = drawn()
    assert torch.allclose(drawn(shift=3.0), 3 * uniform / (1 + 2 * uniform), atol=1e-6)
    logits = torch.logit(drawn(timesteps="logit_normal", logit_mean=0.5, logit_std=0.7).double())
    assert float(logits.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(logits.std()) == pytest.approx(0.7, abs=0.02)


PLAIN = Sample(torch.zeros(9, 32, 48, 3))
SIZE = Shape(9, 32, 48)


def mask_of(kind, seed=0, shape=SIZE, sample=PLAIN):
    mask = draw_mask(shape, sample, {kind: 1.0}, np.random.default_rng(seed))
    assert mask.shape == tuple(shape)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    return mask


@pytest.mark.parametrize(
    ("kind", "known"), [("start", [0]), ("end", [8]), ("both", [0, 8]), ("all", [])]
)
def test_masks_of_known_frames(kind, known):
    mask = mask_of(kind)
    assert [i for i in range(9) if not mask[i].any()] == known
    assert mask.sum() == (9 - len(known)) * 32 * 48


def test_masks_of_some_frames():
    counts = set()
    for seed in range(40):
        mask = mask_of("frames", seed)
        whole = [bool(frame.all()) for frame in mask]
        assert all(frame.all() or not frame.any() for frame in mask)
        counts.add(whole.count(False))
    assert counts == {1, 2, 3, 4}


def test_masks_of_regions_are_boxes_that_stay_or_move():
    moves = 0
    for seed in range(40):
        mask = mask_of("region", seed)
        corners = []
        for frame in mask:
            rows, columns = frame.amax(1).nonzero()[:, 0], frame.amax(0).nonzero()[:, 0]
            box = frame[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert box.all()
            assert 0.15 * 32 < box.shape[0] < 0.75 * 32
            assert 0.15 * 48 < box.shape[1] < 0.75 * 48
            corners.append((int(rows.min()), int(columns.min())))
        moves += len(set(corners)) > 1
    assert 10 < moves < 30


def test_masks_lie_around_what_a_sample_marks():
    marked = torch.zeros(*SIZE)
    marked[4, 10:14, 20:24] = 1
    sample = Sample(PLAIN.frames, masks=marked)
    around = [mask_of("region", seed, sample=sample) for seed in range(20)]
    boxes = [mask for mask in around if mask.sum() == 9 * (4 + 2 * 3) * (4 + 2 * 4)]
    assert 3 < len(boxes) < 17
    assert all(box[:, 10:14, 20:24].all() for box in boxes)


@pytest.mark.parametrize("kind", ["start", "region", "all"])
def test_a_picture_has_regions_or_is_generated_whole(kind):
    mask = mask_of(kind, shape=Shape(1, 32, 48), sample=Sample(PLAIN.frames[:1]))
    assert mask.any()


@pytest.fixture
def vae(pipeline):
    return load_vae(pipeline(V5_1, Head.INPAINT).info, dtype=torch.float32)


def encoded(stream, vae, shape=SHAPE):
    parts = []
    if stream.channels is not None:
        parts.append(stream.channels(latent_shape(*shape), vae.config.scaling_factor))
    if stream.video is not None:
        parts.append(vae.encode(stream.video).mean[0] * vae.config.scaling_factor)
    return torch.cat(parts)


def streams(task, sizes, **changes):
    wanted = config("out", "checkpoint", task=task, **changes)
    return wanted, streams_of(wanted, sizes)


def test_inpaint_shows_what_the_pipeline_shows(pipeline, vae):
    sizes = pipeline(V5_1, Head.INPAINT).info.transformer
    quiet = {"noise_mean": -100.0, "noise_std": 0.0, "masks": {"both": 1.0}}
    wanted, own = streams("inpaint", sizes, objective=quiet)
    (record,) = clips(count=1)
    sample = record.load(SHAPE)
    stream = own.make("mask 0", sample, SHAPE, wanted, np.random.default_rng(0))
    mask = torch.ones(1, 1, *SHAPE)
    mask[:, :, [0, -1]] = 0
    theirs = inpaint_condition(
        vae,
        to_model_range(sample.frames),
        mask,
        noise_amplitude=0.0,
        generators=[torch.Generator()],
    )
    assert torch.allclose(encoded(stream, vae), theirs[0], atol=1e-6)


def test_noise_is_on_known_pixels_that_are_not_black(pipeline):
    sizes = pipeline(V5_1, Head.INPAINT).info.transformer
    loud = {"noise_mean": math.log(0.5), "noise_std": 0.0, "masks": {"both": 1.0}}
    wanted, own = streams("inpaint", sizes, objective=loud)
    (record,) = clips(count=1)
    sample = record.load(SHAPE)
    frames = sample.frames.clone()
    frames[:, : SHAPE.height // 2] = 0
    sample = replace(sample, frames=frames)
    video = to_model_range(frames)
    masked = own.make("mask 0", sample, SHAPE, wanted, np.random.default_rng(0)).video
    assert (masked[:, :, 1:-1] == HIDDEN).all()
    black = video == HIDDEN
    assert (masked[black] == HIDDEN).all()
    known = torch.zeros_like(black)
    known[:, :, [0, -1]] = True
    noise = (masked - video)[known & ~black]
    assert noise.std() == pytest.approx(0.5, rel=0.1)
    given = torch.zeros_like(video).masked_scatter(known & ~black, noise)
    mask = (~known[:, :1]).float()
    assert torch.allclose(masked, masked_video(video, mask, given), atol=1e-6)


@pytest.mark.parametrize(
    ("head", "reference"), [(Head.CONTROL, True), (Head.CONTROL, False), (Head.CAMERA, True)]
)
def test_control_and_camera_show_what_the_pipeline_shows(pipeline, vae, head, reference):
    sizes = pipeline(V5_1, head, reference=reference).info.transformer
    task = {Head.CONTROL: "control", Head.CAMERA: "camera"}[head]
    wanted, own = streams(task, sizes)
    (record,) = clips(count=1)
    sample = record.load(SHAPE)
    names = own.names(None, wanted)
    made = {
        name: encoded(own.make(name, sample, SHAPE, wanted, None), vae, SHAPE) for name in names
    }
    shown = own.channels(made, None, np.random.default_rng(0))
    sources = Sources(
        control=to_model_range(sample.control),
        plucker=plucker_embedding(sample.camera, 32, 32).float(),
        reference=to_model_range(sample.frames[:1]) if reference else None,
    )
    theirs = make_condition(
        vae, sizes, sources, latent_shape(*SHAPE), generators=[torch.Generator()]
    )
    assert torch.allclose(shown, theirs.channels[0], atol=1e-5)
    dropped = own.channels(
        made, ObjectiveConfig(condition_dropout=1, reference_dropout=1), np.random.default_rng(0)
    )
    assert dropped.shape == shown.shape
    assert not dropped.any()


def test_dropping_the_condition_of_inpaint_is_text_to_video(pipeline):
    _, own = streams("inpaint", pipeline(V5_1, Head.INPAINT).info.transformer)
    shown = {"latents": torch.ones(2), "mask 0": torch.ones(17, 2, 4, 4)}
    kept = own.channels(shown, ObjectiveConfig(condition_dropout=0), np.random.default_rng(0))
    assert torch.equal(kept, shown["mask 0"])
    gone = own.channels(shown, ObjectiveConfig(condition_dropout=1), np.random.default_rng(0))
    assert gone.shape == kept.shape
    assert not gone.any()


def test_a_task_of_another_head_is_refused(pipeline):
    sizes = pipeline(V5_1, Head.INPAINT).info.transformer
    with pytest.raises(HeadError, match=r"control trains the Control head.*33 input channels"):
        streams("control", sizes)


@pytest.mark.parametrize(("task", "key"), [("control", "control_file"), ("camera", "camera_file")])
def test_clips_without_their_condition_are_refused(pipeline, task, key):
    head = Head.CONTROL if task == "control" else Head.CAMERA
    wanted, own = streams(task, pipeline(V5_1, head).info.transformer)
    with pytest.raises(InputError, match=f"Add {key}_path to every entry"):
        own.make("control", PLAIN, SIZE, wanted, None)


def test_regions_are_the_latents_that_a_mask_touches(pipeline):
    sizes = pipeline(V5_1, Head.INPAINT).info.transformer
    wanted, own = streams("inpaint", sizes, objective={"region_share": 0.5})
    masks = torch.zeros(SIZE)
    masks[0, 9, 3] = 1  # the first frame is a latent frame of its own
    masks[4, 0, 47] = 1  # the last of the next four
    masks[5, 31, 8] = 1
    draw = Draw(0, SIZE, 0)
    assert own.names(draw, wanted)[-1] == "regions"
    stream = own.make("regions", Sample(PLAIN.frames, masks=masks), SIZE, wanted, None)
    found = stream.channels(latent_shape(*SIZE), 0.5)
    assert found.shape == (1, *latent_shape(*SIZE))
    assert found[0].nonzero().tolist() == [[0, 1, 0], [1, 0, 5], [2, 3, 1]]
    assert found.max() == 1
    # The denoiser is not shown them.
    shown = {"latents": torch.ones(2), "mask 0": torch.ones(17, 2, 4, 4), "regions": found}
    channels = own.channels(shown, None, np.random.default_rng(0))
    assert torch.equal(channels, shown["mask 0"])


def test_regions_of_clips_without_masks_are_refused(pipeline):
    sizes = pipeline(V5_1, Head.INPAINT).info.transformer
    wanted, own = streams("inpaint", sizes, objective={"region_share": 0.5})
    with pytest.raises(InputError, match=r"region_share is 0\.5.*no masks.*Set it to 0"):
        own.make("regions", PLAIN, SIZE, wanted, None)
