"""Runs on a real server: previews, cancelling, many prompts."""

import re
import shutil
import time

import pytest
from safetensors.torch import load_file

from tests.comfy.prompts import LORA, V5, V51, node, text_to_video
from tests.comfy.server import PromptError

#: Seconds from Cancel to the end of the run, on a busy machine. That the run ends within a block is
#: shown in test_comfy_tools.py.
CANCEL_SECONDS = 5
MEBIBYTE = 2**20


def latents(history):
    """The latents that a run saved."""
    (file,) = history.files("latents")
    return load_file(file)["latent_tensor"]


def alive(server):
    """Live objects by class, and bytes of live tensors."""
    answer = server.get_json("/easyanimate_probe")
    return answer["objects"], answer["tensor_bytes"]


def settled(server):
    """What is alive when nothing is loaded and nothing cached."""
    for _ in range(10):
        server.free_memory()  # one that comes while a prompt is put away is heard at the next
        server.wait_until_idle()
        for _ in range(10):  # the server frees in its own time
            objects, size = alive(server)
            if not objects["Denoiser"]:
                return objects, size
            time.sleep(0.1)
    return objects, size


@pytest.mark.parametrize("ksampler", [False, True], ids=["own", "KSampler"])
def test_previews_arrive_at_every_step(comfy_server, ksampler):
    seed = 100 + ksampler
    history = comfy_server.run_prompt(text_to_video(seed=seed, steps=6, ksampler=ksampler))
    assert len(history.previews) == 6
    assert all(preview.image[:2] == b"\xff\xd8" for preview in history.previews)  # JPEG
    steps = [value for name, value, most in history.progress if name == "sample" and most == 6]
    assert steps[-1] == 6
    assert len(history.files("frames")) == 9


def interrupted(server, prompt, node):
    """Cancel a prompt when `node` reports its progress; seconds until it ended, and the error."""
    run = server.submit(prompt)
    while run.until("progress")["data"].get("node") != node:
        pass
    began = time.monotonic()
    server.interrupt()
    with pytest.raises(PromptError) as error:
        run.finish()
    return time.monotonic() - began, error.value


@pytest.mark.parametrize("node", ["sample", "decode"])
def test_cancel_ends_the_run_and_leaves_nothing_behind(comfy_server, node):
    before = latents(comfy_server.run_prompt(text_to_video(lora=1.0, seed=1)))
    objects, size = settled(comfy_server)
    slow = {
        "sample": {"steps": 200, "side": 512},
        "decode": {"steps": 1, "side": 384, "frames": 49},
    }
    prompt = text_to_video(lora=1.0, seed=2, **slow[node])
    seconds, error = interrupted(comfy_server, prompt, node)
    assert error.kind == "execution_interrupted"
    assert error.node_id == node
    assert seconds < CANCEL_SECONDS

    after = comfy_server.run_prompt(text_to_video(lora=1.0, seed=1))
    assert latents(after).equal(before)  # the LoRA acts once
    objects_after, size_after = settled(comfy_server)
    assert objects_after == objects
    assert size_after <= size + MEBIBYTE


def test_twenty_prompts_in_a_row_do_not_grow(comfy_server):
    checkpoints = [V51, f"{V51}-InP", V5, f"{V5}-InP"]
    measured = []
    for index in range(20):
        checkpoint = checkpoints[index % 4]
        lora = (index % 3) / 2 if checkpoint.startswith(V51) and index % 3 else None
        prompt = text_to_video(checkpoint, seed=1000 + index, steps=2, lora=lora)
        comfy_server.run_prompt(prompt)
        comfy_server.wait_until_idle()
        measured.append((*alive(comfy_server), comfy_server.rss_bytes()))
    # After the first round everything has been loaded once; from then on each round is as the last.
    first, last = measured[7], measured[19]
    assert last[0]["Denoiser"] <= first[0]["Denoiser"]
    assert last[0]["VideoVAE"] <= first[0]["VideoVAE"]
    assert last[0]["TextModel"] <= first[0]["TextModel"]
    assert last[0]["ScheduledSampler"] == 0
    assert last[1] <= first[1] + MEBIBYTE
    assert last[2] <= first[2] + 64 * MEBIBYTE


def test_a_missing_checkpoint_is_explained_before_anything_runs(comfy_server):
    with pytest.raises(PromptError) as error:
        comfy_server.run_prompt(text_to_video("EasyAnimateV9"))
    assert error.value.kind == "refused"
    assert "There is no checkpoint folder 'EasyAnimateV9'" in str(error.value)
    assert "models/EasyAnimate" in str(error.value)


