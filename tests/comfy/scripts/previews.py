"""What the pack's sampler shows while it works, by what the user has chosen."""

import importlib
import json
import sys
import types

import torch

pack = load_pack()  # noqa: F821
live = importlib.import_module(f"{pack.__name__}.nodes.bridge.live_preview")
latent_format = types.SimpleNamespace(
    latent_rgb_factors=[[0.1] * 3] * 16, latent_rgb_factors_bias=[0.0] * 3,
    latent_rgb_factors_reshape=None, taesd_decoder_name=None,
)  # fmt: skip
model = types.SimpleNamespace(
    load_device="cpu", model=types.SimpleNamespace(latent_format=latent_format)
)
shown = []


def progress(*reported, **_):
    shown.append(reported[2] is not None)


live.comfy.utils.set_progress_bar_global_hook(progress)


def previews(running):
    queue = types.SimpleNamespace(get_current_queue_volatile=lambda: (running, []))
    server = types.SimpleNamespace(instance=types.SimpleNamespace(prompt_queue=queue))
    sys.modules["server"] = types.SimpleNamespace(PromptServer=server)
    shown.clear()
    live.preview_callback(model, 2)(0, torch.zeros(1, 16, 3, 4, 4), None, 2)
    return shown[0]


found = {
    "not chosen": previews([(0, "id", {}, {})]),
    "default": previews([(0, "id", {}, {"preview_method": "default"})]),
    "none": previews([(0, "id", {}, {"preview_method": "none"})]),
}
sys.argv.append("--preview-method=none")
found["option"] = previews([(0, "id", {}, {})])
print(json.dumps(found))
