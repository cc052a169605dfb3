"""The download node on real servers, against a hub on this machine."""

import shutil

import pytest

from tests.comfy.prompts import V51, node
from tests.comfy.server import PromptError, Server
from tests.hub_server import files_of, hub_of

NAME = "EasyAnimateV5.1-12b-zh-InP"
LARGE = "text_encoder/large.safetensors"


@pytest.fixture(scope="module")
def hub(prepared_base):
    """The tiny checkpoint of the tests, published under another name."""
    files = files_of(prepared_base / "models" / "EasyAnimate" / V51)
    with hub_of({f"alibaba-pai/{NAME}": files, f"PAI/{NAME}": files}) as server:
        yield server


@pytest.fixture(scope="module")
def server(comfyui, hub):
    server = Server(comfyui, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0", MODELSCOPE_ENDPOINT=hub.url)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def folder(server):
    """Where the model goes; it is not there at first, nor afterwards."""
    folder = server.base / "models" / "EasyAnimate" / NAME
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def download(**inputs):
    choices = {"model": NAME, "source": "huggingface", "allow_download": True, **inputs}
    return {
        "download": node("EasyAnimateDownload", **choices),
        "report": node("PreviewAny", source=["download", 1]),
    }


def report_of(history):
    (text,) = history.outputs["report"]["text"]
    return text


def test_nothing_is_fetched_unless_it_is_allowed(server, hub, folder):
    hub.requests.clear()
    for _ in range(2):  # the report is about the moment, and never from the cache
        report = report_of(server.run_prompt(download(allow_download=False)))
        assert report.startswith(f"alibaba-pai/{NAME}: ")
        assert f"into {folder}. Licence: Apache-2.0. Graphics memory, as published: 16" in report
        assert report.endswith("Nothing was downloaded: turn on allow_download first.")
    assert [r.path.split("?")[0] for r in hub.requests] == [f"/api/models/alibaba-pai/{NAME}"] * 2
    assert not folder.exists()
    default = server.object_info("EasyAnimateDownload")["input"]["required"]["allow_download"]
    assert default[1]["default"] is False


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_what_is_fetched_can_be_loaded_in_the_same_run(server, hub, folder, source):
    prompt = download(source=source)
    prompt["load"] = node("EasyAnimateLoadCheckpoint", checkpoint=["download", 0],
                          weight_dtype="default", text_device="default")  # fmt: skip
    prompt["loaded"] = node("PreviewAny", source=["load", 3])
    history = server.run_prompt(prompt)
    assert report_of(history).endswith(f"{NAME} is complete: {folder}")
    assert history.outputs["loaded"]["text"][0].startswith("EasyAnimate V5.1 ")
    steps = [(done, total) for name, done, total in history.progress if name == "download"]
    assert steps[-1][0] == steps[-1][1] > 0
    (published,) = {len(files) for files in hub.repositories.values()}
    assert len(files_of(folder)) == published
    listed = server.object_info("EasyAnimateLoadCheckpoint")["input"]["required"]["checkpoint"]
    assert NAME in listed[1]["options"]
    server.run_prompt(prompt)
    assert {"download", "load"} <= server.run_prompt(prompt).cached


def test_cancel_stops_it_and_the_next_run_goes_on(server, hub, folder):
    files = hub.repositories[f"alibaba-pai/{NAME}"]
    files[LARGE] = bytes(range(256)) * 16384
    hub.faults.slow[LARGE] = 0.3
    run = server.submit(download())
    while True:
        message = run.until("progress")
        if message["type"] != "progress" or message["data"]["value"] > (1 << 20):
            break
    server.interrupt()
    with pytest.raises(PromptError) as error:
        run.finish()
    assert error.value.kind == "execution_interrupted"
    (part,) = folder.rglob("*.part")
    there = part.stat().st_size
    assert 0 < there < len(files[LARGE])
    assert LARGE not in files_of(folder)
    hub.faults.slow.clear()
    hub.requests.clear()
    server.run_prompt(download())
    assert [r.headers.get("range") for r in hub.asked(LARGE)] == [f"bytes={there}-"]
    assert files_of(folder)[LARGE] == files.pop(LARGE)


def test_errors_end_the_run_with_the_reason(server, hub, folder):
    hub.faults.status["api"] = 401
    with pytest.raises(PromptError) as error:
        server.run_prompt(download())
    hub.faults.status.clear()
    assert error.value.node_id == "download"
    assert "denies access (HTTP 401)" in error.value.message
    with pytest.raises(PromptError, match="is not on modelscope; it is on huggingface"):
        server.run_prompt(download(model=f"{V51}-diffusers", source="modelscope"))
    assert not folder.exists()
