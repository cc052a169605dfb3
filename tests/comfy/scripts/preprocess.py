"""The control video node inside ComfyUI's modules; see test_preprocess.py."""

import asyncio
import json
import sys
import time
from pathlib import Path

import folder_paths
import torch

pack = load_pack()  # noqa: F821  (given by bootstrap.py)
nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
node = next(n for n in nodes if n.__name__ == "PreprocessNode")
name = pack.__name__
core = sys.modules[f"{name}.easyanimate_core.preprocess"]
bridge = sys.modules[f"{name}.nodes.bridge.detect"]


def run(frames, resolution, **kind):
    prepared = node.PREPARE_CLASS_CLONE(None)
    started = time.perf_counter()
    output = prepared.execute(image=frames, kind=kind, resolution=resolution)
    return (*output.args, time.perf_counter() - started)


frames = torch.rand(3, 96, 130, 3, generator=torch.Generator().manual_seed(0))
found, report, _ = run(frames, 64, kind="canny", low_threshold=50, high_threshold=150)
wanted = core.preprocess(
    frames, core.Detection("canny", 64, {"low_threshold": 50, "high_threshold": 150})
)
again, _, _ = run(frames, 64, kind="canny", low_threshold=50, high_threshold=150)

missing = ""
try:
    run(frames, 64, kind="hed")
except Exception as error:
    missing = f"{type(error).__name__}: {error}"

library = sys.modules[f"{name}.easyanimate_core.preprocess.library"]
weights = Path(folder_paths.models_dir) / "controlnet_aux/lllyasviel/Annotators/ControlNetHED.pth"
weights.parent.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
torch.save(library.submodule("hed").ControlNetHED_Apache2().state_dict(), weights)
soft, soft_report, first_seconds = run(frames, 64, kind="hed")
_, _, second_seconds = run(frames, 64, kind="hed")
weights.unlink()

import comfy.model_management  # noqa: E402

comfy.model_management.interrupt_current_processing()
cancelled = ""
try:
    run(frames.flip(1), 64, kind="scribble_xdog", threshold=32)
except comfy.model_management.InterruptProcessingException as error:
    cancelled = type(error).__name__

print(
    "FOUND "
    + json.dumps(
        {
            "shape": list(found.shape),
            "same": bool(torch.equal(found, wanted)),
            "cached": bool(torch.equal(again, wanted)),
            "report": report,
            "missing": missing,
            "folders": [str(folder) for folder in bridge.weight_folders()],
            "models": str(Path(folder_paths.models_dir) / "controlnet_aux"),
            "soft": [list(soft.shape), float(soft.min()), float(soft.max()), float(soft.std())],
            "soft_report": soft_report,
            "seconds": [first_seconds, second_seconds],
            "cancelled": cancelled,
        }
    )
)
