"""The pack as it is published, without what only its repository has, in a real ComfyUI."""

import json
from dataclasses import replace

import pytest

from easyanimate_core import small_model
from easyanimate_core.media import read_video
from easyanimate_core.models.specs import Head
from tests.comfy.server import Server
from tests.nodes.test_package import needs_weights
from tests.nodes.test_registry_tool import pack, unpack
from tools.comfyui_base import PACK, link


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("registry") / "clone")


@pytest.fixture(scope="module")
def fresh_server(comfyui, archive, tmp_path_factory):
    """A server of a ComfyUI that has no models and only the published zip, under its own name."""
    base = tmp_path_factory.mktemp("fresh") / "base"
    folder = unpack(archive, base / "custom_nodes" / "easyanimate-nodes")
    for name in ("input", "models", "output", "temp", "user"):
        (base / name).mkdir()
    server = Server(
        replace(comfyui, base=base, pack=folder), EASYANIMATE_CACHE=str(base.parent / "cache")
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def published_server(comfyui, archive, tmp_path_factory):
    """A server with the published pack, and with the files that the other one lists."""
    base = tmp_path_factory.mktemp("published") / "base"
    folder = unpack(archive, base / "custom_nodes" / PACK)
    for folder in ("input", "models", "output"):
        link(base / folder, comfyui.base / folder)
    for folder in ("temp", "user"):
        (base / folder).mkdir()
    server = Server(
        replace(comfyui, base=base, pack=folder), EASYANIMATE_CACHE=str(base.parent / "cache")
    )
    server.start()
    yield server
    server.stop()


def own_nodes(server):
    return {
        name: info for name, info in server.object_info().items() if name.startswith("EasyAnimate")
    }


def test_its_nodes_are_those_of_the_repository(comfy_server, published_server):
    nodes = own_nodes(published_server)
    assert len(nodes) >= 14
    assert nodes == own_nodes(comfy_server)


def is_trial_of_text(workflow):
    """Text to video with the small V5.1, whatever the workflow's name is."""
    kinds = [node["type"] for node in workflow["nodes"]]
    loaded = [
        node["widgets_values"][0]
        for node in workflow["nodes"]
        if node["type"] == "EasyAnimateLoadCheckpoint"
    ]
    return (
        len(loaded) == 1
        and loaded[0] == small_model.list_name(Head.INPAINT)
        and "EasyAnimateEmptyLatentVideo" in kinds
        and not any(kind.startswith(("Load", "VHS_", "EasyAnimateLoadLora")) for kind in kinds)
    )


@needs_weights
def test_the_first_workflow_runs_as_it_is_shipped(fresh_server):
    convert = pytest.importorskip("comfy_cli.workflow_to_api").convert_ui_to_api
    files = (fresh_server.installation.pack / "workflows").glob("*.json")
    workflows = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    (workflow,) = filter(is_trial_of_text, workflows)
    done = fresh_server.run_prompt(convert(workflow, fresh_server.object_info()))
    (video,) = (file for file in done.files() if file.suffix == ".mp4")
    assert len(read_video(video).frames) == small_model.SIZE[0]
    assert " not loaded" not in fresh_server.log_text()
    assert not list((fresh_server.base / "models").rglob("*.safetensors"))
