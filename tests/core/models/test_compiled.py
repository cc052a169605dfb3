"""Compiled blocks: the same values, one graph per kind of block, at every size and placement."""

from contextlib import ExitStack

import pytest
import torch
from safetensors.torch import save_file
from torch._dynamo.utils import counters

from easyanimate_core.cli.main import main
from easyanimate_core.memory.offload import placed
from easyanimate_core.memory.options import Kernels
from easyanimate_core.models.specs import LATENT_CHANNELS, Head
from easyanimate_core.models.transformer import choice, compiled
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.loading import load_transformer
from easyanimate_core.weights.lora import Lora, LoraSet, attached, matrix_shapes
from tests.factories import V5_1, quick

CPU = torch.device("cpu")
#: Latent frames, height, width; and batch and text tokens.
SIZES = [((2, 8, 12), 2, 6), ((1, 8, 8), 3, 6), ((5, 10, 6), 2, 9), ((2, 8, 12), 2, 6)]
ALONE = [((2, 8, 12), 1, 6), ((3, 8, 8), 1, 9)]


@pytest.fixture
def info(checkpoint):
    return inspect_checkpoint(checkpoint(V5_1, Head.T2V))


@pytest.fixture
def lora(info, tmp_path):
    """A LoRA on one layer of every block."""
    shapes, tensors = matrix_shapes(info.transformer_files.weights), {}
    for name, (outputs, inputs) in shapes.items():
        if name.endswith("attn1.to_q"):
            rank = 3
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, inputs)
            tensors[f"{name}.lora_B.weight"] = torch.randn(outputs, rank)
    save_file(tensors, tmp_path / "lora.safetensors")
    return LoraSet.read([Lora(tmp_path / "lora.safetensors")], shapes)


def outputs(network, attention, sizes):
    for (frames, height, width), batch, tokens in sizes:
        generator = torch.Generator().manual_seed(frames)
        shape = (batch, LATENT_CHANNELS, frames, height, width)
        text = torch.randn(batch, tokens, network.config.text_embed_dim, generator=generator)
        sample = torch.randn(shape, generator=generator)
        for step in (900.0, 500.0):
            yield network(sample, torch.full((batch,), step), text, attention=attention)


@pytest.mark.parametrize(
    ("how", "quantization", "with_lora"),
    [
        ("resident", "none", False),
        ("block", "qint8", True),
        pytest.param("block", "qint4", True, marks=pytest.mark.campaign),
    ],
)
@pytest.mark.slow
def test_a_graph_for_each_kind_of_block(info, lora, how, quantization, with_lora):
    network = load_transformer(info, dtype=torch.float32, quantization=quantization)
    attention = choice._KERNELS["cudnn"]
    torch._dynamo.reset()
    counters.clear()
    with ExitStack() as stack:
        stack.enter_context(placed(network, CPU, how))
        if with_lora:
            stack.enter_context(attached(network, lora, device=CPU, dtype=torch.float32))
        for sizes, graphs in ((SIZES, 2), (SIZES, 2), (ALONE, 4)):  # a batch of 1 has its own
            wanted = list(outputs(network, attention, sizes))
            with compiled(network.transformer_blocks, backend="eager"):
                made = outputs(network, attention, sizes)
                for found, expected in zip(made, wanted, strict=True):
                    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]
    assert not any("forward" in vars(block) for block in network.transformer_blocks)


@pytest.mark.slow
def test_a_lora_that_comes_and_goes(info, lora):
    network, attention = load_transformer(info, dtype=torch.float32), choice._KERNELS["flash"]

    def found(*, with_lora):
        with ExitStack() as stack:
            if with_lora:
                stack.enter_context(attached(network, lora, device=CPU, dtype=torch.float32))
            return next(outputs(network, attention, SIZES))

    wanted = {on: found(with_lora=on) for on in (True, False)}
    assert (wanted[True] - wanted[False]).abs().max() > 0.01
    torch._dynamo.reset()
    with compiled(network.transformer_blocks, backend="eager"):
        for on in (True, False, True, False):
            torch.testing.assert_close(found(with_lora=on), wanted[on], rtol=1e-5, atol=1e-5)


@pytest.mark.campaign
def test_a_video_is_compiled(info):
    """With PyTorch's real compiler, through the pipeline."""
    plain = Pipeline.load(info.path).generate("x", settings=quick())
    pipeline = Pipeline.load(info.path, kernels=Kernels(compile=True))
    found = pipeline.generate("x", settings=quick())
    apart = (found.latents - plain.latents).abs().max() / plain.latents.abs().max()
    assert apart < 1e-4


def test_without_a_compiler(info, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    torch._inductor.config.cpp.cxx, before = (
        (None, "no-such-compiler"),
        torch._inductor.config.cpp.cxx,
    )
    try:
        code = main(["generate", "--model", str(info.path), "--prompt", "x", "--compile",
                     "--output", str(tmp_path / "x.mp4")])  # fmt: skip
    finally:
        torch._inductor.config.cpp.cxx = before
    assert code != 0
    assert "needs a C++ compiler" in capsys.readouterr().err
    assert not list(tmp_path.glob("x*"))
