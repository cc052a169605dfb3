"""Texts of the nodes and the pack's metadata, as a real ComfyUI has them."""

import contextlib
import json
from pathlib import Path

import pytest

from tests.nodes.test_package import publish
from tools import locales
from tools.comfyui import DIRECT

ROOT = Path(__file__).parents[2]
METADATA = """
import json, sys
from comfy_config.config_parser import extract_node_configuration
print(extract_node_configuration(sys.argv[1]).model_dump_json())
"""
LOADED = """
import asyncio, sys
extension = asyncio.run(load_pack(sys.argv[1]).comfy_entrypoint())
nodes = asyncio.run(extension.get_node_list())
print(len([node for node in nodes if not node.define_schema().is_deprecated]))
"""
#: What the open frontend calls a node: its title, sockets and widgets, by the names of the code.
LABELS = """(id) => {
  const node = window.LiteGraph.createNode(id)
  const label = (slot) => slot.label ?? slot.localized_name ?? slot.name
  const sockets = node.inputs.filter((input) => !input.widget)
  const widgets = (node.widgets ?? []).filter((w) => w.name !== 'control_after_generate')
  return {
    title: node.title,
    inputs: Object.fromEntries([...sockets, ...widgets].map((slot) => [slot.name, label(slot)])),
    outputs: node.outputs.map(label),
  }
}"""


@pytest.fixture(scope="session")
def nodes(comfy_python):
    return [node for node in everything(comfy_python) if not node.is_original]


def everything(comfy_python):
    """The nodes of this pack and those under the original's ids."""
    return locales.read_nodes(comfy_python.run_script(locales.SCRIPT))


def test_every_text_is_there(nodes):
    assert len({node.id for node in nodes}) == len(nodes) >= 14
    for node in nodes:
        assert node.id.startswith("EasyAnimate")
        assert node.display_name.startswith("EasyAnimate ")
        assert node.category.startswith("EasyAnimate/")
        texts = [node.description, *(tooltip for _, _, tooltip in node.outputs)]
        texts += [entry.settings.get("tooltip") for entry in node.inputs]
        for text in texts:
            assert text, f"{node.id} lacks a text"
            assert text.strip() == text, f"{node.id}: {text!r}"
            assert text.endswith("."), f"{node.id}: {text!r}"


def test_defaults_are_within_their_limits(nodes):
    for node in nodes:
        for entry in node.inputs:
            settings, where = entry.settings, f"{node.id}.{entry.name}"
            if entry.type in ("INT", "FLOAT"):
                assert settings["min"] <= settings["default"] <= settings["max"], where
            if entry.type == "INT":
                assert (settings["default"] - settings["min"]) % settings.get("step", 1) == 0, where
            if entry.type == "FLOAT":  # without them the frontend rounds to one digit
                assert settings["round"] <= settings["step"], where
                steps = settings["default"] / settings["round"]
                assert abs(steps - round(steps)) < 1e-6, where
            if entry.type == "COMBO" and "default" in settings:
                assert settings["default"] in settings["options"], where
            if entry.type in ("BOOLEAN", "STRING"):
                assert "default" in settings, where


