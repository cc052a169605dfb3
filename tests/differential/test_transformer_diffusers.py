"""The denoiser against diffusers' class, weights copied through the key map in both directions."""

import pytest
import torch
from diffusers import EasyAnimateTransformer3DModel as Reference

from easyanimate_core.models.specs import TransformerConfig
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.weights.files.key_maps_transformer import to_diffusers, to_original
from easyanimate_core.weights.loading import load_network

TOLERANCE = 2e-5

CONFIGS = {
    "v5.1 7B shape": {"mmdit_layers": 1, "add_norm_text_encoder": True, "text_embed_dim_t5": None},
    "v5.1 12B shape": {"mmdit_layers": 9, "add_norm_text_encoder": True, "text_embed_dim_t5": None},
    "v5": {"mmdit_layers": 9, "add_norm_text_encoder": False, "text_embed_dim_t5": 24},
    "after norm": {
        "mmdit_layers": 1,
        "add_norm_text_encoder": True,
        "text_embed_dim_t5": None,
        "after_norm": True,
    },
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def networks(request):
    fields = {
        "in_channels": 33,
        "out_channels": 16,
        "num_attention_heads": 3,
        "attention_head_dim": 16,
        "num_layers": 3,
        "patch_size": 2,
        "time_embed_dim": 24,
        "text_embed_dim": 20,
    } | request.param
    torch.manual_seed(5)
    reference = Reference(**fields).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    config = TransformerConfig(**fields)
    weights = {to_original(name): tensor for name, tensor in reference.state_dict().items()}
    ours = load_network(lambda: EasyAnimateTransformer3DModel(config), weights, what="denoiser")
    return ours, reference


def inputs(config):
    generator = torch.Generator().manual_seed(6)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    text_t5 = draw(2, 5, config.text_embed_dim_t5) if config.text_embed_dim_t5 else None
    return {
        "sample": draw(2, 16, 3, 8, 6),
        "condition": draw(2, 17, 3, 8, 6),
        "timestep": torch.tensor([999.0, 3.0]),
        "text": draw(2, 7, config.text_embed_dim),
        "text_t5": text_t5,
    }


def project_text_in_shared_blocks(reference):
    """Undo a fault of diffusers in blocks without weights of their own for the text.

    The original projects the attention's output before it is split into text and video; diffusers
    splits first and then projects the video alone, so from the second shared block on its text
    tokens are other ones (the published 7B has 18 shared blocks).
    """
    for block in reference.transformer_blocks:
        if block.txt_ff is None:
            block.attn1.to_add_out = block.attn1.to_out[0]


def test_same_result(networks):
    ours, reference = networks
    project_text_in_shared_blocks(reference)
    given = inputs(ours.config)
    expected = reference(
        given["sample"],
        given["timestep"],
        encoder_hidden_states=given["text"],
        encoder_hidden_states_t5=given["text_t5"],
        inpaint_latents=given["condition"],
    ).sample
    actual = ours(
        given["sample"],
        given["timestep"],
        given["text"],
        text_t5=given["text_t5"],
        condition=given["condition"],
    )
    assert expected.abs().mean() > 0.01, "the comparison needs a result that is not zero"
    assert (actual - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_key_map_both_directions(networks):
    ours, reference = networks
    original, diffusers = set(ours.state_dict()), set(reference.state_dict())
    assert {to_diffusers(name) for name in original} == diffusers
    assert {to_original(name) for name in diffusers} == original
    for name in original:
        assert to_original(to_diffusers(name)) == name
        assert to_original(name) == name
    strict = {to_diffusers(name): tensor for name, tensor in ours.state_dict().items()}
    reference.load_state_dict(strict, strict=True)


@pytest.mark.parametrize("storage", [torch.bfloat16, torch.float16])
def test_low_precision_storage_computes_in_the_inputs_dtype(networks, storage):
    """Weights stored in half precision give the result of the same weights upcast."""
    ours, _ = networks
    given = inputs(ours.config)
    arguments = (given["sample"], given["timestep"], given["text"])
    options = {"text_t5": given["text_t5"], "condition": given["condition"]}
    stored = {name: tensor.to(storage) for name, tensor in ours.state_dict().items()}
    upcast = {name: tensor.float() for name, tensor in stored.items()}

    def build():
        return EasyAnimateTransformer3DModel(ours.config)

    low = load_network(build, stored, what="denoiser")(*arguments, **options)
    full = load_network(build, upcast, what="denoiser")(*arguments, **options)
    assert low.dtype == torch.float32
    assert torch.equal(low, full)
