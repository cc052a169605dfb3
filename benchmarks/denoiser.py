"""Time and memory of the denoiser compared to diffusers' class: same random weights, CPU.

    python benchmarks/denoiser.py [--json results.json] [--repeats 5] [--threads 2]

Four blocks of width 1024, 2,048 video and 256 text tokens, batch size 2, float32 and bfloat16. Half
of the blocks are MMDiT, as in the published 7B.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from measure import compare_networks, parser, peak_above, save
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.models.specs import LATENT_CHANNELS, TransformerConfig
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.weights.files.key_maps_transformer import to_original
from easyanimate_core.weights.loading import load_network

FIELDS = {
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "num_attention_heads": 16,
    "attention_head_dim": 64,
    "num_layers": 4,
    "mmdit_layers": 2,
    "patch_size": 2,
    "time_embed_dim": 512,
    "text_embed_dim": 3584,
    "add_norm_text_encoder": True,
}
LATENTS = (2, LATENT_CHANNELS, 2, 64, 64)  # 2 x 32 x 32 = 2,048 tokens
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(implementation: str, dtype: torch.dtype) -> torch.nn.Module:
    from diffusers import EasyAnimateTransformer3DModel as Reference

    torch.manual_seed(0)
    reference = Reference(**FIELDS).eval().to(dtype)
    if implementation == "diffusers":
        return reference
    weights = {to_original(name): tensor for name, tensor in reference.state_dict().items()}
    config = TransformerConfig(**FIELDS)
    return load_network(lambda: EasyAnimateTransformer3DModel(config), weights, what="denoiser")


def call(network: torch.nn.Module, dtype: torch.dtype) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(LATENTS, generator=generator).to(dtype)
    text = torch.randn(2, 256, 3584, generator=generator).to(dtype)
    timestep = torch.tensor([700.0, 700.0])
    if isinstance(network, EasyAnimateTransformer3DModel):
        return lambda: network(sample, timestep, text)
    return lambda: network(sample, timestep, encoder_hidden_states=text).sample


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        if arguments.measure:
            kind, name = arguments.measure
            run = call(load(kind, DTYPES[name]), DTYPES[name])
            print(peak_above(run, warm_up=run))
            return
        results = {}
        for name, dtype in DTYPES.items():
            calls = {kind: call(load(kind, dtype), dtype) for kind in ("ours", "diffusers")}
            results[name] = compare_networks(calls, __file__, name, arguments)
    save(arguments.json, arguments, results)


if __name__ == "__main__":
    main()
