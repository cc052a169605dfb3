"""Full-size shapes and the detection of heads and versions."""

import json
from dataclasses import replace

import pytest
import torch

from easyanimate_core.errors import CheckpointError
from easyanimate_core.models.specs import Head, TransformerConfig, VAEConfig, Version
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.weights.files.detect import transformer_config_fields
from easyanimate_core.weights.files.tensor_files import TensorInfo
from tests.conftest import SHARED

FULL_SIZE = sorted((SHARED / "full_size").glob("*-*[!e].json"))

needs_full_size = pytest.mark.skipif(
    not FULL_SIZE, reason=f"{SHARED / 'full_size'} with the full-size tensor lists is not there"
)


def shapes_of(network):
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


@needs_full_size
@pytest.mark.parametrize(
    "file", [f for f in FULL_SIZE if "vae" not in f.name], ids=lambda f: f.stem
)
def test_every_full_size_tensor(file):
    stated = json.loads(file.read_text())
    config = TransformerConfig.from_dict(stated["config"])
    network = EasyAnimateTransformer3DModel(config, device="meta")
    assert shapes_of(network) == stated["tensors"]
    assert sum(p.numel() for p in network.parameters()) == stated["parameters"]


@needs_full_size
@pytest.mark.parametrize(
    "file", [f for f in FULL_SIZE if "vae" not in f.name], ids=lambda f: f.stem
)
def test_config_from_tensors_alone(file):
    stated = json.loads(file.read_text())
    config = TransformerConfig.from_dict(stated["config"])
    infos = {
        name: TensorInfo(file, "BF16", tuple(shape), name)
        for name, shape in stated["tensors"].items()
    }
    for name, value in transformer_config_fields(infos).items():
        expected = config.num_mmdit_layers if name == "mmdit_layers" else getattr(config, name)
        assert value == expected, name


@pytest.mark.parametrize(
    ("channels", "head", "reference"),
    [
        (16, Head.T2V, False),
        (33, Head.INPAINT, False),
        (32, Head.CONTROL, False),
        (48, Head.CONTROL, True),
        (22, Head.CAMERA, False),
        (38, Head.CAMERA, True),
    ],
)
def test_head_from_channels(channels, head, reference):
    config = TransformerConfig(in_channels=channels)
    assert config.head is head
    assert config.has_reference is reference


def test_unknown_number_of_channels_is_refused():
    with pytest.raises(CheckpointError, match="head has 20 input channels"):
        TransformerConfig(in_channels=20).head  # noqa: B018


def test_version_from_text_encoders():
    config = TransformerConfig(in_channels=16)
    assert config.version is Version.V5_1
    assert replace(config, text_embed_dim_t5=2048).version is Version.V5


@pytest.mark.parametrize(
    ("field", "value"),
    [("ref_channels", 16), ("swa_layers", [1]), ("time_position_encoding_type", "2d_rope")],
)
def test_other_models_are_refused(field, value):
    with pytest.raises(CheckpointError, match=field):
        TransformerConfig.from_dict({"in_channels": 16, field: value})


def test_vae_config_of_the_original_without_spatial_norm_is_v5():
    assert VAEConfig.from_dict({"cache_mag_vae": True}).spatial_group_norm is False
    assert VAEConfig.from_dict({}).spatial_group_norm is True  # diffusers' default
    with pytest.raises(CheckpointError, match="cache_mag_vae"):
        VAEConfig.from_dict({"cache_mag_vae": False})


def test_compute_dtype_follows_the_input():
    """A layer norm over float32 input with bfloat16 weights raises in plain PyTorch."""
    config = TransformerConfig(
        in_channels=16, num_attention_heads=2, attention_head_dim=16, num_layers=1,
        mmdit_layers=1, time_embed_dim=8, text_embed_dim=8,
    )  # fmt: skip
    network = EasyAnimateTransformer3DModel(config, dtype=torch.bfloat16)
    for parameter in network.parameters():
        torch.nn.init.ones_(parameter)
    out = network(torch.zeros(1, 16, 1, 4, 4), torch.tensor([1.0]), torch.zeros(1, 3, 8))
    assert out.dtype == torch.float32
