"""A workflow in a ComfyUI without weights: what a person sees, and whether it says what to do."""

import json
from dataclasses import replace

import pytest

from tests.comfy.browser import ComfyPage
from tests.comfy.server import Server
from tools.comfyui_base import PACK, link
from tools.workflows.canvas import FOLDER


@pytest.fixture(scope="module")
def bare_server(comfyui, tmp_path_factory):
    """A server of a ComfyUI that has this pack and no models."""
    base = tmp_path_factory.mktemp("bare") / "base"
    for name in ("custom_nodes", "input", "models", "output", "temp", "user"):
        (base / name).mkdir(parents=True)
    pack = base / "custom_nodes" / PACK
    link(pack, comfyui.pack.resolve())
    server = Server(
        replace(comfyui, base=base, pack=pack), EASYANIMATE_CACHE=str(base.parent / "cache")
    )
    server.start()
    yield server
    server.stop()


@pytest.mark.newest_frontend
@pytest.mark.parametrize("drawn", ["canvas", "vue"])
def test_run_says_on_the_node_how_to_get_the_weights(bare_server, browser, drawn, tmp_path):
    if drawn == "vue" and bare_server.version.startswith("0.8."):
        pytest.skip("its nodes of HTML show no widgets that come later")
    page = ComfyPage(browser, bare_server)
    tab = page.page
    try:
        page.set_setting("Comfy.VueNodes.Enabled", drawn == "vue")
        page.reload()
        workflow = json.loads((FOLDER / "2 Text to video.json").read_text(encoding="utf-8"))
        assert not page.open_workflow(workflow).dialogs
        page.command("Comfy.QueuePrompt")
        note = tab.locator(".ea-note")
        note.first.wait_for()
        tab.screenshot(path=tmp_path / "refused.png")
        assert note.count() == 1
        said = note.inner_text()
        assert said.startswith("Run ")
        assert (
            "install.py EasyAnimateV5.1-7b-zh (30 GB), or the node EasyAnimate Download Model"
            in said
        )
        assert not page.page_errors
    finally:
        page.set_setting("Comfy.VueNodes.Enabled", False)
        page.close()


FRESH = """() => {
  app.graph.clear()
  const add = (type) => app.graph.add(LiteGraph.createNode(type)) ?? app.graph._nodes.at(-1)
  const vae = add('EasyAnimateLoadVAE')
  const latent = add('EasyAnimateEmptyLatentVideo')
  const [decode, preview] = [add('VAEDecode'), add('PreviewImage')]
  latent.connect(0, decode, 0)
  vae.connect(0, decode, 1)
  decode.connect(0, preview, 0)
}"""


@pytest.mark.newest_frontend
def test_a_fresh_loader_without_files_says_where_they_belong(bare_server, browser):
    page = ComfyPage(browser, bare_server)
    try:
        page.page.evaluate(FRESH)
        page.command("Comfy.QueuePrompt")
        note = page.page.locator(".ea-note")
        note.first.wait_for()
        assert note.inner_text().startswith("No file is chosen. Put one into ")
        assert "press R" in note.inner_text()
    finally:
        page.close()
