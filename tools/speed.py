"""Measures what saves evaluations of the denoiser: figures, table and plot of docs/speed.md.

python -m tools.speed measure OUT.json [--version V5] [--scenes 40] [--only NAME ...]
python -m tools.speed show OUT.json [...] --plot docs/speed.png
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from easyanimate_core.conditioning.condition import Condition, Sources, make_condition
from easyanimate_core.evaluation.metrics import psnr, ssim
from easyanimate_core.files import json_value, read_text
from easyanimate_core.models.geometry import latent_shape
from easyanimate_core.models.specs import Head, Version
from easyanimate_core.pipeline import Pipeline, decode_latents, sample_latents
from easyanimate_core.progress import silent
from easyanimate_core.sampling import (
    DEFAULT_SCHEDULER,
    SamplingRun,
    draw_noise,
    evaluations,
    make_schedule,
)
from easyanimate_core.settings import Settings
from easyanimate_core.shapes.judge import Sample, asks_for, encode_asks, judge
from easyanimate_core.small_model import SIZE, small_checkpoint
from easyanimate_core.weights.loading import load_transformer, load_vae

BATCH = 4
CHECKS = ("colour", "shape", "motion")
FRAMES, HEIGHT, WIDTH = SIZE
FULL = Settings(height=HEIGHT, width=WIDTH, frames=FRAMES, steps=20, guidance_scale=4.0)


@dataclass(frozen=True)
class Way:
    """A way to save evaluations; `easycache` is that method's threshold, 0 is off."""

    kind: str
    value: float
    settings: Settings
    easycache: float = 0.0

    @property
    def name(self) -> str:
        """Kind and value."""
        return f"{self.kind} {self.value:g}"


WAYS = [
    Way("steps", 20, FULL),
    *(Way("step cache", share, replace(FULL, step_cache=share)) for share in (0.5, 0.65)),
    *(Way("steps", steps, replace(FULL, steps=steps)) for steps in (10, 7)),
    Way("step cache", 0.35, replace(FULL, step_cache=0.35)),
    Way("EasyCache", 0.1, FULL, 0.1),
    Way("steps", 16, replace(FULL, steps=16)),
    Way("window", 0.5, replace(FULL, guidance_window=0.5)),
    Way("EasyCache", 0.2, FULL, 0.2),
    Way("window", 0.75, replace(FULL, guidance_window=0.75)),
    Way("steps", 13, replace(FULL, steps=13)),
    Way("steps", 5, replace(FULL, steps=5)),
]


class EasyCached:
    """A denoiser with EasyCache, by the rule of its authors (arXiv 2507.02860) as ComfyUI has it.

    A call adds to its input what the last evaluation added, while the expected change of the output
    since then is below the threshold. The first 15 % and last 5 % of the steps are evaluated.
    """

    def __init__(self, transformer: Any, steps: int, threshold: float) -> None:
        self._transformer, self._threshold = transformer, threshold
        self.rotary_table = transformer.rotary_table
        self._within = range(int(0.15 * steps), int(0.95 * steps))
        self._index, self._passed, self._rate = -1, 0.0, None
        self._input = self._output = None
        self.evaluated = 0

    def __call__(self, latents: Tensor, timestep: Tensor, *states: Any, **named: Any) -> Tensor:
        """The velocity for both prompts in one batch."""
        self._index += 1
        change = None
        if self._input is not None and self._index in self._within:
            change = (latents - self._input).abs().mean()
            if self._rate is not None:
                self._passed += float(self._rate * change / self._output.abs().mean())
                if self._passed < self._threshold:
                    return latents + self._added
                self._passed = 0.0
        velocity: Tensor = self._transformer(latents, timestep, *states, **named)
        if change is not None:
            self._rate = (velocity - self._output).abs().mean() / change
        self._input, self._output, self._added = latents, velocity, velocity - latents
        self.evaluated += 1
        return velocity


