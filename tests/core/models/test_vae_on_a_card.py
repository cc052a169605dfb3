"""What the VAE asks of a card, by fake tensors: no card is needed and nothing computes."""

from collections import Counter

import pytest
import torch
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count

from easyanimate_core.memory.plan.live_memory import peak_bytes
from easyanimate_core.models.specs import VAEConfig
from easyanimate_core.models.vae import AutoencoderKLMagvit
from easyanimate_core.models.vae.model import CHUNK_BYTES, MOST_CHUNK_BYTES, chunk_bytes_within

#: Narrow, so that tracing is quick; the formats do not depend on the width.
CONFIG = {"block_out_channels": (32, 64, 128, 128), "layers_per_block": 1}
CUDA = torch.device("cuda")


class Formats(TorchDispatchMode):
    """Operations of convolutions by memory format, which cuDNN chooses by input and weight.

    Fake tensors follow a CPU there (ATen: `cudnn_conv_suggest_memory_format`).
    """

    def __init__(self):
        super().__init__()
        self.operations, self.copied = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            x, weight = args[:2]
            last = {4: torch.channels_last, 5: torch.channels_last_3d}[x.ndim]
            by_cudnn = last in (suggest_memory_format(x), suggest_memory_format(weight))
            form = last if by_cudnn else torch.contiguous_format
            count = conv_flop_count(list(x.shape), list(weight.shape), list(result.shape))
            self.operations["last" if by_cudnn else "first"] += count
            if not x.is_contiguous(memory_format=form):
                self.copied[tuple(x.shape)] += 1
            return result.contiguous(memory_format=form)
        return result


def traced(way, *, per_frame, dtype=torch.bfloat16, frames=5):
    config = VAEConfig(**CONFIG, spatial_group_norm=per_frame)
    with torch.inference_mode(False), torch.no_grad(), FakeTensorMode():
        vae = AutoencoderKLMagvit(config, dtype=dtype, device=CUDA)
        with Formats() as formats:
            if way == "encode":
                vae.encode(torch.empty(1, 3, frames, 64, 96, dtype=dtype, device=CUDA))
            else:
                latents = torch.empty(1, 16, 1 + frames // 4, 8, 12, dtype=dtype, device=CUDA)
                vae.decode(latents, chunk_bytes=1)
    return formats


@pytest.mark.parametrize("per_frame", [True, False], ids=["v5.1", "v5"])
@pytest.mark.parametrize("way", ["encode", "decode"])
def test_half_precision_is_computed_channels_last_all_the_way(way, per_frame):
    formats = traced(way, per_frame=per_frame)
    assert formats.operations["last"] > 0.999 * formats.operations.total()
    assert not [shape for shape in formats.copied if shape[1] > 16], "a convolution copies"


def test_single_precision_is_computed_as_on_a_cpu():
    """By sums of frames in two dimensions, the rest channels first: cuDNN has no better kernel."""
    formats = traced("decode", per_frame=True, dtype=torch.float32)
    assert 0 < formats.operations["first"] < 0.5 * formats.operations.total()


def test_a_chunk_is_what_free_memory_allows():
    assert chunk_bytes_within(0) == CHUNK_BYTES
    assert chunk_bytes_within(8 * 10**9) == 10**9
    assert chunk_bytes_within(80 * 10**9) == MOST_CHUNK_BYTES


@pytest.mark.parametrize(
    ("free", "dtype"),
    [(12, torch.bfloat16), (24, torch.bfloat16), (80, torch.bfloat16), (80, torch.float32)],
)
def test_a_longer_chunk_stays_within_free_memory(free, dtype):
    """And below 2^31 values, from where cuDNN has no kernels."""
    vae = AutoencoderKLMagvit(VAEConfig(), dtype=dtype, device="meta")
    size = 48, 84  # 384 x 672 pixels
    latents = torch.empty(1, 16, 5, *size, dtype=dtype, device="meta")
    limit = chunk_bytes_within(free * 10**9)
    length = vae.decode_chunk_length(latents, limit)
    assert length > 1
    values = 256 * (4 * length + 2) * 64 * size[0] * size[1]
    assert values < 2**31
    used = peak_bytes(lambda: vae.decode(latents, chunk_bytes=limit), [*vae.parameters(), latents])
    assert used * 1.1 < free * 10**9
