"""Videos of the small model in bfloat16 and float16 compared to float32, and the largest values.

    python benchmarks/half_precision.py [--json results.json] [--repeats 3] [--threads 2]

Runs `--repeats` scenes per head, on the CPU. The maximum of float16 is 65504; the largest values of
each kind of layer in float32 show how far the small model is from it. Those of the published models
are larger and could not be measured here.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from measure import parser, save
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Generation, Pipeline
from easyanimate_core.progress import silent
from easyanimate_core.settings import Settings
from easyanimate_core.shapes.judge.meaning import clip_of
from easyanimate_core.shapes.scenes import Scene, caption, control_video, make_scene
from easyanimate_core.small_model import SIZE, small_checkpoint
from easyanimate_core.tasks import Camera, Control, ImageToVideo, Task

FRAMES, HEIGHT, WIDTH = SIZE
HALVES = ("bfloat16", "float16")
SEED = 20_000
HEADS = (Head.INPAINT, Head.CONTROL, Head.CAMERA)


def task_of(head: Head, scene: Scene) -> Task:
    if head is Head.CONTROL:
        return Control(torch.from_numpy(control_video(scene, "edges")))
    if head is Head.CAMERA:
        return Camera(moves=("Pan Left",), reference=clip_of(scene)[:1])
    return ImageToVideo(start=clip_of(scene)[:1])


def run(pipeline: Pipeline, head: Head, index: int) -> Generation:
    scene = make_scene(SEED, index, kind="move")
    settings = Settings(height=HEIGHT, width=WIDTH, frames=FRAMES, steps=20, guidance_scale=4.0)
    return pipeline.generate(caption(scene), task_of(head, scene), settings)


def psnr(made: Tensor, wanted: Tensor) -> float:
    return float(-10 * torch.log10((made - wanted).square().mean()))


def largest_values(pipeline: Pipeline, head: Head) -> dict[str, float]:
    """Largest magnitude of the outputs of every kind of layer, over all blocks."""
    found: dict[str, float] = defaultdict(float)

    def watch(network: nn.Module, name: str, stack: ExitStack) -> None:
        for path, layer in network.named_modules():
            if any(True for _ in layer.children()):
                continue
            kind = ".".join([name, *(part for part in path.split(".") if not part.isdigit())])

            def note(_: nn.Module, __: Any, output: Any, kind: str = kind) -> None:
                if isinstance(output, Tensor) and output.is_floating_point():
                    found[kind] = max(found[kind], float(output.abs().max()))

            stack.callback(layer.register_forward_hook(note).remove)

    networks = pipeline._networks
    with ExitStack() as stack:
        watch(stack.enter_context(networks.transformer(silent)), "denoiser", stack)
        watch(stack.enter_context(networks.vae(silent)), "vae", stack)
        run(pipeline, head, 0)
    with ExitStack() as stack, torch.inference_mode():
        encoder = stack.enter_context(networks.text_encoder(silent))
        for number, network in enumerate(encoder.networks):
            watch(network, f"text{number}", stack)
        encoder.encode([caption(make_scene(SEED, 0, kind="move"))])
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main() -> None:
    arguments = parser(__doc__ or "").parse_args()
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {}
    for head in HEADS:
        pipelines = {
            dtype: Pipeline.load(
                small_checkpoint(head), device="cpu", dtype=dtype, embedding_cache=False
            )
            for dtype in ("float32", *HALVES)
        }
        rows: dict[str, list[float]] = defaultdict(list)
        seconds: dict[str, float] = defaultdict(float)
        for index in range(arguments.repeats):
            made = {}
            for dtype, pipeline in pipelines.items():
                start = time.perf_counter()
                made[dtype] = run(pipeline, head, index).frames
                seconds[dtype] += time.perf_counter() - start
            for dtype in HALVES:
                rows[dtype].append(psnr(made[dtype], made["float32"]))
        largest = largest_values(pipelines["float32"], head)
        results[head.value] = {"psnr": dict(rows), "seconds": dict(seconds), "largest": largest}
        for dtype in HALVES:
            worst, mean = min(rows[dtype]), sum(rows[dtype]) / len(rows[dtype])
            print(f"{head.value:16}{dtype:10} PSNR {mean:5.1f} dB, worst {worst:5.1f} dB")
        for kind in list(largest)[:4]:
            print(f"{'':16}{kind:44}{largest[kind]:10.1f}")
    save(arguments.json, arguments, results)


if __name__ == "__main__":
    main()
