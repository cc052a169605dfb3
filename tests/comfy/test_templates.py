"""The ready-made workflows as a person meets them: cards in order, texts in the page's language."""

import json

import pytest

from tests.comfy.browser import ComfyPage
from tools.comfyui_base import PACK
from tools.workflows.canvas import FOLDER, TEXTS

NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))
CARDS = """() => [...document.querySelectorAll('[data-testid^=template-workflow-]')]
  .map(({ dataset }) => dataset.testid.replace('template-workflow-', ''))"""
#: What a person reads on the graph, by id: titles, notes, the labels of inputs; titles of groups.
READ = """() => ({
  nodes: Object.fromEntries(app.graph._nodes.map((node) => [node.id, {
    title: node.title,
    text: node.widgets?.find(({ name }) => name === 'text')?.value,
    labels: Object.fromEntries((node.inputs ?? []).map(({ name, label }) => [name, label])),
  }])),
  groups: app.graph._groups.map(({ title }) => title),
})"""
RENAME = "([id, title]) => { app.graph.getNodeById(id).title = title }"
TITLE = "My prompts"


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def texts_of(workflow):
    return workflow["extra"][TEXTS]["zh"]


def labelled():
    """The name of a workflow with labels of its own."""
    return next(n for n in NAMES if any("labels" in t for t in texts_of(read(n))["nodes"].values()))


def untranslated(page, workflow):
    """The Chinese texts that the page does not show once it has opened the workflow."""
    page.open_workflow(workflow)
    found, wanted = page.page.evaluate(READ), texts_of(workflow)
    missing = [
        (node, kind, text)
        for node, texts in wanted["nodes"].items()
        for kind, text in flat(texts).items()
        if flat(found["nodes"][node]).get(kind) != text
    ]
    return missing + [title for title in wanted["groups"] if title not in found["groups"]]


def flat(texts):
    """A node's texts by kind, with those of its inputs by their names."""
    labels = {f"label of {name}": label for name, label in texts.get("labels", {}).items()}
    return {kind: texts.get(kind) for kind in ("title", "text") if kind in texts} | labels


@pytest.fixture
def chinese_page(comfy_server, browser):
    """A page of its own, which a change of the language cannot reach later."""
    page = ComfyPage(browser, comfy_server)
    page.set_setting("Comfy.Locale", "zh")
    page.reload()  # the workflow that is open does not change its language
    yield page
    page.set_setting("Comfy.Locale", "en")
    errors = list(page.page_errors)
    page.close()
    assert not errors


@pytest.mark.newest_frontend
@pytest.mark.parametrize("name", ["1 Try it - text", labelled()])
def test_a_chinese_page_shows_chinese_texts(chinese_page, name):
    assert not untranslated(chinese_page, read(name))


@pytest.mark.newest_frontend
def test_an_app_has_chinese_labels(chinese_page, comfy_server):
    if comfy_server.version.startswith("0.8."):
        pytest.skip("its frontend has no App mode")
    workflow = read(labelled())
    workflow["extra"]["linearMode"] = True
    wanted = {
        label
        for texts in texts_of(workflow)["nodes"].values()
        for label in texts.get("labels", {}).values()
    }
    page = chinese_page.page
    page.evaluate("async (workflow) => { await app.loadGraphData(workflow) }", workflow)
    page.get_by_test_id("app-mode-widget-item").first.wait_for()
    assert wanted <= set(page.get_by_test_id("builder-widget-label").all_inner_texts())


@pytest.mark.newest_frontend
def test_saved_titles_are_those_of_the_user(chinese_page):
    """They survive saving and opening again."""
    workflow = read("1 Try it - text")
    chinese_page.open_workflow(workflow)
    node = workflow["nodes"][2]["id"]
    chinese_page.page.evaluate(RENAME, [node, TITLE])
    saved = chinese_page.workflow()
    chinese_page.open_workflow(saved)
    again = chinese_page.page.evaluate(READ)
    assert again["nodes"][str(node)]["title"] == TITLE
    assert again["groups"] == texts_of(workflow)["groups"]
    assert TEXTS not in json.dumps(chinese_page.workflow())


@pytest.mark.newest_frontend
def test_an_english_page_shows_english_texts(browser_page):
    workflow = read(labelled())
    browser_page.open_workflow(workflow)
    found = browser_page.page.evaluate(READ)
    assert found["groups"] == [group["title"] for group in workflow["groups"]]
    for node in workflow["nodes"]:
        if "title" in node:
            assert found["nodes"][str(node["id"])]["title"] == node["title"]


@pytest.mark.newest_frontend
def test_cards_are_in_order(browser_page, tmp_path):
    """Those that try it first, as their names begin with numbers."""
    page = browser_page.page
    browser_page.command("Comfy.BrowseTemplates")
    page.wait_for_timeout(3000)
    page.screenshot(path=tmp_path / "browser.png")
    page.get_by_text(PACK, exact=True).first.click()
    page.wait_for_timeout(2000)
    page.screenshot(path=tmp_path / "cards.png")
    found = page.evaluate(CARDS)
    assert found == NAMES[: len(found)]
    assert len(found) > 4
