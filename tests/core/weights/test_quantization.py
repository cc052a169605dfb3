"""Weights in 8 and 4 bits: their sizes and errors, alone, while loading, and in whole runs."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.memory.offload import parts_of, rebuilt
from easyanimate_core.memory.options import Memory
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.text import build_text_encoder
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.loading import load_transformer
from easyanimate_core.weights.stored import (
    QuantizedLinear,
    dequantized,
    linear,
    may_be_quantized,
    pieces,
    plain_tensors,
    quantize,
    quantized_from_values,
    stored_bytes,
)
from tests.factories import V5, V5_1, quick

KINDS = ("qfloat8", "qint8", "qint4")
#: Relative RMS error of a random matrix, and of what a tiny network makes with such matrices:
#: about a third above what was measured.
WEIGHT_ERROR = {"qfloat8": 0.030, "qint8": 0.010, "qint4": 0.11}
OUTPUT_ERROR = {"qfloat8": 0.030, "qint8": 0.006, "qint4": 0.13}
TEXT_ERROR = {
    V5: {"qfloat8": 0.065, "qint8": 0.02, "qint4": 0.2},
    V5_1: {"qfloat8": 0.17, "qint8": 0.035, "qint4": 0.5},
}


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch):
    """Most people's systems have none, and quanto compiles at the first use of an extension."""
    from optimum.quanto.library.extensions.extension import Extension

    def compiled(extension):
        raise RuntimeError(f"{extension.name} cannot be compiled: there is no compiler")

    monkeypatch.setattr(Extension, "lib", property(compiled))


def matrix(outputs=64, inputs=256, seed=0):
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)).bfloat16()


def relative(found, wanted):
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


def values_of(network):
    """Copies of all that a network's parameters consist of, as bytes."""
    return {
        (name, index): tensor.contiguous().view(torch.uint8).clone()
        for name, parameter in network.named_parameters()
        for index, tensor in enumerate(plain_tensors(parameter))
    }


# A weight


@pytest.mark.parametrize("kind", KINDS)
def test_size_and_error_of_a_weight(kind):
    weight = matrix()
    quantized = quantize(weight, kind)
    outputs, inputs = weight.shape
    expected = {
        "qfloat8": outputs * inputs + 4 * outputs,
        "qint8": outputs * inputs + 4 * outputs,
        "qint4": outputs * inputs // 2 + 8 * outputs * inputs // 128,
    }
    assert sum(tensor.nbytes for tensor in plain_tensors(quantized)) == expected[kind]
    assert quantized.shape == weight.shape
    assert 0.3 * WEIGHT_ERROR[kind] < relative(dequantized(quantized), weight) < WEIGHT_ERROR[kind]


@pytest.mark.parametrize("kind", ["qint8", "qint4"])
def test_integers_are_rounded_to_the_nearest(kind):
    weight = matrix()
    error = (dequantized(quantize(weight, kind)) - weight.float()).abs()
    if kind == "qint8":
        step = weight.float().abs().amax(dim=1, keepdim=True) / 127
    else:
        groups = weight.float().view(64, 2, 128)
        step = (groups.amax(dim=2) - groups.amin(dim=2)) / 15
        error, step = error.view(64, 2, 128), step[..., None]
    assert (error <= step / 2 * 1.0001).all()


