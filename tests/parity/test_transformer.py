"""The denoiser against the original implementation, for every head and both versions."""

import torch

from easyanimate_core.doctor.runs import Compute, denoiser, denoiser_of

TOLERANCE = 2e-5


def test_transformer(parity, transformer_file, assert_close):
    fixture = parity.read(transformer_file)
    (sample,) = denoiser(fixture, Compute())
    assert_close(sample.found, sample.recorded, TOLERANCE, transformer_file)
    inputs = fixture.group("inputs")
    model = denoiser_of(fixture, torch.device("cpu"))
    cos, sin = (part.repeat_interleave(2, dim=1) for part in model.rotary_table(inputs["sample"]))
    assert_close(cos, inputs["rope_cos"], 1e-6, "rotary cosines")
    assert_close(sin, inputs["rope_sin"], 1e-6, "rotary sines")
