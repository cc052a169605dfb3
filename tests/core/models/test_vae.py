"""Properties of the VAE that need no reference: tiny networks with random weights."""

import json

import pytest
import torch
import torch.nn.functional as F

from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.models.ops import ManualCast
from easyanimate_core.models.specs import VAEConfig
from easyanimate_core.models.vae import AutoencoderKLMagvit, Posterior
from easyanimate_core.models.vae.causal_conv import History, causal_conv3d, convolve
from tests.conftest import SHARED

TINY = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "layers_per_block": 1}


def fill(module, seed=0):
    """Random values for layers that are built without any."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                noise = noise * 0.1 + (1 if name.endswith("weight") else 0)
            else:
                noise = noise / parameter[0].numel() ** 0.5
            parameter.copy_(noise)
    return module


def tiny(spatial_group_norm=True, **fields):
    config = VAEConfig(**TINY, spatial_group_norm=spatial_group_norm, **fields)
    return fill(AutoencoderKLMagvit(config))


def clip(frames=9, height=16, width=24, batch=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, frames, height, width, generator=generator) * 2 - 1


versions = pytest.mark.parametrize("per_frame", [True, False], ids=["v5.1", "v5"])


def test_full_size_names_and_shapes():
    path = SHARED / "full_size" / "v5.1-vae.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    published = json.loads(path.read_text())
    vae = AutoencoderKLMagvit(VAEConfig.from_dict(published["config"]), device="meta")
    shapes = {name: list(tensor.shape) for name, tensor in vae.state_dict().items()}
    assert shapes == published["tensors"]
    assert sum(p.numel() for p in vae.parameters()) == published["parameters"]


def test_every_parameter_lies_in_a_layer_of_the_namespace():
    class Operations(ManualCast):
        class Conv3d(ManualCast.Conv3d):
            pass

        class GroupNorm(ManualCast.GroupNorm):
            pass

    vae = AutoencoderKLMagvit(VAEConfig(**TINY), operations=Operations, device="meta")
    owners = [
        module for module in vae.modules() if next(module.parameters(False), None) is not None
    ]
    assert owners
    assert all(isinstance(owner, (Operations.Conv3d, Operations.GroupNorm)) for owner in owners)


@versions
def test_encode_is_causal(per_frame):
    vae, video = tiny(per_frame), clip()
    first, whole = vae.encode(video[:, :, :1]), vae.encode(video)
    torch.testing.assert_close(whole.mean[:, :, :1], first.mean, rtol=0, atol=1e-5)
    changed = video.clone()
    changed[:, :, 5:] = 0
    torch.testing.assert_close(
        vae.encode(changed).mean[:, :, :2], whole.mean[:, :, :2], rtol=0, atol=1e-5
    )
    assert (vae.encode(changed).mean[:, :, 2] - whole.mean[:, :, 2]).abs().max() > 1e-3


@versions
def test_decode_is_causal(per_frame):
    vae = tiny(per_frame)
    latents = vae.encode(clip()).mode()
    whole = vae.decode(latents)
    assert whole.shape == (1, 3, 9, 16, 24)
    torch.testing.assert_close(vae.decode(latents[:, :, :1]), whole[:, :, :1], rtol=0, atol=1e-5)


def test_v51_does_not_depend_on_the_chunk_length():
    short, long = tiny(), tiny(mini_batch_encoder=16)
    video = clip(frames=17)
    latents = short.encode(video).mean
    torch.testing.assert_close(long.encode(video).mean, latents, rtol=0, atol=1e-5)
    whole, single = long.decode(latents), short.decode(latents, chunk_bytes=1)
    torch.testing.assert_close(whole, single, rtol=0, atol=1e-5)


def test_v5_depends_on_the_chunk_length():
    short, long = tiny(False), tiny(False, mini_batch_encoder=8, mini_batch_decoder=2)
    video = clip()
    latents = short.encode(video).mean
    assert (long.encode(video).mean - latents).abs().max() > 1e-3
    assert (long.decode(latents) - short.decode(latents)).abs().max() > 1e-3


@versions
def test_a_batch_of_two_equals_two_singles(per_frame):
    vae, video = tiny(per_frame), clip(batch=2)
    both = vae.encode(video).mean
    singles = torch.cat([vae.encode(one).mean for one in video.split(1)])
    torch.testing.assert_close(both, singles, rtol=0, atol=1e-5)
    decoded = torch.cat([vae.decode(one) for one in both.split(1)])
    torch.testing.assert_close(vae.decode(both), decoded, rtol=0, atol=1e-5)


@versions
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_plain_way_of_other_dtypes_agrees(per_frame, dtype):
    """float32 is computed by sums of taps and frames, every other dtype by plain convolutions."""
    vae, video = tiny(per_frame), clip()
    tolerance = 1e-5 if dtype == torch.float64 else 0.3
    expected = vae.encode(video)
    actual = vae.encode(video.to(dtype))
    assert actual.mean.dtype == dtype
    torch.testing.assert_close(actual.mean.float(), expected.mean, rtol=0, atol=tolerance)
    decoded = vae.decode(expected.mean.to(dtype))
    assert decoded.dtype == dtype
    torch.testing.assert_close(decoded.float(), vae.decode(expected.mean), rtol=0, atol=tolerance)


def test_bfloat16_storage_computes_in_the_inputs_dtype():
    vae, video = tiny(), clip()
    rounded = tiny()
    for parameter in rounded.parameters():
        parameter.copy_(parameter.bfloat16())
    expected = rounded.decode(rounded.encode(video).mean)
    stored = vae.to(torch.bfloat16)
    actual = stored.decode(stored.encode(video).mean)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"repeats": True}, {"enlarges": True}, {"stride": (2, 2, 2)}]
)
def test_convolution_matches_its_definition(options):
    conv = fill(causal_conv3d(ManualCast)(4, 6, dtype=None, device=None, **options))
    x = torch.randn(2, 4, 9, 8, 6, generator=torch.Generator().manual_seed(2))
    history = History()
    actual = torch.cat(
        [convolve(conv, x[:, :, c], history) for c in (slice(1), slice(1, 5), slice(5, 9))], 2
    )

    if options.get("repeats"):
        x = torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(2, dim=2)], dim=2)
    if options.get("enlarges"):
        x = F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest")
    padded = torch.cat([x[:, :, :1], x[:, :, :1], x], dim=2)
    expected = F.conv3d(padded, conv.weight, conv.bias, conv.stride, conv.padding)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@torch.inference_mode(False)
def test_gradients_flow():
    with torch.enable_grad():
        vae, video = tiny(), clip(frames=5)
        vae.decode(vae.encode(video).mean).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())


def test_a_run_leaves_nothing_on_the_modules():
    vae, video = tiny(), clip()
    before = {name: set(vars(module)) for name, module in vae.named_modules()}
    first = vae.encode(video).mean
    assert {name: set(vars(module)) for name, module in vae.named_modules()} == before
    assert torch.equal(vae.encode(video).mean, first)


def test_posterior_sample_is_seeded_and_has_the_stated_spread():
    mean = torch.full((1, 1, 1, 100, 100), 2.0)
    posterior = Posterior(mean, torch.full_like(mean, 2 * torch.log(torch.tensor(0.5)).item()))
    one = posterior.sample(torch.Generator().manual_seed(3))
    assert torch.equal(one, posterior.sample(torch.Generator().manual_seed(3)))
    assert one.mean().item() == pytest.approx(2, abs=0.03)
    assert one.std().item() == pytest.approx(0.5, abs=0.03)
    assert posterior.mode() is mean


def test_progress_counts_the_chunks():
    vae, calls = tiny(), []
    latents = vae.encode(clip(), progress=lambda *call: calls.append(call)).mean
    vae.decode(latents, chunk_bytes=1, progress=lambda *call: calls.append(call))
    assert calls == [(stage, i, 3) for stage in ("encode", "decode") for i in (1, 2, 3)]
    calls.clear()
    vae.decode(latents, progress=lambda *call: calls.append(call))
    assert calls == [("decode", 1, 2), ("decode", 2, 2)], "small frames are decoded together"


def test_progress_cancels_by_raising():
    class CancelledError(Exception):
        pass

    def cancel(*call):
        if call[1] == 2:
            raise CancelledError

    vae = tiny()
    with pytest.raises(CancelledError):
        vae.encode(clip(), progress=cancel)
    with pytest.raises(CancelledError):
        vae.decode(vae.encode(clip()).mean, progress=cancel)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 3, 4, 16, 16), "frames is 4"),
        ((1, 3, 5, 20, 16), "height is 20"),
        ((1, 3, 5, 16, 12), "width is 12"),
        ((1, 4, 5, 16, 16), "3 channels"),
        ((3, 5, 16, 16), "5 dimensions"),
    ],
)
def test_encode_refuses_bad_shapes(shape, words):
    with pytest.raises(InputError, match=words):
        tiny().encode(torch.zeros(shape))


def test_decode_refuses_bad_shapes():
    with pytest.raises(InputError, match="16 channels"):
        tiny().decode(torch.zeros(1, 3, 1, 2, 2))
    with pytest.raises(InputError, match="at least"):
        tiny().decode(torch.zeros(1, 16, 0, 2, 2))


def test_impossible_configurations_are_refused():
    with pytest.raises(CheckpointError, match="3 block_out_channels"):
        AutoencoderKLMagvit(VAEConfig(block_out_channels=(8, 8, 8)), device="meta")
    with pytest.raises(CheckpointError, match="mini_batch_encoder is 6"):
        AutoencoderKLMagvit(VAEConfig(**TINY, mini_batch_encoder=6), device="meta")
