"""Runs in float16: near those in float32, also where values leave float16's range."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyanimate_core.cli.main import main
from easyanimate_core.errors import PrecisionError
from easyanimate_core.memory.options import Memory
from easyanimate_core.memory.plan import Job, Limits, choose, published_facts
from easyanimate_core.memory.plan.estimate import estimate
from easyanimate_core.models.precision import within_range
from easyanimate_core.models.specs import Head
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.networks import Networks
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.progress import silent
from easyanimate_core.tasks import ImageToVideo
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.loading import load_transformer
from easyanimate_core.weights.lora import Lora, LoraSet, attached, matrix_shapes
from tests.factories import CHECKPOINTS, LATENTS, V5, V5_1, lora_tensors, pixels, quick

HALF = torch.float16
#: Of the largest value: float16 has 11 bits, and a tiny network has few layers.
NEAR = 0.01
#: Layers that give values above 65504 when their weights are this many times larger.
LARGE = 1e7
OVERFLOWS = {
    "feed-forward": ["transformer_blocks.0.ff.net.2.weight"],
    "text's feed-forward": ["transformer_blocks.0.txt_ff.net.2.weight"],
    "attention's output": ["transformer_blocks.1.attn1.to_out.0.weight"],
    "values": ["transformer_blocks.0.attn1.to_v.weight"],
    "queries": ["transformer_blocks.0.attn1.to_q.weight", "transformer_blocks.0.attn1.to_q.bias"],
    "patches": ["proj.weight"],
    "text": ["text_proj.1.weight"],
    "modulation": ["transformer_blocks.0.norm1.linear.weight"],
}


def changed(checkpoint_copy, part, name, factor=math.inf, head=Head.T2V):
    """A checkpoint one of whose weights is multiplied."""
    folder = checkpoint_copy(V5_1, head)
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    tensors[name] = tensors[name] * factor
    save_file(tensors, file)
    return folder


def denoiser(folder, **how) -> EasyAnimateTransformer3DModel:
    return load_transformer(inspect_checkpoint(folder), dtype=torch.float32, **how)


def inputs_of(network, dtype):
    generator = torch.Generator().manual_seed(0)
    config = network.config

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    given = {"condition": None, "text_t5": None}
    sample, text = random(1, *LATENTS), random(1, 4, config.text_embed_dim)
    if config.condition_channels:
        given["condition"] = random(1, config.condition_channels, *LATENTS[1:])
    if config.text_embed_dim_t5 is not None:
        given["text_t5"] = random(1, 5, config.text_embed_dim_t5)
    return lambda: network(sample, torch.tensor([500.0]), text, **given)


def gap(network) -> float:
    half, full = (inputs_of(network, dtype)() for dtype in (HALF, torch.float32))
    assert half.dtype is HALF
    return float((half.float() - full).abs().max() / full.abs().max())


@pytest.mark.parametrize(("version", "head"), CHECKPOINTS)
def test_a_prediction_in_float16_is_near_float32(checkpoint, version, head):
    assert 0 < gap(denoiser(checkpoint(version, head))) < NEAR


@pytest.mark.parametrize("part", OVERFLOWS)
def test_parts_that_leave_the_range_are_computed_in_float32(checkpoint, part):
    network = denoiser(checkpoint(V5_1, Head.T2V))
    weights = network.state_dict()
    for name in OVERFLOWS[part]:
        weights[name].mul_(LARGE)
    assert gap(network) < NEAR


@pytest.mark.parametrize("kind", ["qint8", "qfloat8"])
def test_quantised_parts_that_leave_the_range_are_computed_in_float32(checkpoint_copy, kind):
    folder = changed(checkpoint_copy, "transformer", "transformer_blocks.0.ff.net.2.weight", LARGE)
    assert 0 < gap(denoiser(folder, quantization=kind)) < NEAR


@pytest.mark.parametrize(("layers", "strength"), [("", 1.0), ("blocks.0.ff.net.2", 1e5)])
def test_a_lora_in_float16_is_near_float32(checkpoint, tmp_path, layers, strength):
    info = inspect_checkpoint(checkpoint(V5_1, Head.T2V))
    network = denoiser(info.path)
    shapes = matrix_shapes(info.transformer_files.weights)
    file = tmp_path / "lora.safetensors"
    save_file(lora_tensors({k: v for k, v in shapes.items() if layers in k}), file)
    found = {}
    for dtype in (HALF, torch.float32):
        loras = LoraSet.read([Lora(file, strength)], shapes)
        with attached(network, loras, device=torch.device("cpu"), dtype=dtype):
            found[dtype] = inputs_of(network, dtype)().float()
    apart = (found[HALF] - found[torch.float32]).abs().max() / found[torch.float32].abs().max()
    assert 0 < apart < NEAR


def test_only_what_overflows_is_repeated():
    calls = []

    def run(x):
        calls.append(x.dtype)
        return (x * 300,)

    (small,) = within_range(run, torch.full((4,), 2.0), compute=HALF)
    assert (calls, small.dtype, small[0]) == ([HALF], torch.float32, 600)
    (large,) = within_range(run, torch.full((4,), 300.0), compute=HALF)
    assert (calls[1:], large[0]) == ([HALF, torch.float32], 90_000)
    within_range(run, torch.full((4,), 300.0).bfloat16(), compute=torch.bfloat16)
    assert calls[3:] == [torch.bfloat16]


@pytest.mark.parametrize(("version", "head"), [(V5_1, Head.INPAINT), (V5, Head.T2V)])
def test_a_video_in_float16_is_near_float32(checkpoint, pipeline, version, head):
    task = ImageToVideo(start=pixels()) if head is Head.INPAINT else None
    half = Pipeline.load(checkpoint(version, head), dtype="float16", embedding_cache=False)
    made = half.generate("A cat.", task, quick()).frames
    full = pipeline(version, head).generate("A cat.", task, quick()).frames
    assert 0 < (made - full).abs().mean() < 0.005


def test_text_encoders_and_vae_are_not_in_float16(checkpoint):
    info = inspect_checkpoint(checkpoint(V5, Head.T2V))
    networks = Networks(info, torch.device("cpu"), HALF, Memory())
    assert networks.vae_dtype is torch.float32
    with networks.text_encoder(silent) as encoder:
        dtypes = {weight.dtype for part in encoder.networks for weight in part.parameters()}
    assert dtypes == {torch.bfloat16}


@pytest.mark.parametrize(
    ("part", "name", "said"),
    [
        ("transformer", "proj_out.bias", "The denoiser's prediction in float16 contains NaN"),
        ("vae", "decoder.conv_out.bias", "The VAE's output in float32 contains NaN or infinite"),
        ("text_encoder", "model.layers.0.mlp.down_proj.weight",
         "The text encoder's output for a prompt in bfloat16 contains NaN"),
    ],
)  # fmt: skip
def test_no_black_video_is_made_of_values_that_are_not_finite(
    checkpoint_copy, tmp_path, capsys, part, name, said
):
    folder = changed(checkpoint_copy, part, name)
    out = tmp_path / "out" / "video.mp4"
    arguments = ["--prompt", "A cat.", "--size", "64x96", "--frames", "5", "--steps", "2"]
    command = ["generate", "--model", str(folder), "--output", str(out), "--dtype", "float16"]
    assert main([*command, *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_the_remedy_for_values_out_of_range_works(checkpoint_copy):
    folder = changed(checkpoint_copy, "transformer", "proj_out.weight", 1e6)

    def run(dtype):
        model = Pipeline.load(folder, dtype=dtype, embedding_cache=False)
        return model.generate("A cat.", None, quick(steps=1, guidance_scale=1.0)).latents

    with pytest.raises(PrecisionError, match=r"in float16 contains .* --dtype float32"):
        run("float16")
    assert run("float32").isfinite().all()


def test_pixels_that_are_not_finite_are_named(checkpoint_copy):
    folder = changed(checkpoint_copy, "vae", "encoder.conv_out.bias", head=Head.INPAINT)
    model = Pipeline.load(folder, embedding_cache=False)
    said = "What the VAE encodes in float32 contains .* the weights contain such values or a LoRA"
    with pytest.raises(PrecisionError, match=said):
        model.generate("A cat.", ImageToVideo(start=pixels()), quick())


def test_a_plan_counts_the_vae_in_float32_and_what_is_repeated():
    facts, job = published_facts(V5_1, "7B", Head.INPAINT), Job(384, 672, 49)
    stages = {
        dtype: {
            stage.name: stage
            for stage in estimate(facts, job, Memory(), compute=dtype, on_card=True).stages
        }
        for dtype in (HALF, torch.bfloat16, torch.float32)
    }
    half, usual, full = (stages[dtype] for dtype in (HALF, torch.bfloat16, torch.float32))
    assert half["decode"].activations == full["decode"].activations > usual["decode"].activations
    assert half["denoise"].weights == usual["denoise"].weights
    assert half["denoise"].activations > usual["denoise"].activations
    # Casting what is stored in 16 bits gives the same values, so nothing is stored in 32.
    assert full["denoise"].weights == usual["denoise"].weights
    plan = choose(facts, job, Limits(24 * 10**9, 64 * 10**9), compute=HALF)
    assert plan.fits
