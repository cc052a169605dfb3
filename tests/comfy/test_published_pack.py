"""The pack as it is published, without what only its repository has, in a real ComfyUI."""

from dataclasses import replace

import pytest

from easyanimate_core import small_model
from easyanimate_core.models.specs import Head
from tests.comfy import prompts
from tests.comfy.server import Server
from tests.nodes.test_package import needs_weights, publish
from tools.comfyui_base import PACK, link


@pytest.fixture(scope="module")
def published_server(comfyui, tmp_path_factory):
    """A server with the published pack, and with the files that the other one lists."""
    base = tmp_path_factory.mktemp("published") / "base"
    pack = publish(base / "custom_nodes" / PACK)
    for folder in ("input", "models", "output"):
        link(base / folder, comfyui.base / folder)
    for folder in ("temp", "user"):
        (base / folder).mkdir()
    server = Server(
        replace(comfyui, base=base, pack=pack), EASYANIMATE_CACHE=str(base.parent / "cache")
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


@needs_weights
def test_the_small_model_generates(published_server):
    name = next(name for name, head in small_model.NAMES.items() if head is Head.INPAINT)
    done = published_server.run_prompt(prompts.text_to_video(name, steps=2, frames=1))
    assert len(done.files("frames")) == 1
