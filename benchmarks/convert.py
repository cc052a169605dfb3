"""Peak memory and time of `convert` for a denoiser of 1.1 GB, and the error of the result.

    python benchmarks/convert.py [--json results.json] [--threads 2]

Writes a V5.1 denoiser with random bfloat16 weights to a temporary folder and converts it in
separate processes. Memory is relative to the process after its imports, also as a ratio to the
source's size; time is CPU time, also as a ratio to copying the source with `keep`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from measure import in_subprocess, parser, peak_above, save
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.convert import Conversion, convert
from easyanimate_core.models.specs import LATENT_CHANNELS, TransformerConfig
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel

CONFIG = {
    "in_channels": 2 * LATENT_CHANNELS + 1,
    "out_channels": LATENT_CHANNELS,
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "num_layers": 11,
    "mmdit_layers": 6,
    "time_embed_dim": 512,
    "text_embed_dim": 3584,
}
TARGETS = {
    "keep": "copy.safetensors",
    "fp16": "fp16.safetensors",
    "fp8-channel": "fp8-channel.safetensors",
    "int8": "int8.safetensors",
    "q8_0": "q8_0.gguf",
}


def write_denoiser(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    network = EasyAnimateTransformer3DModel(TransformerConfig(**CONFIG), device="meta")
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, tensor in network.state_dict().items():
        values = torch.randn(tensor.shape, generator=generator)
        # As in tiny checkpoints, activations keep their scale.
        values = values / tensor[0].numel() ** 0.5 if tensor.ndim > 1 else 1 + 0.02 * values
        weights[name] = values.to(torch.bfloat16)
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        source, target, dtype = arguments.measure
        conversion = Conversion(dtype=dtype, force=True)
        print(peak_above(lambda: convert(source, target, conversion), warm_up=lambda: None))
        return
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        write_denoiser(source)
        for dtype, name in TARGETS.items():
            target = Path(temporary) / name
            begin = time.process_time()
            done = convert(source, target, Conversion(dtype=dtype))
            seconds = time.process_time() - begin
            peak = in_subprocess(
                __file__, str(source), str(target), dtype, threads=arguments.threads
            )
            target.unlink()
            mib = done.bytes_before / 2**20
            results[dtype] = {
                "cpu_seconds": seconds,
                "seconds_to_keep": seconds / results["keep"]["cpu_seconds"] if results else 1.0,
                "source_mib": mib,
                "size_ratio": done.bytes_after / done.bytes_before,
                "peak_mib": peak,
                "peak_to_source": peak / mib,
                "relative_rms": done.relative_rms,
            }
            row = results[dtype]
            print(
                f"{dtype:12} {seconds:6.1f} s ({row['seconds_to_keep']:.1f}), peak {peak:.0f} MiB "
                f"({row['peak_to_source']:.2f} of the source), size {row['size_ratio']:.2f}, error "
                f"{done.relative_rms:.2e}",
                flush=True,
            )
    save(arguments.json, arguments, results)


if __name__ == "__main__":
    main()