def test_locales_and_help_pages_follow_from_the_code(comfy_python):
    nodes = everything(comfy_python)
    stale = [
        path.relative_to(ROOT).as_posix()
        for path, text in locales.generated(nodes).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run: python -m tools.locales"
    assert not locales.left_to_write(nodes)


def test_a_changed_limit_changes_the_page(nodes):
    sampler = next(node for node in nodes if node.id == "EasyAnimateSampler")
    page = (ROOT / "web/docs/EasyAnimateSampler/en.md").read_text(encoding="utf-8")
    texts = locales.english(nodes)[sampler.id]
    steps = next(entry for entry in sampler.inputs if entry.name == "steps")
    steps.settings["max"] += 1
    assert locales.with_tables(page, sampler, texts, "en") != page
    steps.settings["max"] -= 1
    assert locales.with_tables(page, sampler, texts, "en") == page


def fetch(server, path):
    with DIRECT.open(server.url + path, timeout=60) as response:
        return response.headers["Content-Type"], response.read().decode("utf-8")


def test_the_server_gives_the_help_pages_that_the_frontend_asks_for(comfy_server):
    """Its order: docs/NODE/LANGUAGE.md of the pack's folder, then docs/NODE.md."""
    asked = 0
    for node, info in comfy_server.object_info().items():
        package, _, pack = info["python_module"].partition(".")
        if package != "custom_nodes" or not node.startswith("EasyAnimate") or info["deprecated"]:
            continue
        for page in (f"{node}/en.md", f"{node}/zh.md", f"{node}.md"):
            kind, text = fetch(comfy_server, f"/extensions/{pack}/docs/{page}")
            assert "text/html" not in kind  # the frontend takes that for a missing page
            assert text == (ROOT / "web" / "docs" / page).read_text(encoding="utf-8")
            asked += 1
    assert asked >= 3 * 14


def test_the_server_gives_the_page_of_the_original_s_nodes(comfy_server):
    old = {k: v for k, v in comfy_server.object_info().items() if k == "LoadEasyAnimateModel"}
    _, _, pack = old["LoadEasyAnimateModel"]["python_module"].partition(".")
    for page, language in (("LoadEasyAnimateModel.md", "en"), ("LoadEasyAnimateModel/zh.md", "zh")):
        _, text = fetch(comfy_server, f"/extensions/{pack}/docs/{page}")
        assert text == locales.ORIGINAL[language].read_text(encoding="utf-8")


def test_the_server_gives_the_translations(comfy_server):
    served = comfy_server.get_json("/i18n")
    for language in locales.WORDS:
        texts = locales.read_texts(language)
        assert {k: served[language]["nodeDefs"].get(k) for k in texts} == texts
        categories = locales.read_texts(language, "main.json")["nodeCategories"]
        assert categories.items() <= served[language]["nodeCategories"].items()


def test_the_frontend_shows_the_translations(comfy_server, browser):
    from tests.comfy.browser import READY, SETTINGS, ComfyPage

    with contextlib.closing(ComfyPage(browser, comfy_server)) as frontend:
        comfy_server.post_json("/settings", {"Comfy.Locale": "zh"})
        try:
            frontend.page.reload()
            frontend.page.wait_for_function(READY)
            for node, texts in locales.read_texts("zh").items():
                shown = frontend.page.evaluate(LABELS, node)
                assert shown["title"] == texts["display_name"]
                labels = {k.replace(".", "_"): label for k, label in shown["inputs"].items()}
                labels.pop("track_editor", None)  # no input: it edits the text of `tracks`
                # Of a dynamic combo's inputs the frontend has those of the choice.
                of_choice = {k.split(".")[0] + "_" for k in shown["inputs"] if "." in k}
                assert labels == {
                    key: text["name"]
                    for key, text in texts["inputs"].items()
                    if key in labels or not key.startswith(tuple(of_choice))
                }
                assert shown["outputs"] == [text["name"] for text in texts["outputs"].values()]
            assert not frontend.page_errors
        finally:
            comfy_server.post_json("/settings", SETTINGS)


def test_comfyui_reads_the_metadata(comfy_python):
    read = json.loads(comfy_python.run_script(METADATA, ROOT).splitlines()[-1])
    project, comfy = read["project"], read["tool_comfy"]
    assert project["name"] == "easyanimate-nodes"
    assert project["license"]["file"] == "LICENSE"
    assert project["supported_comfyui_version"] == ">=0.8.0"
    assert project["supported_os"] == ["OS Independent"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert project["dependencies"] == [line for line in lines if not line.startswith("#")]
    assert project["urls"]["repository"].endswith("/ComfyUI-EasyAnimate")
    assert comfy["display_name"] == "EasyAnimate"
    assert comfy["publisher_id"]
    assert comfy["web"] is None  # __init__.py says it, under the name of the folder


def test_what_is_installed_loads(comfy_python, nodes, tmp_path):
    """The pack without what .comfyignore leaves out, in a folder of another name."""
    pack = publish(tmp_path / "easyanimate-nodes")
    said = comfy_python.run_script(LOADED, pack)
    assert int(said.splitlines()[-1]) == len(nodes)
