"""Whole runs on a Mac's GPU, as `tests/apple_gpu.py` plays it."""

import shlex

import pytest
import torch

from easyanimate_core.cli.main import main
from easyanimate_core.convert import Conversion, convert
from easyanimate_core.errors import InputError
from easyanimate_core.memory.options import Memory
from easyanimate_core.models.specs import Head
from easyanimate_core.models.transformer import kernel
from easyanimate_core.pipeline import Pipeline
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


def generated(folder, head, device, dtype, memory=None):
    model = Pipeline.load(folder, device=device, dtype=dtype, memory=memory, embedding_cache=False)
    return model.generate(PROMPT, TASKS[head], quick())


@pytest.mark.parametrize(("version", "head"), CHECKPOINTS)
def test_every_head_runs_with_what_the_gpu_has(checkpoint, version, head):
    """No float64, no operation without a kernel, nothing left on the CPU that is needed there."""
    folder = checkpoint(version, head)
    with AppleGPU() as gpu:
        made = generated(folder, head, "auto", "auto")
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


@pytest.mark.parametrize("scheduler", ["Euler", "Euler A", "DPM++", "DDIM"])
def test_v5_s_schedulers_run(checkpoint, scheduler):
    """Their sigmas are float64, which only the CPU has."""
    with AppleGPU():
        model = Pipeline.load(checkpoint(V5, Head.T2V), device="mps", embedding_cache=False)
        assert model.generate(PROMPT, settings=quick(scheduler=scheduler)).frames.isfinite().all()


def test_before_macos_14_a_run_is_in_float16(checkpoint):
    folder = checkpoint(V5_1, Head.T2V)
    with AppleGPU(bfloat16=False) as gpu:
        model = Pipeline.load(folder, embedding_cache=False)
        made = model.generate(PROMPT, settings=quick())
    assert (model.device.type, model.dtype) == ("mps", torch.float16)
    assert made.frames.isfinite().all()
    assert "scaled_dot_product_attention" in gpu.used


def test_weights_in_8_bits_run_in_blocks(checkpoint):
    folder = checkpoint(V5_1, Head.T2V)
    memory = Memory(quantization="qint8", text_quantization="qint8", offload="block")
    with AppleGPU():
        made = generated(folder, Head.T2V, "mps", "float32", memory)
    same = generated(folder, Head.T2V, "cpu", "float32", memory)
    assert (made.latents - same.latents).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("memory", "name"),
    [
        (Memory(quantization="qfloat8"), "quantization"),
        (Memory(text_quantization="qfloat8"), "text_quantization"),
    ],
)
def test_fp8_is_refused_before_weights_are_read(checkpoint, memory, name):
    with AppleGPU(), pytest.raises(InputError) as refused:
        Pipeline.load(checkpoint(V5_1, Head.T2V), device="mps", memory=memory)
    assert str(refused.value) == (
        f"{name} is qfloat8, but mps (a Mac's GPU) does not support fp8. Use qint8, which has the "
        "same size."
    )


def test_a_text_encoder_in_fp8_may_run_on_the_cpu(checkpoint):
    memory = Memory(text_quantization="qfloat8", text_device="cpu")
    with AppleGPU():
        made = generated(checkpoint(V5_1, Head.T2V), Head.T2V, "mps", "auto", memory)
    assert made.frames.isfinite().all()


@pytest.mark.parametrize("dtype", ["fp8", "fp8-channel"])
def test_a_denoiser_stored_in_fp8_is_refused_with_a_remedy_that_works(
    checkpoint, tmp_path, capsys, dtype
):
    folder = tmp_path / "a model"
    convert(checkpoint(V5_1, Head.T2V), folder, Conversion(dtype=dtype))
    with AppleGPU():
        with pytest.raises(
            InputError, match=r"is stored in fp8, which mps .* does not support"
        ) as no:
            Pipeline.load(folder, device="mps")
        assert main(["plan", "--model", str(folder), "--size", "64x96x5"]) == 2
    assert "is stored in fp8" in capsys.readouterr().err
    command = shlex.split(str(no.value).rpartition(" with: ")[2])
    assert main(command[command.index("convert") :]) == 0
    with AppleGPU():
        made = generated(tmp_path / "a model-int8", Head.T2V, "mps", "float32")
    whole = generated(checkpoint(V5_1, Head.T2V), Head.T2V, "cpu", "float32")
    assert (made.latents - whole.latents).norm() < 0.1 * whole.latents.norm()
    # On the CPU, and in 4 bits on either, it runs as it is.
    Pipeline.load(folder, device="cpu")
    with AppleGPU():
        Pipeline.load(folder, device="mps", memory=Memory(quantization="qint4"))


def test_the_plan_is_of_the_device_and_counts_its_memory_once(checkpoint, tmp_path, capsys):
    folder = str(checkpoint(V5_1, Head.INPAINT))
    size = ["--size", "64x96x5", "--ram", "16"]
    with AppleGPU(memory=10 * 10**9):
        assert main(["plan", "--model", folder, *size]) == 0
        said = capsys.readouterr().out
        assert "bfloat16, on a card of 10.0 GB, with 16.0 GB of memory, shared with" in said
        assert "card and memory together" in said
        assert main(["plan", "--model", folder, *size, "--device", "cpu"]) == 0
        assert "float32, on the CPU, with 16.0 GB of memory\n" in capsys.readouterr().out
        assert main(["generate", "--model", folder, "--prompt", "A cat.", "--size", "64x96",
                     "--frames", "5", "--steps", "2", "--plan", "--ram", "1.2",
                     "--output", str(tmp_path / "cat.mp4")]) == 2  # fmt: skip
        assert "of the machine's 1.2 GB" in capsys.readouterr().err
    with AppleGPU(bfloat16=False):
        assert main(["plan", "--model", folder, *size]) == 0
    assert "float16, on a card of 12.0 GB" in capsys.readouterr().out
