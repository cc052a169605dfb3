"""A LoRA trained on a real server, used in the same prompt, cancelled, and gone on with."""

import pytest
import torch
from safetensors.torch import load_file

from tests.comfy.findings import run_script
from tests.comfy.prompts import V51, node, text_to_video
from tests.comfy.server import PromptError


def training(checkpoint=V51, *, name="fox", frames=5, steps=3, **settings):
    """Grey clips to a LoRA; its report and its loss curve are shown and saved."""
    images = node("EmptyImage", width=32, height=32, batch_size=2 * frames, color=8421504)
    inputs = {
        "checkpoint": checkpoint,
        "images": ["images", 0],
        "captions": "a grey wall",
        "name": name,
        "frames_per_clip": frames,
        "steps": steps,
        "rank": 2,
        "alpha": 2.0,
        "learning_rate": 0.01,
        "seed": 2**62,
        **settings,
    }
    return {
        "images": images,
        "train": node("EasyAnimateTrainLora", **inputs),
        "report": node("PreviewAny", source=["train", 2]),
        "curve": node("SaveImage", images=["train", 1], filename_prefix="curve"),
    }


def report_of(history):
    (text,) = history.outputs["report"]["text"]
    return text


def latents(history):
    (file,) = history.files("latents")
    return load_file(file)["latent_tensor"]


def loras(server):
    return sorted(path.name for path in (server.base / "models" / "loras").glob("fox*"))


def test_what_is_trained_is_used_in_the_same_prompt(comfy_server):
    made = {}
    for strength in (0.0, 1.0):
        prompt = text_to_video(lora=strength, steps=2, frames=5) | training()
        prompt["lora"]["inputs"]["lora"] = ["train", 0]
        history = comfy_server.run_prompt(prompt)
        made[strength] = latents(history)
    assert "train" in history.cached  # the strength alone has changed
    assert torch.isfinite(made[1.0]).all()
    assert (made[1.0] - made[0.0]).abs().max() > 1e-3
    assert loras(comfy_server) == ["fox.safetensors"]
    listed = comfy_server.object_info("EasyAnimateLoadLora")["input"]["required"]["lora"]
    assert "fox.safetensors" in listed[1]["options"]

    # A second LoRA of the name gets a number, and the steps reach ComfyUI's progress bar.
    history = comfy_server.run_prompt(training(seed=2))
    assert loras(comfy_server) == ["fox.safetensors", "fox_2.safetensors"]
    said = report_of(history).splitlines()
    assert said[0] == str(comfy_server.base / "models" / "loras" / "fox_2.safetensors")
    assert said[1].startswith("3 steps on 2 clips of 5 frames, 32 x 32, for EasyAnimate V5.1 T2V")
    assert [(done, most) for name, done, most in history.progress if name == "train"][-1] == (3, 3)
    assert len(history.files("curve")) == 1


def test_cancel_ends_it_and_the_next_run_goes_on(comfy_server):
    before = loras(comfy_server)
    run = comfy_server.submit(training(steps=1000, name="fox_long"))
    while True:
        message = run.until("progress")
        if message["type"] != "progress" or message["data"]["value"] >= 51:
            break
    comfy_server.interrupt()
    with pytest.raises(PromptError) as error:
        run.finish()
    assert error.value.kind == "execution_interrupted"
    assert loras(comfy_server) == before
    kept = comfy_server.base / "output" / "EasyAnimate_training"
    (state,) = kept.glob("*/checkpoints/step-*[1-9]0")
    step = int(state.name.removeprefix("step-"))
    said = report_of(comfy_server.run_prompt(training(steps=step + 1, name="fox_long")))
    assert f"Going on after step {step}." in said
    assert loras(comfy_server) == sorted([*before, "fox_long.safetensors"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a/b"}, "give a file name without a folder"),
        ({"frames_per_clip": 9}, "the number of images must be a multiple of it"),
        ({"captions": ""}, "captions has an empty line or no line"),
        ({"checkpoint": f"{V51}-Control"}, "needs a control video for every clip"),
        ({"checkpoint": f"{V51}-Control-Camera"}, "needs a camera path for every clip"),
    ],
)
def test_what_does_not_fit_is_refused(comfy_server, changes, said):
    with pytest.raises(PromptError) as error:
        comfy_server.run_prompt(training(**changes))
    assert said in error.value.message


def test_nothing_of_training_is_imported_at_start(comfy_python):
    assert run_script(comfy_python, "start.py") == {"imported": []}
