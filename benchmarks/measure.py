"""Shared by the benchmarks: alternating timings, peak memory of a process, dated results."""

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
from typing import Any

import torch


def parser(description: str) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    result = argparse.ArgumentParser(description=description.splitlines()[0])
    result.add_argument("--json", type=Path, help="write the results to this file")
    result.add_argument("--repeats", type=int, default=5)
    result.add_argument("--threads", type=int, default=os.cpu_count())
    result.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    return result


def compare(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each call; the calls alternate, after one warm-up each."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_above(call: Callable[[], Any], warm_up: Callable[[], Any]) -> float:
    """Peak memory of `call` in MiB, in addition to that of the process before it (Linux)."""
    warm_up()  # excludes one-time buffers of libraries
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = status_mib("VmRSS")
    call()
    return status_mib("VmHWM") - before


def status_mib(field: str) -> float:
    """A field of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}; memory can only be measured on Linux.")


def in_subprocess(script: str, *arguments: str, threads: int) -> float:
    """The number printed by `script --measure ARGUMENTS` in a separate process."""
    command = [sys.executable, script, "--threads", str(threads), "--measure", *arguments]
    # Freed memory is returned at once, so peaks are of live memory and reproducible to a few MiB.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{finished.stderr[-3000:]}")
    return float(finished.stdout)


def compare_networks(
    calls: dict[str, Callable[[], torch.Tensor]],
    script: str,
    case: str,
    arguments: argparse.Namespace,
) -> dict[str, float]:
    """Compare to diffusers: median seconds, peak MiB and their ratios, and the difference.

    `script --measure KIND CASE` must print the peak memory of the kind's call.
    """
    difference = float((calls["ours"]() - calls["diffusers"]()).abs().max())
    seconds = compare(calls, arguments.repeats)
    memory = {kind: in_subprocess(script, kind, case, threads=arguments.threads) for kind in calls}
    row = {f"{kind}_seconds": value for kind, value in seconds.items()}
    row |= {f"{kind}_mib": value for kind, value in memory.items()}
    row["time_ratio"] = seconds["ours"] / seconds["diffusers"]
    row["memory_ratio"] = memory["ours"] / memory["diffusers"]
    row["max_abs_difference"] = difference
    print(
        f"{case:9} ours {seconds['ours']:.2f} s, diffusers {seconds['diffusers']:.2f} s (ratio "
        f"{row['time_ratio']:.2f}); memory {memory['ours']:.0f} and {memory['diffusers']:.0f} MiB "
        f"(ratio {row['memory_ratio']:.2f})",
        flush=True,
    )
    return row


def save(path: Path | None, arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write the results with the date and the machine, if a path is given."""
    if path is None:
        return
    record = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {_processor()}",
        "threads": arguments.threads,
        "torch": torch.__version__,
        "repeats": arguments.repeats,
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
