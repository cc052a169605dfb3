"""Time and memory of the VAE compared to diffusers': same random weights, full width, float32.

    python benchmarks/vae.py [--json results.json] [--repeats 5] [--threads 2] [--shape 9 96 96]

Time: median of alternating repeats in one process. Memory: peak resident size in addition to that
with the model and its input loaded, each measured in a separate process (Linux only).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from measure import compare_networks, parser, peak_above, save
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.models.specs import LATENT_CHANNELS, VAEConfig
from easyanimate_core.models.vae import AutoencoderKLMagvit
from easyanimate_core.weights.loading import load_network

WAYS = ("encode", "decode")


def load(implementation: str) -> torch.nn.Module:
    from diffusers import AutoencoderKLMagvit as Reference

    torch.manual_seed(0)
    reference = Reference().eval()
    if implementation == "diffusers":
        return reference
    weights = reference.state_dict()
    return load_network(lambda: AutoencoderKLMagvit(VAEConfig()), weights, what="VAE")


def call(vae: torch.nn.Module, way: str, shape: tuple[int, int, int]) -> Callable[[], Tensor]:
    frames, height, width = shape
    generator = torch.Generator().manual_seed(1)
    ours = isinstance(vae, AutoencoderKLMagvit)
    if way == "encode":
        video = torch.rand(1, 3, frames, height, width, generator=generator) * 2 - 1
        return lambda: vae.encode(video).mean if ours else vae.encode(video).latent_dist.mean
    size = ((frames - 1) // 4 + 1, height // 8, width // 8)
    latents = torch.randn(1, LATENT_CHANNELS, *size, generator=generator)
    return lambda: vae.decode(latents) if ours else vae.decode(latents).sample


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--shape", type=int, nargs=3, default=[9, 96, 96], metavar="N")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        if arguments.measure:
            kind, way = arguments.measure
            vae = load(kind)
            run = call(vae, way, tuple(arguments.shape))
            print(peak_above(run, warm_up=call(vae, way, (1, 16, 16))))
            return
        networks = {kind: load(kind) for kind in ("ours", "diffusers")}
        results = {}
        for way in WAYS:
            calls = {k: call(vae, way, tuple(arguments.shape)) for k, vae in networks.items()}
            results[way] = compare_networks(calls, __file__, way, arguments)
    save(arguments.json, arguments, results)


if __name__ == "__main__":
    main()
