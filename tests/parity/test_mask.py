"""Pixel masks to the latent mask channel against the original's."""

from easyanimate_core.conditioning.inpaint import resize_to_latents

TOLERANCE = 1e-6


def test_mask(parity, assert_close):
    fixture = parity.read("mask.safetensors")
    inputs, outputs = fixture.group("inputs"), fixture.group("outputs")
    assert inputs
    for name, mask in inputs.items():
        expected = outputs[name]
        channel = resize_to_latents(1 - mask, expected.shape[2:])
        assert_close(channel, expected, TOLERANCE, name)