def test_float8_keeps_three_bits_behind_the_first():
    weight = matrix().float()
    error = (dequantized(quantize(weight, "qfloat8")) - weight).abs()
    smallest = weight.abs().amax(dim=1, keepdim=True) / 448 * 2**-10  # half a subnormal step
    assert (error <= torch.maximum(weight.abs() * 2**-4, smallest) * 1.0001).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_weight_in_parts_is_the_same(kind, monkeypatch):
    weight = matrix(outputs=33)
    whole = quantize(weight, kind)
    monkeypatch.setattr(pieces, "PIECE_VALUES", 1000)
    parts = quantize(weight, kind)
    for one, other in zip(plain_tensors(whole), plain_tensors(parts), strict=True):
        assert torch.equal(one.view(torch.uint8), other.view(torch.uint8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_finite_is_named(kind, value, checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V)
    file = folder / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    name = "transformer_blocks.0.attn1.to_q.weight"
    tensors[name][3, 5] = value
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=f"{name} cannot be quantised. It contains NaN"):
        load_transformer(inspect_checkpoint(folder), quantization=kind)


@pytest.mark.parametrize(
    ("width", "group"),
    [(32, 32), (100, 100), (128, 128), (160, 32), (192, 96), (320, 64), (384, 128)],
)
def test_groups_of_qint4(width, group):
    _, scale, _ = plain_tensors(quantize(matrix(inputs=width), "qint4"))
    assert scale.numel() == 64 * width // group


@pytest.mark.parametrize("outputs", [1, 7, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_quantos_own(kind, outputs):
    from optimum.quanto import AbsmaxOptimizer, MaxOptimizer, qtypes, quantize_weight

    weight, qtype = matrix(outputs, 160).float(), qtypes[kind]
    if kind == "qint4":
        scale, shift = MaxOptimizer()(weight, qtype=qtype, axis=0, group_size=32)
        theirs = quantize_weight(weight, qtype, 0, scale, shift, 32)
    else:
        theirs = quantize_weight(weight, qtype, 0, AbsmaxOptimizer()(weight, qtype=qtype, axis=0))
    mine = quantize(weight, kind)
    assert type(mine) is type(theirs)
    for one, other in zip(plain_tensors(mine), plain_tensors(theirs), strict=True):
        assert torch.equal(*(part.reshape(-1).view(torch.uint8) for part in (one, other)))


@pytest.mark.parametrize("outputs", [7, 64])
@pytest.mark.parametrize("inputs", [100, 160, 256])
def test_four_bits_are_unpacked_as_quanto_unpacks_them(outputs, inputs):
    weight = quantize(matrix(outputs, inputs), "qint4")
    packed, scale, shift = plain_tensors(weight)
    values = torch.cat([packed % 16, packed // 16])[: len(scale)]
    expected = (scale * values - shift).reshape(outputs, inputs)
    assert torch.equal(dequantized(weight), expected)
    for copy in (
        weight,
        weight.detach(),
        weight.to("cpu", copy=True),
        rebuilt(weight, iter(parts_of(weight))),
    ):
        assert torch.equal(copy.dequantize(), expected)  # what quanto falls back to


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [*KINDS, "qfloat8_e5m2"])
def test_dequantizing_rounds_once(kind, dtype):
    """On a CPU (in parts) and on a card (at once) the bits are those of float32, rounded."""
    weight = matrix(300, 512) * 0.03
    if kind == "qfloat8_e5m2":  # which only files have
        stored = quantized_from_values((weight * 1e4).to(torch.float8_e5m2), torch.tensor(0.7e-4))
    else:
        stored = quantize(weight, kind)
    values, scale, *shift = plain_tensors(stored)
    if shift:
        values = torch.cat([values & 15, values >> 4])
        expected = (values.float() * scale - shift[0]).to(dtype)
        found = linear._shifted_at_once(values, scale, shift[0], dtype)
    else:
        expected = (values.float() * scale).to(dtype)
        found = linear._scaled_at_once(values, scale, dtype)
    assert torch.equal(found, expected)
    whole = dequantized(stored, dtype)
    assert torch.equal(whole, expected.reshape(whole.shape))


def test_quanto_comes_without_its_models_and_still_has_them():
    code = """
import sys
from easyanimate_core.weights.stored.quanto import quanto
quanto()
assert not {"transformers", "diffusers", "optimum.quanto.models"} & set(sys.modules)
from optimum.quanto import QuantizedTransformersModel, qint8
import optimum.quanto
assert not hasattr(optimum.quanto, "no_such_name")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_a_range(kind):
    weight = matrix()
    weight[0], weight[1] = 0, 3
    found = dequantized(quantize(weight, kind))
    assert torch.equal(found[0], torch.zeros(256))
    assert (found[1] - 3).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
@pytest.mark.parametrize("shape", [(), (1,), (8,), (8, 1)])
def test_stored_values_are_not_rounded_again(dtype, shape):
    values = (matrix(8, 32).float() * 20).to(dtype)
    scale = torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.1
    found = quantized_from_values(values, scale)
    rows = scale.view(-1, 1) if scale.numel() == 8 else scale
    assert torch.equal(dequantized(found), values.float() * rows)
    assert next(plain_tensors(found)).data_ptr() == values.data_ptr()


def test_stored_values_that_are_none():
    with pytest.raises(CheckpointError, match=r"Stored values are torch.float32"):
        quantized_from_values(torch.zeros(4, 4), torch.ones(()))
    with pytest.raises(CheckpointError, match=r"\(4, 6\) has the shape \(6,\)"):
        quantized_from_values(torch.zeros(4, 6, dtype=torch.int8), torch.ones(6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_computes_in_the_inputs_dtype(kind, dtype):
    layer = QuantizedLinear(256, 64)
    layer.weight = torch.nn.Parameter(quantize(matrix(), kind), requires_grad=False)
    layer.bias.data = torch.randn(64, generator=torch.Generator().manual_seed(2))
    x = matrix(3, seed=3).to(dtype)
    found = layer(x)
    assert found.dtype == dtype
    assert torch.equal(
        found, F.linear(x, dequantized(layer.weight).to(dtype), layer.bias.to(dtype))
    )
    moved = layer.to("meta")
    assert {part.device.type for part in plain_tensors(moved.weight)} == {"meta"}


# A network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [V5, V5_1])
def test_only_large_matrices_are_quantized(checkpoint, version, kind):
    info = inspect_checkpoint(checkpoint(version, Head.T2V))
    plain = load_transformer(info)
    network = load_transformer(info, quantization=kind)
    again = load_transformer(info, quantization=kind)
    stored = dict(plain.named_parameters())
    chosen = set()
    for name, parameter in network.named_parameters():
        if type(parameter.data) is torch.Tensor:
            assert torch.equal(parameter, stored[name]), name
            assert parameter.dtype == torch.bfloat16
        else:
            chosen.add(name)
    assert chosen == {name for name in stored if may_be_quantized(name, stored[name].shape)}
    assert len(chosen) > 20
    first, second = values_of(network), values_of(again)
    assert all(torch.equal(first[key], second[key]) for key in first)
    kept = sum(stored[name].nbytes for name in set(stored) - chosen)
    smaller = stored_bytes(network) - kept
    assert smaller < {"qint4": 0.40}.get(kind, 0.57) * (stored_bytes(plain) - kept)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_quantized_run(checkpoint, kind, dtype):
    folder = checkpoint(V5_1, Head.T2V)
    plain = Pipeline.load(folder, dtype=dtype).generate("A dog.", settings=quick()).latents
    pipeline = Pipeline.load(folder, dtype=dtype, memory=Memory(quantization=kind))
    first = pipeline.generate("A dog.", settings=quick())
    before = values_of(pipeline._networks._transformer)
    second = pipeline.generate("A dog.", settings=quick())
    after = values_of(pipeline._networks._transformer)
    assert torch.equal(first.latents, second.latents)
    assert all(torch.equal(before[key], after[key]) for key in before)
    rounding = 0.03 if dtype == "bfloat16" else 0.0
    assert 1e-4 < relative(first.latents, plain) < OUTPUT_ERROR[kind] + rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [V5, V5_1])
def test_a_quantized_text_encoder(checkpoint, version, kind, dtype):
    folder, how = checkpoint(version, Head.T2V), {"use_attention_mask": True, "dtype": dtype}
    plain = build_text_encoder(folder, version, **how)
    encoder = build_text_encoder(folder, version, quantization=kind, **how)
    for network, original in zip(encoder.networks, plain.networks, strict=True):
        linear = {n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)}
        stored = dict(original.named_parameters())
        for name, parameter in network.named_parameters():
            if name.removesuffix(".weight") in linear and name.endswith(".weight"):
                assert type(parameter.data) is not torch.Tensor, name
            else:
                assert torch.equal(parameter, stored[name]), name
    found, wanted = encoder.encode(["a red fox", ""]), plain.encode(["a red fox", ""])
    rounding = {torch.float32: 0.0, torch.bfloat16: 0.02, torch.float16: 0.002}[dtype]
    pairs = [(found.text, wanted.text)]
    if version is V5:
        pairs.append((found.text_t5, wanted.text_t5))
    for states, expected in pairs:
        assert states.dtype == expected.dtype
        assert relative(states, expected) < TEXT_ERROR[version][kind] + rounding


def test_an_unknown_kind_is_refused():
    with pytest.raises(
        InputError, match=r"quantization is 'int3'; it must be one of none, qfloat8"
    ):
        Memory(quantization="int3")


_PEAK = """
import json, sys, threading
from pathlib import Path
import torch
import optimum.quanto
from safetensors.torch import save_file
from easyanimate_core.weights.loading import load_network
from easyanimate_core.weights.files import read_tensor_files
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.weights.stored import Quantizer, quantize, stored_bytes
from easyanimate_core.models.specs import TransformerConfig

def anonymous():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024

config = TransformerConfig(
    in_channels=16, out_channels=16, num_attention_heads=16, attention_head_dim=64, num_layers=12,
    mmdit_layers=8, time_embed_dim=512, text_embed_dim=3584, add_norm_text_encoder=True,
)
build = lambda: EasyAnimateTransformer3DModel(config)
file = Path(sys.argv[1]) / "large.safetensors"
if sys.argv[2] == "write":
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build().state_dict().items()}
    save_file({n: torch.full(s, 0.5, dtype=torch.bfloat16) for n, s in shapes.items()}, file)
    sys.exit()
quantize(torch.randn(64, 256), sys.argv[2])  # one-time buffers
before, peak, done = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, anonymous())

thread = threading.Thread(target=watch)
thread.start()
files = read_tensor_files(file)
network = load_network(build, files.map(), what="denoiser", quantizer=Quantizer(sys.argv[2]))
done.set()
thread.join()
plain = sum(p.nbytes for p in network.parameters() if type(p.data) is torch.Tensor)
print(json.dumps({
    "peak": peak - before, "kept": stored_bytes(network) - plain, "plain": plain,
    "largest": max(info.numel * 2 for info in files.values()), "file": file.stat().st_size,
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_a_network_is_quantized_while_it_is_loaded(tmp_path):
    import json

    def run(what):
        command = [sys.executable, "-c", _PEAK, str(tmp_path), what]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    run("write")
    for kind in ("qint8", "qint4"):
        found = json.loads(run(kind))
        assert found["file"] > 600e6
        assert found["kept"] < {"qint8": 0.42, "qint4": 0.24}[kind] * found["file"]
        fixed = 256 * 2**20  # the allocator keeps arenas of the threads that round
        assert found["plain"] < 0.25 * found["file"]
        assert found["peak"] <= found["kept"] + found["plain"] + found["largest"] + fixed, found
