"""A LoRA file's names and values: the weights that the original has after merging it."""

import pytest
import torch
from safetensors.torch import save_file

from easyanimate_core.models.ops import ManualCast
from easyanimate_core.weights.files import read_tensor_files
from easyanimate_core.weights.lora import Lora, LoraSet, attached, matrix_shapes, merge_loras

TOLERANCE = 1e-5


@pytest.fixture
def recorded(parity, tmp_path):
    """The recording, with its denoiser and its LoRA as files."""
    fixture = parity.read("lora.safetensors")
    weights = parity.read(fixture.meta["transformer"]).weights()
    model, lora = tmp_path / "model.safetensors", tmp_path / "lora.safetensors"
    save_file(weights, model)
    save_file(fixture.group("lora"), lora)
    return weights, fixture.group("outputs"), model, Lora(lora, fixture.meta["strength"])


def test_merged_weights(recorded, assert_close):
    weights, expected, model, lora = recorded
    loras = LoraSet.read([lora], matrix_shapes(read_tensor_files(model)))
    assert {f"{module}.weight" for module in loras.modules} == set(expected)
    for module in loras.modules:
        name = f"{module}.weight"
        assert_close(weights[name] + loras.delta(module), expected[name], TOLERANCE, module)


def test_merged_file(recorded, assert_close, tmp_path):
    weights, expected, model, lora = recorded
    merge_loras(read_tensor_files(model), [lora], tmp_path / "merged.safetensors")
    merged = read_tensor_files(tmp_path / "merged.safetensors").map()
    assert set(merged) == set(weights)
    for name, weight in weights.items():
        if name in expected:
            assert_close(merged[name], expected[name], TOLERANCE, name)
        else:
            assert torch.equal(merged[name], weight)


def test_branches_beside_the_layers(recorded, assert_close):
    weights, expected, model, lora = recorded
    loras = LoraSet.read([lora], matrix_shapes(read_tensor_files(model)))
    network = torch.nn.Module()
    for module in loras.modules:
        parent = network
        *parents, child = module.split(".")
        for name in parents:
            if not hasattr(parent, name):
                setattr(parent, name, torch.nn.Module())
            parent = getattr(parent, name)
        outputs, inputs = weights[f"{module}.weight"].shape
        layer = ManualCast.Linear(inputs, outputs, bias=False)
        layer.weight = torch.nn.Parameter(weights[f"{module}.weight"])
        setattr(parent, child, layer)
    with attached(network, loras, device=torch.device("cpu"), dtype=torch.float32):
        for module in loras.modules:
            layer = network.get_submodule(module)
            columns = layer(torch.eye(layer.in_features)).T
            assert_close(columns, expected[f"{module}.weight"], TOLERANCE, module)
