"""A LoRA trained on a real server, used in the same prompt, cancelled, and gone on with."""

import os
import pickle
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.comfy.findings import run_script
from tests.comfy.prompts import V51, node, text_to_video
from tests.comfy.server import PromptError
from tools.comfyui import DIRECT


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

    # ComfyUI's own loader, and whatever else calls it, does the same.
    prompt["lora"] = node(
        "LoraLoaderModelOnly", model=["load", 0], lora_name="fox.safetensors", strength_model=1.0
    )
    assert torch.equal(latents(comfy_server.run_prompt(prompt)), made[1.0])
    check_loader_of_model_and_clip(comfy_server, prompt, made[1.0])

    # A second LoRA of the name gets a number, and the steps reach ComfyUI's progress bar.
    history = comfy_server.run_prompt(training(seed=2))
    assert loras(comfy_server) == ["fox.safetensors", "fox_2.safetensors"]
    said = report_of(history).splitlines()
    assert said[0] == str(comfy_server.base / "models" / "loras" / "fox_2.safetensors")
    assert said[1].startswith("3 steps on 2 clips of 5 frames, 32 x 32, for EasyAnimate V5.1 T2V")
    assert [(done, most) for name, done, most in history.progress if name == "train"][-1] == (3, 3)
    assert len(history.files("curve")) == 1


def check_loader_of_model_and_clip(server, prompt, wanted):
    """ComfyUI's loader that also takes the CLIP, and other packs' loaders that call it.

    A trained LoRA changes the denoiser alone, so the prompt reads the same at any clip strength.
    """
    for strength in (1.0, -3.0):
        before = len(server.log_text())
        prompt["lora"] = node(
            "LoraLoader", model=["load", 0], clip=["load", 1], lora_name="fox.safetensors",
            strength_model=1.0, strength_clip=strength,
        )  # fmt: skip
        prompt["text"]["inputs"]["clip"] = ["lora", 1]
        history = server.run_prompt(prompt)
        assert "text" in history.executed
        assert torch.equal(latents(history), wanted), strength
        said = server.log_text()[before:]
        assert "lora key not loaded" not in said
        assert "NOT LOADED" not in said


def test_cancel_leaves_a_lora_and_the_next_run_goes_on(comfy_server):
    before = loras(comfy_server)
    run = comfy_server.submit(training(steps=1000, name="fox_long"))
    while True:
        message = run.until("progress")
        if message["type"] != "progress" or message["data"]["value"] >= 5:
            break
    comfy_server.interrupt()
    with pytest.raises(PromptError) as error:
        run.finish()
    assert error.value.kind == "execution_interrupted"
    (left,) = set(loras(comfy_server)) - set(before)
    step = int(left.removeprefix("fox_long_step").removesuffix(".safetensors"))
    assert [*comfy_server.base.glob(f"cache/training/*/checkpoints/step-{step:08d}")]
    prompt = text_to_video(lora=1.0, steps=2, frames=5)
    prompt["lora"]["inputs"]["lora"] = left
    prompt["shown"] = node("PreviewAny", source=["lora", 1])
    history = comfy_server.run_prompt(prompt)
    assert torch.isfinite(latents(history)).all()
    (text,) = history.outputs["shown"]["text"]
    assert "Trigger: a grey wall" in text
    assert f"steps {step}" in text
    said = report_of(comfy_server.run_prompt(training(steps=step + 1, name="fox_long")))
    assert f"Resuming after step {step}." in said
    assert loras(comfy_server) == sorted([*before, left, "fox_long.safetensors"])

    # Fewer steps than done are refused: steps cannot be taken back.
    with pytest.raises(PromptError) as error:
        comfy_server.run_prompt(training(steps=step - 1, name="fox_few"))
    assert f"has done {step + 1} steps" in str(error.value)


def test_samples_are_shown_while_it_trains_and_kept(comfy_server):
    settings = {"sample_every": 2, "sample_prompt": "a red fox", "seed": 5, "name": "fox_shown"}
    history = comfy_server.run_prompt(training(steps=4, **settings))
    assert len(history.previews) == 2
    said = report_of(history)
    (folder,) = {path.parent for path in comfy_server.base.glob("cache/training/*/samples/*.png")}
    assert sorted(path.name for path in folder.glob("*.png")) == [
        "step-00000002.png", "step-00000004.png"
    ]  # fmt: skip
    assert f"Samples: 2 in {folder}; they took " in said
    assert "% of the time" in said