def test_a_run_that_succeeds_warns_of_nothing(comfy_server):
    comfy_server.free_memory()
    comfy_server.wait_until_idle()
    before = len(comfy_server.log_text())
    comfy_server.run_prompt(text_to_video(seed=77, steps=1, frames=5, lora=0.5))
    said = comfy_server.log_text()[before:]
    assert "Prompt executed" in said
    assert "VAE weights" not in said
    assert not re.search(r"(?i)\b(warn(ing)?|error|traceback|not loaded|fail(ed)?)\b", said), said


def test_an_error_is_shown_by_its_own_name(comfy_server):
    prompt = text_to_video("small (built in): InP", steps=1, frames=9)
    prompt["clip"] = node("EmptyImage", width=64, height=64, batch_size=2, color=0)
    prompt["latent"] = node(
        "EasyAnimateVideoToVideo",
        vae=["load", 2],
        video=["clip", 0],
        width=64,
        height=64,
        length=9,
        batch_size=1,
        source_fps=8.0,
        if_short="refuse",
        strict=False,
    )
    with pytest.raises(PromptError) as error:
        comfy_server.run_prompt(prompt)
    assert error.value.exception_type == "easyanimate_core.errors.InputError"
    assert (
        "Use 1 frame, a longer clip, or repeat its last frame (if_short: repeat last frame)."
        in (error.value.message)
    )


def test_a_missing_published_checkpoint_is_explained_by_the_command_that_gets_it(comfy_server):
    name = "EasyAnimateV5.1-12b-zh-InP"
    with pytest.raises(PromptError) as error:
        comfy_server.run_prompt(text_to_video(name))
    ((fault,),) = (errors["errors"] for errors in error.value.node_errors.values())
    install = comfy_server.installation.pack / "install.py"
    begins = (
        rf"checkpoint - Run \S+( -s)? {re.escape(str(install))} {name} \(39 GB\), or the node "
        "EasyAnimate Download Model, then press R to refresh the list. There is no checkpoint"
    )
    assert re.match(begins, fault["details"]), fault


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "No file is chosen. Put one into "),
        ("EasyAnimateV5-7b-zh-InP-MPS.safetensors", "install.py --loras EasyAnimateV5-7b-zh-InP-M"),
        ("EasyAnimateV5.1-7b-zh-InP.safetensors", "Put the file there, then press R"),
    ],
)
def test_a_missing_lora_is_explained(comfy_server, name, said):
    prompt = text_to_video(lora=1.0, steps=1, frames=1)
    prompt["lora"]["inputs"]["lora"] = name
    with pytest.raises(PromptError) as error:
        comfy_server.run_prompt(prompt)
    assert said in str(error.value)


def test_a_missing_denoiser_leads_to_the_whole_folder(comfy_server):
    prompt = {
        "load": node(
            "EasyAnimateLoadDiffusionModel",
            diffusion_model="EasyAnimateV5.1-12b-zh.safetensors",
            weight_dtype="default",
        ),
        "shown": node("PreviewAny", source=["load", 1]),
    }
    with pytest.raises(PromptError, match=r"install.py EasyAnimateV5.1-12b-zh \(39 GB\)") as error:
        comfy_server.run_prompt(prompt)
    assert "load the whole folder with EasyAnimate Load Checkpoint" in str(error.value)


def test_a_prompt_that_was_saved_on_windows_finds_its_files(comfy_server):
    loras = comfy_server.base / "models" / "loras"
    (loras / "painted").mkdir(exist_ok=True)
    shutil.copy(loras / LORA, loras / "painted" / "wolf.safetensors")
    prompt = text_to_video(lora=1.0, steps=1, frames=1)
    prompt["lora"]["inputs"]["lora"] = "painted\\wolf.safetensors"
    prompt["kept"] = node(
        "EasyAnimateSaveConditioning",
        positive=["text", 0],
        negative=["text", 1],
        filename_prefix="foxes\\red",
    )
    comfy_server.run_prompt(prompt)
    kept = comfy_server.base / "output" / "EasyAnimate_embeddings"
    assert [file.name for file in (kept / "foxes").iterdir()] == ["red_00001_.safetensors"]
    prompt["read"] = node("EasyAnimateLoadConditioning", embeddings="foxes\\red_00001_.safetensors")
    prompt["sample"]["inputs"]["positive"] = ["read", 0]
    comfy_server.run_prompt(prompt)

    prompt["lora"]["inputs"]["lora"] = "painted\\bear.safetensors"
    with pytest.raises(PromptError, match=r"There is no file .*bear"):
        comfy_server.run_prompt(prompt)
    prompt["lora"]["inputs"]["lora"] = LORA
    prompt["kept"]["inputs"]["filename_prefix"] = "fox: a tale"
    with pytest.raises(PromptError, match="Windows does not allow : in it"):
        comfy_server.run_prompt(prompt)
