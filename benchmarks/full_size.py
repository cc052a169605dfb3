"""Peak memory of describing, converting and loading a 7B checkpoint with random weights.

    python benchmarks/full_size.py [--json results.json] [--threads 2]

Writes a V5.1 7B InP denoiser (13.6 GB in bfloat16, three shards) with a tiny VAE and text encoder
to a temporary folder, 22 GB in total, and runs each step in a separate process. Memory is the peak
resident memory of the process, including PyTorch and the pages of mapped files.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from measure import in_subprocess, parser, save, status_mib
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.cli.main import main as command
from easyanimate_core.models.specs import Head, TransformerConfig, Version
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.files.detect import config_as_json
from easyanimate_core.weights.loading import load_transformer
from easyanimate_core.weights.stored import stored_bytes

CONFIG = TransformerConfig(in_channels=33, num_layers=36, mmdit_layers=18)
STEPS = ("describe", "convert --dtype fp8", "load as stored", "load with qfloat8")
SHARDS = 3
#: Random values that the weights are sliced from.
POOL = 2**26


def write_checkpoint(folder: Path) -> float:
    """Write a checkpoint folder with a denoiser of the published size; returns its size in GB."""
    make_tiny(folder, version=Version.V5_1, head=Head.INPAINT)
    transformer = folder / "transformer"
    for file in transformer.iterdir():
        file.unlink()
    tiny_text = inspect_tiny_text(folder)
    (transformer / "config.json").write_text(json.dumps(config_as_json(tiny_text)))
    network = EasyAnimateTransformer3DModel(tiny_text, device="meta")
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0)).mul_(0.02)
    pool = pool.to(torch.bfloat16)
    names = list(shapes)
    weight_map, start, total = {}, 0, 0
    for number in range(SHARDS):
        file = f"diffusion_pytorch_model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        tensors = {}
        for name in names[number::SHARDS]:
            count = shapes[name].numel()
            start = (start + 7919) % (POOL - count)
            tensors[name] = pool[start : start + count].view(shapes[name]).clone()
            weight_map[name], total = file, total + 2 * count
        save_file(tensors, transformer / file)
        del tensors
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (transformer / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return total / 1e9


def inspect_tiny_text(folder: Path) -> TransformerConfig:
    """The published config, adapted to the states of the folder's tiny text encoder."""
    text = json.loads((folder / "text_encoder" / "config.json").read_text())
    return replace(CONFIG, text_embed_dim=text["hidden_size"])


def measure(step: str, folder: Path, target: Path) -> float:
    """Run a step; returns the peak memory of this process in MiB."""
    if step == "describe":
        command(["describe", str(folder), "--json"])
    elif step.startswith("convert"):
        command(["convert", str(folder), str(target), "--part", "transformer", "--dtype", "fp8"])
    else:
        kind = step.removeprefix("load with ") if "with" in step else "none"
        network = load_transformer(inspect_checkpoint(folder), quantization=kind)
        sys.stderr.write(f"{step}: {stored_bytes(network) / 2**20:.0f} MiB of weights\n")
    return status_mib("VmHWM")


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        step, folder, target = arguments.measure
        output, sys.stdout = sys.stdout, sys.stderr  # stdout is only for the number
        peak = measure(step, Path(folder), Path(target))
        sys.stdout = output
        print(peak)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder, target = Path(scratch) / "7b", Path(scratch) / "fp8.safetensors"
        gigabytes = write_checkpoint(folder)
        rows = {}
        for step in STEPS:
            start = time.perf_counter()
            peak = in_subprocess(
                __file__, step, str(folder), str(target), threads=arguments.threads
            )
            rows[step] = {
                "peak_mib": peak,
                "of_the_denoiser": peak * 2**20 / (gigabytes * 1e9),
                "seconds": time.perf_counter() - start,
            }
            print(f"{step:20} peak {peak:7.0f} MiB, {rows[step]['of_the_denoiser']:.2f} of the "
                  f"denoiser's {gigabytes:.1f} GB", flush=True)  # fmt: skip
        rows["fp8 file"] = {"gigabytes": target.stat().st_size / 1e9}
        shutil.rmtree(folder)
    save(arguments.json, arguments, {"denoiser_gigabytes": gigabytes, **rows})


if __name__ == "__main__":
    main()
