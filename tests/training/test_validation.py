"""Videos of held-out clips while training."""

import logging
import math

import torch

from easyanimate_core.models.specs import Head
from easyanimate_core.text import TextStates
from easyanimate_core.training.config import ValidationConfig
from easyanimate_core.training.validation import make_videos
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.loading import load_transformer, load_vae
from tests.factories import LATENTS, V5_1


def test_a_clip_whose_values_are_not_finite_is_left_out_and_told(checkpoint, tmp_path, caplog):
    info = inspect_checkpoint(checkpoint(V5_1, Head.T2V))
    transformer = load_transformer(info, dtype=torch.float32)
    transformer.proj_out.bias.fill_(math.inf)
    text = TextStates(torch.zeros(1, 4, info.transformer.text_embed_dim))
    row = ("A cat.", torch.zeros(1, *LATENTS), None, text)
    with caplog.at_level(logging.ERROR, "easyanimate_core"), torch.no_grad():
        make_videos(
            transformer, load_vae(info), [row, row], text, info.scheduler,
            ValidationConfig(steps=1), tmp_path / "step.png", 8.0,
        )  # fmt: skip
    assert [record.args[0] for record in caplog.records] == [0, 1]
    assert "The denoiser's prediction in float32 contains NaN or infinite values" in caplog.text
    assert list(tmp_path.iterdir()) == []