class Bench:
    """The scenes of one version of the small model, and its networks."""

    def __init__(self, version: Version, scenes: int) -> None:
        self.pipeline = Pipeline.load(
            small_checkpoint(Head.INPAINT, version), device="cpu", dtype="float32",
            embedding_cache=False,
        )  # fmt: skip
        self.version, self.info = version, self.pipeline.info
        self.asks = asks_for("text", scenes, FULL)
        self.text = encode_asks(self.pipeline, self.asks, FULL)
        self.transformer = load_transformer(self.info, dtype=torch.float32)
        self.vae = load_vae(self.info)

    @torch.inference_mode()
    def clips(self, way: Way) -> tuple[list[Tensor], float]:
        """A clip for each scene, and the evaluations of the denoiser that one took."""
        frames, made = [], 0.0
        for start in range(0, len(self.asks), BATCH):
            rows = slice(start, start + BATCH)
            run = self._run(way, rows)
            calls = evaluations(run.plan, guided=run.guidance.active)
            denoiser: Any = self.transformer
            if way.easycache:
                denoiser = EasyCached(denoiser, way.settings.steps, way.easycache)
            noise = draw_noise(self._size(), run.generators)
            latents = sample_latents(
                denoiser, run,
                text=(self.text.negative, self.text.positive.rows(rows)),
                condition=self._condition(run), noise=noise,
            )  # fmt: skip
            if way.easycache:
                calls = 2 * denoiser.evaluated
            made += calls * len(noise)
            frames += [decode_latents(self.vae, one, None, silent) for one in latents.split(1)]
        return frames, made / len(frames)

    def _run(self, way: Way, rows: slice) -> SamplingRun:
        seeds = [way.settings.seed + given.scene.index for given in self.asks[rows]]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        schedule = make_schedule(
            DEFAULT_SCHEDULER[self.version], self.info.scheduler, steps=way.settings.steps
        )
        return SamplingRun(
            schedule, way.settings.guidance, generators, step_cache=way.settings.step_cache
        )

    def _size(self) -> tuple[int, ...]:
        size = latent_shape(FRAMES, HEIGHT, WIDTH)
        return (self.info.transformer.out_channels, *size)

    def _condition(self, run: SamplingRun) -> Condition:
        return make_condition(
            self.vae, self.info.transformer, Sources(), self._size()[1:],
            generators=run.generators, progress=silent, keep_known=False,
        )  # fmt: skip

    def measured(self, way: Way, full: Sequence[Tensor] | None) -> tuple[dict[str, Any], Any]:
        """The figures of a way, beside the clips of the full run, and its clips."""
        started = time.process_time()
        clips, made = self.clips(way)
        like = full or clips
        verdicts = [
            judge(Sample(given.task, given.scene, frames))
            for given, frames in zip(self.asks, clips, strict=True)
        ]
        shares = {
            check: 100 * sum(verdict.checks[check] for verdict in verdicts) / len(verdicts)
            for check in CHECKS
        }
        pairs = list(zip(clips, like, strict=True))
        row = {
            "kind": way.kind,
            "value": way.value,
            "version": self.version.value,
            "scenes": len(clips),
            "evaluations": round(made, 1),
            "ssim": sum(ssim(*pair) for pair in pairs) / len(pairs),
            "psnr_db": sum(psnr(*pair) for pair in pairs) / len(pairs),
            **shares,
            "cpu_seconds": round(time.process_time() - started, 1),
        }
        return row, clips


def measure(arguments: argparse.Namespace) -> None:
    """Measure every way and write the rows after each one."""
    torch.set_num_threads(1)
    bench = Bench(Version(arguments.version), arguments.scenes)
    rows, full = [], None
    for way in WAYS:
        if full is not None and arguments.only and way.name not in arguments.only:
            continue
        row, clips = bench.measured(way, full)
        full = full or clips
        rows.append(row)
        print(row, flush=True)
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def show(arguments: argparse.Namespace) -> None:
    """Print the table of measured rows and draw the plot."""
    rows = [row for file in arguments.files for row in _rows(file)]
    print("\n".join(table(rows)))
    if arguments.plot is not None:
        draw(rows, arguments.plot)


def _rows(file: Path) -> list[dict[str, Any]]:
    found = json_value(read_text(file, error=ValueError), list, str(file), error=ValueError)
    return list(found)


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The lines of a Markdown table, by version and evaluations."""
    yield "| Version | Way | Evaluations | SSIM | PSNR | Colour | Shape | Motion |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in sorted(rows, key=lambda row: (row["version"] == "V5", -row["evaluations"])):
        checks = " | ".join(f"{row[check]:.1f} %" for check in CHECKS)
        whole = row["ssim"] == 1
        alike = "– | –" if whole else f"{row['ssim']:.4f} | {row['psnr_db']:.1f} dB"
        yield (
            f"| {row['version']} | {row['kind']} {row['value']:g} | {row['evaluations']:g} | "
            f"{alike} | {checks} |"
        )


def draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """SSIM over evaluations, a line for every kind."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    versions = sorted({row["version"] for row in rows}, reverse=True)
    figure, axes = plt.subplots(1, len(versions), figsize=(5 * len(versions), 4), squeeze=False)
    for axis, version in zip(axes[0], versions, strict=True):
        for kind in dict.fromkeys(row["kind"] for row in rows):
            own = [r for r in rows if (r["kind"], r["version"]) == (kind, version)]
            own = sorted((r["evaluations"], r["ssim"]) for r in own if r["ssim"] < 1)
            if own:
                axis.plot(*zip(*own, strict=True), marker="o", label=kind)
        axis.axhline(0.975, color="grey", linewidth=0.8, linestyle=":")
        axis.set(title=version, xlabel="evaluations per clip", ylabel="SSIM to the full run")
        axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=100)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.set_defaults(run=measure)
    measuring.add_argument("out", type=Path)
    measuring.add_argument("--version", default="V5.1", choices=[v.value for v in Version])
    measuring.add_argument("--scenes", type=int, default=40)
    measuring.add_argument("--only", nargs="+", help="names of ways, such as 'steps 10'")
    showing = commands.add_parser("show")
    showing.set_defaults(run=show)
    showing.add_argument("files", type=Path, nargs="+")
    showing.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
