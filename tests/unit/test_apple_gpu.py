"""Whole runs on a Mac's GPU, as `tests/apple_gpu.py` plays it."""

import pytest

from easyanimate_core.models.transformer import kernel
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.specs import Head
from easyanimate_core.tasks import Camera, Control, ImageToVideo, TextToVideo
from tests.apple_gpu import AppleGPU
from tests.factories import CHECKPOINTS, FRAMES, V5, V5_1, pixels, quick

PROMPT = "A dog shakes its head."
TASKS = {
    Head.T2V: TextToVideo(),
    Head.INPAINT: ImageToVideo(start=pixels(3)),
    Head.CONTROL: Control(pixels(1, frames=FRAMES)),
    Head.CAMERA: Camera(("Pan Up",)),
}


def generated(folder, head, device, dtype):
    model = Pipeline.load(folder, device=device, dtype=dtype, embedding_cache=False)
    return model.generate(PROMPT, TASKS[head], quick())


@pytest.mark.parametrize(("version", "head"), CHECKPOINTS)
def test_every_head_runs_with_what_the_gpu_has(checkpoint, version, head):
    """No float64, no operation without a kernel, nothing left on the CPU that is needed there."""
    folder = checkpoint(version, head)
    with AppleGPU() as gpu:
        made = generated(folder, head, "mps", "auto")
    assert {"convolution", "scaled_dot_product_attention", "native_layer_norm"} <= gpu.used
    same = generated(folder, head, "cpu", "bfloat16")
    assert (made.latents - same.latents).norm() < 0.02 * same.latents.norm()


@pytest.mark.parametrize("version", [V5, V5_1])
def test_a_run_in_parts_is_the_same_run(checkpoint, version, monkeypatch):
    folder = checkpoint(version, Head.T2V)
    whole = generated(folder, Head.T2V, "cpu", "float32")
    most = 3 * 256 * 256  # of the text encoder, which is not divided
    monkeypatch.setattr(kernel, "MOST_SCORES", most)
    with AppleGPU(most_scores=most) as gpu:
        parts = generated(folder, Head.T2V, "mps", "float32")
    assert 0 < gpu.scores <= most
    assert (parts.latents - whole.latents).abs().max() < 1e-4
