"""Peak memory of loading a large checkpoint, and the time from `generate` to the first step.

    python benchmarks/loading.py [--json results.json] [--threads 2]

Writes a V5.1 checkpoint with a denoiser of 3.9 GB of random bfloat16 weights (two shards) to a
temporary folder, and loads the denoiser in separate processes: as stored, as stored with every
weight read once, and converted to float16. The start-up time is that of a script with a tiny
checkpoint, from the start of its process to the first finished denoising step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from measure import in_subprocess, parser, save, status_mib
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.models.specs import LATENT_CHANNELS, Head, TransformerConfig, Version
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.loading import load_transformer

WAYS = ("kept", "kept and read", "converted")
CONFIG = {
    "in_channels": 2 * LATENT_CHANNELS + 1,
    "out_channels": LATENT_CHANNELS,
    "num_attention_heads": 32,
    "attention_head_dim": 64,
    "num_layers": 22,
    "mmdit_layers": 11,
    "patch_size": 2,
    "time_embed_dim": 512,
    "text_embed_dim": 3584,
    "add_norm_text_encoder": True,
}


def write_checkpoint(folder: Path) -> float:
    """Write a checkpoint with a large denoiser; returns the denoiser's size in GB."""
    make_tiny(folder, version=Version.V5_1, head=Head.INPAINT)
    transformer = folder / "transformer"
    for file in transformer.iterdir():
        file.unlink()
    (transformer / "config.json").write_text(json.dumps(CONFIG))
    network = EasyAnimateTransformer3DModel(TransformerConfig(**CONFIG), device="meta")
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    names = list(shapes)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    weight_map = {}
    for number, half in enumerate(halves, start=1):
        file = f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
        save_file(
            {name: torch.randn(shapes[name]).to(torch.bfloat16) for name in half},
            transformer / file,
        )
        weight_map |= dict.fromkeys(half, file)
    index = transformer / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    return sum(file.stat().st_size for file in transformer.glob("*.safetensors")) / 1e9


def peak_gb(way: str, folder: Path) -> float:
    """Load the denoiser; returns the peak resident memory of the whole process in GB."""
    dtype = torch.float16 if way == "converted" else None
    network = load_transformer(inspect_checkpoint(folder), dtype=dtype)
    if way == "kept and read":
        print(sum(float(p.float().sum()) for p in network.parameters()), file=sys.stderr)
    return status_mib("VmHWM") * 1024**2 / 1e9


_FIRST_STEP = """
import sys, time
from easyanimate_core import Pipeline, Settings

def progress(stage, done, total):
    if stage == "denoise" and done == 1:
        print(time.time())
        raise SystemExit

settings = Settings(height=96, width=96, frames=5, steps=2)
Pipeline.load(sys.argv[1], device="cpu").generate("A dog.", settings=settings, progress=progress)
"""


def seconds_to_first_step(folder: Path) -> float:
    """Time from the start of a process to its first finished denoising step."""
    start = time.time()
    command = [sys.executable, "-c", _FIRST_STEP, str(folder)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    return float(done.stdout) - start


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        way, folder = arguments.measure
        print(peak_gb(way, Path(folder)))
        return
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "large"
        size = write_checkpoint(folder)
        limit = 1.15 * size + 0.5
        results |= {"checkpoint_gb": size, "limit_gb": limit}
        print(f"denoiser {size:.2f} GB, limit 1.15 N + 0.5 GB = {limit:.2f} GB")
        for way in WAYS:
            peak = in_subprocess(__file__, way, str(folder), threads=arguments.threads)
            results[f"peak_gb_{way.replace(' ', '_')}"] = peak
            print(f"{way:14} peak {peak:.2f} GB")
        tiny = make_tiny(Path(temporary) / "tiny", version=Version.V5_1, head=Head.T2V)
        seconds = min(seconds_to_first_step(tiny) for _ in range(3))
        results["seconds_to_first_step"] = seconds
        print(f"from the start of the process to the first step, tiny checkpoint: {seconds:.1f} s")
    save(arguments.json, arguments, results)


if __name__ == "__main__":
    main()
