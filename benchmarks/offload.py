"""Time and memory of the denoiser with each placement, on a CUDA device.

    python benchmarks/offload.py [--json results.json] [--blocks 8] [--repeats 5]

Blocks of the 12B (width 3072, 0.49 GB each in bfloat16) with random weights, batch size 2, with the
tokens of 49 frames of 384 x 672 (13,104) and of 1 frame. `module` and `block` are timed inside the
placement, so moving the whole network to the device, which `module` does once per run, is listed
separately. `block, locked` packs every block once; `block, half stays` also keeps half of them on
the device. `bring alone` is the time to move every block in turn without computing: if `block`
takes about as long as the longer of that and `module`, transfers and computation overlap.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import compare, parser, save

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.memory.offload import placed, streamed
from easyanimate_core.models.specs import LATENT_CHANNELS, TransformerConfig
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.weights.loading import load_network

FIELDS = {
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "num_attention_heads": 48,
    "attention_head_dim": 64,
    "patch_size": 2,
    "time_embed_dim": 512,
    "text_embed_dim": 3584,
    "add_norm_text_encoder": True,
}
LATENTS = {
    "49 frames": (2, LATENT_CHANNELS, 13, 48, 84),
    "1 frame": (2, LATENT_CHANNELS, 1, 48, 84),
}
CUDA = torch.device("cuda")
#: Placements, and how much memory their packed blocks may lock.
WAYS = {"module": 0, "block": 0, "block, locked": 2**40, "block, half stays": 2**40}


def load(num_blocks: int) -> EasyAnimateTransformer3DModel:
    config = TransformerConfig(**FIELDS, num_layers=num_blocks, mmdit_layers=num_blocks)
    with torch.device("meta"):
        shapes = EasyAnimateTransformer3DModel(config).state_dict()
    weights = {name: torch.empty(t.shape, dtype=torch.bfloat16) for name, t in shapes.items()}
    for tensor in weights.values():
        tensor.uniform_(-0.02, 0.02)
    return load_network(lambda: EasyAnimateTransformer3DModel(config), weights, what="denoiser")


def call(network: EasyAnimateTransformer3DModel, size: tuple[int, ...]) -> Callable[[], Any]:
    sample = torch.randn(size, device=CUDA, dtype=torch.bfloat16)
    text = torch.randn(2, 256, 3584, device=CUDA, dtype=torch.bfloat16)
    timestep = torch.tensor([700.0, 700.0], device=CUDA)

    def run() -> torch.Tensor:
        result = network(sample, timestep, text)
        torch.cuda.synchronize()
        return result

    return run


def measured(run: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median seconds and peak memory in GB."""
    torch.cuda.reset_peak_memory_stats()
    seconds = compare({"": run}, repeats)[""]
    return seconds, torch.cuda.max_memory_allocated() / 1e9


def bring_alone(network: EasyAnimateTransformer3DModel, repeats: int) -> float:
    """Seconds to move every block to the device, with blocks that compute nothing."""
    blocks = list(network.transformer_blocks)
    for block in blocks:
        block.forward = lambda: None
    with streamed(blocks, CUDA):

        def run() -> None:
            for block in blocks:
                block()
            torch.cuda.synchronize()

        seconds = compare({"": run}, repeats)[""]
    for block in blocks:
        del block.forward
    return seconds


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--blocks", type=int, default=8)
    arguments = options.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device, so there is nothing to measure.")
        return
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {"device": torch.cuda.get_device_name(), "blocks": arguments.blocks}
    with torch.inference_mode():
        network = load(arguments.blocks)
        for name, size in LATENTS.items():
            run = call(network, size)
            for how, lockable in WAYS.items():
                began = time.perf_counter()
                staying = arguments.blocks // 2 if "half" in how else 0
                with placed(
                    network, CUDA, how.partition(",")[0], resident_blocks=staying, lockable=lockable
                ):
                    torch.cuda.synchronize()
                    brought = time.perf_counter() - began
                    seconds, peak = measured(run, arguments.repeats)
                row = {"enter_seconds": brought, "call_seconds": seconds, "peak_gb": peak}
                results[f"{name}, {how}"] = row
                print(
                    f"{name:<10} {how:<18} to enter {brought:6.2f} s   call {seconds:7.3f} s   "
                    f"peak {peak:6.2f} GB"
                )
        results["bring_alone_seconds"] = bring_alone(network, arguments.repeats)
    print(f"bring alone {results['bring_alone_seconds']:.3f} s")
    save(arguments.json, arguments, results)


if __name__ == "__main__":
    main()
