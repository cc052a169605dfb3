"""Time and memory of the VAE against diffusers' class: same random weights, full width, float32.

    python benchmarks/vae.py [--json results.json] [--repeats 5] [--threads 2]

Time: both in one process, repeats alternate, median. Memory: each measurement in a process of its
own, peak resident size above the size with the model and its input loaded (Linux only).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.models.vae import AutoencoderKLMagvit
from easyanimate_core.specs import VAEConfig

WIDTHS = (128, 256, 512, 512)
WAYS = ("encode", "decode")
TARGETS = {"encode": (0.8, 1.0), "decode": (0.6, 1.0)}  # time, memory


def load(implementation: str) -> torch.nn.Module:
    from diffusers import AutoencoderKLMagvit as Reference

    torch.manual_seed(0)
    reference = Reference(block_out_channels=list(WIDTHS)).eval()
    if implementation == "diffusers":
        return reference
    vae = AutoencoderKLMagvit(
        VAEConfig(
            block_out_channels=WIDTHS,
            mini_batch_decoder=int(os.environ.get("MB", "1")),
            mini_batch_encoder=4 * int(os.environ.get("MB", "1")),
        ),
        device=torch.device("meta"),
    )
    vae.load_state_dict(reference.state_dict(), assign=True)
    return vae


def call(vae: torch.nn.Module, way: str, shape: tuple[int, int, int]) -> Callable[[], Tensor]:
    frames, height, width = shape
    generator = torch.Generator().manual_seed(1)
    if way == "encode":
        video = torch.rand(1, 3, frames, height, width, generator=generator) * 2 - 1
        if isinstance(vae, AutoencoderKLMagvit):
            return lambda: vae.encode(video).mean
        return lambda: vae.encode(video).latent_dist.mean
    latents = torch.randn(
        1, 16, (frames - 1) // 4 + 1, height // 8, width // 8, generator=generator
    )
    if isinstance(vae, AutoencoderKLMagvit):
        return lambda: vae.decode(latents)
    return lambda: vae.decode(latents).sample


def measure_time(shape: tuple[int, int, int], repeats: int) -> dict[str, dict[str, float]]:
    models = {name: load(name) for name in ("ours", "diffusers")}
    results: dict[str, dict[str, float]] = {}
    for way in WAYS:
        calls = {name: call(model, way, shape) for name, model in models.items()}
        outputs = {name: run() for name, run in calls.items()}
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repeats):
            for name, run in calls.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        results[way] = {
            "ours_seconds": medians["ours"],
            "diffusers_seconds": medians["diffusers"],
            "time_ratio": medians["ours"] / medians["diffusers"],
            "max_abs_difference": float((outputs["ours"] - outputs["diffusers"]).abs().max()),
        }
    return results


def _status_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}; memory is measured on Linux only.")


def measure_memory(implementation: str, way: str, shape: tuple[int, int, int]) -> float:
    """Peak MiB of one call above the loaded model, in this process."""
    run = call(load(implementation), way, shape)
    # A small call first, so that the libraries' one-time buffers do not count.
    warm_up = call(load("ours"), way, (1, 16, 16))
    warm_up()
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = _status_mib("VmRSS")
    run()
    return _status_mib("VmHWM") - before


def memory_in_subprocess(implementation: str, way: str, arguments: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--measure", implementation, way]
    command += ["--shape", *map(str, arguments.shape), "--threads", str(arguments.threads)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(finished.stdout)


def report(results: dict[str, dict[str, float]]) -> None:
    print(f"{'':8}{'ours s':>9}{'diff. s':>9}{'ratio':>7}", end="")
    print(f"{'ours MiB':>10}{'diff. MiB':>11}{'ratio':>7}")
    for way, row in results.items():
        print(
            f"{way:8}{row['ours_seconds']:9.2f}{row['diffusers_seconds']:9.2f}"
            f"{row['time_ratio']:7.2f}{row['ours_mib']:10.0f}{row['diffusers_mib']:11.0f}"
            f"{row['memory_ratio']:7.2f}"
        )
    for way, (time_target, memory_target) in TARGETS.items():
        print(f"target {way}: time <= {time_target}, memory <= {memory_target}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--shape", type=int, nargs=3, default=[9, 96, 96])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = tuple(arguments.shape)
    with torch.inference_mode():
        if arguments.measure:
            print(measure_memory(*arguments.measure, shape))
            return
        results = measure_time(shape, arguments.repeats)
    for way, row in results.items():
        for name in ("ours", "diffusers"):
            row[f"{name}_mib"] = memory_in_subprocess(name, way, arguments)
        row["memory_ratio"] = row["ours_mib"] / row["diffusers_mib"]
    report(results)
    if arguments.json:
        record = {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": platform.machine(),
            "processor": _processor(),
            "threads": arguments.threads,
            "torch": torch.__version__,
            "shape": arguments.shape,
            "repeats": arguments.repeats,
            "results": results,
        }
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