class Attack:
    """Its unpickling makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def upload(server, name, content, subfolder, kind):
    """As the browser does; the status of the answer."""
    edge = uuid.uuid4().hex
    fields = {"type": kind, "subfolder": subfolder, "overwrite": "true"}
    parts = [f'name="{key}"\r\n\r\n{value}\r\n'.encode() for key, value in fields.items()]
    parts.append(f'name="image"; filename="{name}"\r\n\r\n'.encode() + content + b"\r\n")
    head = f"--{edge}\r\nContent-Disposition: form-data; ".encode()
    body = b"".join(head + part for part in parts) + f"--{edge}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    return status(server, "/upload/image", body, kind)


def status(server, path, body=None, headers=None):
    request = urllib.request.Request(server.url + path, body, headers or {})
    try:
        with DIRECT.open(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_what_is_uploaded_is_no_part_of_a_state(comfy_server):
    """Everything that requests can write is written where they can write, then a run goes on."""
    server = comfy_server
    marker = server.base / "marker"
    comfy_server.run_prompt(training(steps=2, name="fox_safe", seed=11))
    states = server.base.rglob("checkpoints/step-*")
    state = max(states, key=lambda path: path.stat().st_mtime_ns)
    before = {file.name: file.read_bytes() for file in state.iterdir()}
    names = [*before, "custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl"]
    names += ["scheduler.bin", "position.json", "pytorch_model.bin"]
    pickled = pickle.dumps(Attack(marker), 2)
    below = "/".join(state.parts[-3:])
    for kind in ("input", "output", "temp"):
        (server.base / kind).mkdir(exist_ok=True)
        across = os.path.relpath(state, server.base / kind)
        for name in names:
            for folder in (f"EasyAnimate_training/{below}", f"training/{below}"):
                assert upload(server, name, pickled, folder, kind) == 200
            assert upload(server, name, pickled, across, kind) >= 400
            where = urllib.parse.urlencode({"filename": name, "subfolder": across, "type": kind})
            assert status(server, f"/view?{where}") >= 400
    across = urllib.parse.quote(os.path.relpath(state, server.base / "user" / "default"), safe="")
    for name in names:
        assert status(server, f"/userdata/{across}%2F{name}?overwrite=true", pickled) >= 400
    assert {file.name: file.read_bytes() for file in state.iterdir()} == before
    said = report_of(server.run_prompt(training(steps=3, name="fox_safe", seed=11)))
    assert "Resuming after step 2." in said
    assert "EasyAnimate_training is from an earlier version" in said
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a/b"}, "it contains a folder. Give a file name without a folder"),
        ({"name": "nul"}, "it is the name of a device on Windows"),
        ({"frames_per_clip": 9}, "the number of images must be a multiple of it"),
        ({"captions": ""}, "captions has no lines or an empty one"),
        ({"checkpoint": f"{V51}-Control"}, "needs a control video for every clip"),
        ({"checkpoint": f"{V51}-Control-Camera"}, "needs a camera path for every clip"),
    ],
)
def test_what_does_not_fit_is_refused(comfy_server, changes, said):
    with pytest.raises(PromptError) as error:
        comfy_server.run_prompt(training(**changes))
    assert said in str(error.value)


def test_states_lie_where_no_request_reaches(comfy_python, tmp_path):
    """Else they are refused; where the cache cannot be written they go with the process."""
    (tmp_path / "file").touch()
    found = run_script(comfy_python, "training_folder.py", str(tmp_path))
    assert found.pop("cache") == [str(tmp_path / "cache" / "training"), None]
    folder, note = found.pop("file")
    assert not folder.startswith(str(tmp_path))
    assert note.startswith("The state is lost when ComfyUI exits: ")
    assert sorted(found) == ["input", "models", "output", "temp", "user"]
    for refusal in found.values():
        assert "Set the environment variable EASYANIMATE_CACHE to a folder outside of it" in refusal


def test_nothing_of_training_is_imported_at_start(comfy_python):
    assert run_script(comfy_python, "start.py") == {"imported": []}


#: The pictures that a person sees on the training node, in both renderers.
PICTURES = """() => {
  const node = app.graph._nodes.find(({ type }) => type === 'EasyAnimateTrainLora')
  const drawn = document.querySelectorAll(`[data-node-id="${node.id}"] img`)
  return (node.imgs?.length ?? 0) + drawn.length
}"""
NOTE = """() => app.graph._nodes.flatMap((node) => {
  const element = node.widgets?.find(({ name }) => name === 'note')?.element
  return element && node.type === 'EasyAnimateTrainLora' ? [element.textContent] : []
}).join()"""


@pytest.mark.newest_frontend
@pytest.mark.parametrize("drawn", ["canvas", "vue"])
def test_a_sample_is_seen_on_the_node_and_cancel_says_what_is_left(
    comfy_server, browser_page, drawn, tmp_path
):
    page = browser_page.page
    prompt = training(
        steps=5000, name=f"fox_{drawn}", seed=7, sample_every=2, sample_prompt="a red fox"
    )
    browser_page.set_setting("Comfy.VueNodes.Enabled", drawn == "vue")
    try:
        browser_page.open_prompt({name: prompt[name] for name in ("images", "train")})
        page.evaluate("() => app.queuePrompt(0)")
        page.wait_for_function(f"({PICTURES})() > 0", timeout=240_000)
        page.wait_for_timeout(1000)
        browser_page.screenshot(tmp_path / f"{drawn}.png")
        comfy_server.interrupt()
        page.wait_for_function(f"({NOTE})().includes('Cancelled after step ')", timeout=120_000)
        browser_page.screenshot(tmp_path / f"{drawn}-cancelled.png")
    finally:
        comfy_server.interrupt()
        browser_page.set_setting("Comfy.VueNodes.Enabled", False)
    assert f"fox_{drawn}_step" in page.evaluate(NOTE).splitlines()[0]
