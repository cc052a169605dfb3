"""What nodes say in the browser, with prompts, names and files that try to be HTML."""

import json
import shutil

import pytest
import torch

from easyanimate_core.text import PromptEmbeddings, TextStates, write_embeddings
from tests.comfy.prompts import LORA, V51
from tools.workflows.canvas import FOLDER

#: The flag is set when a frontend takes the text for HTML; each part is another way there.
TAG = "<img src=x onerror='window.hurt=1'>"
HOSTILE = (
    f"{TAG}<svg onload=window.hurt=1><b>bold</b> &lt;i&gt; [x](javascript:window.hurt=1) "
    '[[a|https://e.x/"onmouseover=window.hurt=1]] __LNK0__ https://e.x/"onmouseover=1 <u unclosed '
)
NAMED = f"{TAG}.safetensors"
#: The beginning of a saved file's name, which may hold no tag: not every system could write it.
ENTITIES = "&lt;img src=x onerror='window.hurt=1'&gt;"
NEGATIVE = "blurred " * 5000
TOO_LONG = "a " * 250 + HOSTILE
RUN = """async ([checkpoint, lora, tooLong, prefix]) => {
  window.hurt = 0
  app.clean()
  app.graph.clear()
  const add = (type, x, y, values = {}) => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    node.pos = [x, y]
    for (const widget of node.widgets ?? [])
      if (widget.name in values) widget.value = values[widget.name]
    return node
  }
  const options = (node, name) => {
    const { values } = node.widgets.find((widget) => widget.name === name).options
    return typeof values === 'function' ? values() : values
  }
  const load = add('EasyAnimateLoadCheckpoint', 0, 0, { checkpoint })
  const text = add('EasyAnimateTextEncode', 400, 0, { positive: tooLong })
  const save = add('EasyAnimateSaveConditioning', 800, 0, { filename_prefix: prefix })
  const change = add('EasyAnimateLoadLora', 0, 450)
  const read = add('EasyAnimateLoadConditioning', 400, 450)
  for (const [node, name] of [[change, 'lora'], [read, 'embeddings']])
    node.widgets[0].value = options(node, name).find((option) => option.includes('img'))
  const shown = [add('PreviewAny', 1200, 450), add('PreviewAny', 1200, 700)]
  load.connect(0, change, 0)
  load.connect(1, text, 0)
  text.connect(0, save, 0)
  text.connect(1, save, 1)
  change.connect(1, shown[0], 0)
  read.connect(2, shown[1], 0)
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [250, 80]
  app.canvas.setDirty(true, true)
  await app.queuePrompt(0)
}"""
#: By the type of the node: what a person sees on it.
NOTES = """() => Object.fromEntries(app.graph._nodes.flatMap((node) => {
  const element = node.widgets?.find(({ name }) => name === 'note')?.element
  return element ? [[node.type, element.innerText || element.textContent]] : []
}))"""
#: Where the middle of a node's first widget is on the screen.
FIRST_WIDGET = """(type) => {
  const node = app.graph._nodes.find((node) => node.type === type)
  const [left, top] = app.canvas.ds.offset
  const widget = node.widgets[0]
  const y = widget.last_y ?? widget.y
  return [left + node.pos[0] + node.size[0] / 2, top + node.pos[1] + y + 10]
}"""
#: A node with a note, as its run leaves it.
SAY = """(text) => {
  app.clean()
  app.graph.clear()
  const node = LiteGraph.createNode('EasyAnimateTextEncode')
  app.graph.add(node)
  node.pos = [0, 0]
  node.setSize([360, 420])
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [80, 200]
  app.canvas.setDirty(true, true)
  app.api.dispatchEvent(
    new CustomEvent('easyanimate-note', { detail: { node: String(node.id), text } }),
  )
}"""
SAY_MORE = """(text) => app.api.dispatchCustomEvent(
  'easyanimate-note', { node: String(app.graph._nodes[0].id), text },
)"""
SAY_ALL = """() => app.graph._nodes.forEach(({ id: node }) =>
  app.api.dispatchCustomEvent('easyanimate-note', { node, text: 'Said.' }))"""
LEAST_CONTRAST = 4.5  # WCAG 2, AA
#: Of a text and of what is drawn behind it; on the canvas, a note's colour is its node's.
CONTRAST = """(selector) => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number)
  const light = (colour) => {
    const [r, g, b] = numbers(colour).slice(0, 3).map((value) => value / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  return [...document.querySelectorAll(selector)].filter((each) => each.checkVisibility())
    .map((element) => {
      let behind = element
      const filled = () => (numbers(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 1
      while (behind.parentElement && !filled()) behind = behind.parentElement
      const [one, other] = [getComputedStyle(element).color,
        getComputedStyle(behind).backgroundColor].map(light).sort((a, b) => b - a)
      return (one + 0.05) / (other + 0.05)
    })
}"""
TEXTS = ".ea-note, .comfy-markdown-content, .comfy-markdown-content *"
CHECKED = ("EasyAnimateTextEncode", "EasyAnimateLoadConditioning", "EasyAnimateSaveConditioning")


@pytest.fixture(scope="module")
def hostile_files(comfy_server):
    """A LoRA and embeddings whose names and texts are HTML, where the server looks for them."""
    base = comfy_server.base
    loras, embeddings = base / "models" / "loras", base / "output" / "EasyAnimate_embeddings"
    shutil.copy(loras / LORA, loras / NAMED)
    states = TextStates(torch.zeros(1, 256, 32))
    write_embeddings(
        embeddings / NAMED, PromptEmbeddings(states, states, (HOSTILE.strip(),), NEGATIVE)
    )
    yield
    (loras / NAMED).unlink()
    shutil.rmtree(embeddings)


@pytest.fixture(params=["canvas", "vue"])
def page(browser_page, request):
    browser_page.set_setting("Comfy.VueNodes.Enabled", request.param == "vue")
    browser_page.reload()  # it asks for the names of files
    yield browser_page
    browser_page.page.evaluate("() => app.graph.clear()")
    browser_page.set_setting("Comfy.VueNodes.Enabled", False)
    assert not browser_page.page_errors


@pytest.mark.newest_frontend
@pytest.mark.usefixtures("hostile_files")
def test_texts_are_shown_as_they_are(page, comfy_server, request, tmp_path):
    drawn = request.node.callspec.params["page"]
    is_old = comfy_server.version.startswith("0.8.")
    prefix = f"{drawn} {ENTITIES}"
    comfy_server.free_memory()  # what is cached is not run again and says nothing
    page.page.evaluate(RUN, [V51, LORA, f"{drawn} {TOO_LONG}", prefix])
    page.page.wait_for_timeout(500)
    comfy_server.wait_until_idle()
    page.page.wait_for_timeout(1500)  # what is HTML has run by then
    page.page.screenshot(path=tmp_path / "notes.png")

    notes = page.page.evaluate(NOTES)
    assert set(notes) >= {*CHECKED, "EasyAnimateLoadCheckpoint", "EasyAnimateLoadLora"}
    assert TAG in notes["EasyAnimateTextEncode"]
    assert HOSTILE.strip() in notes["EasyAnimateLoadConditioning"]
    assert NEGATIVE[:9000] in notes["EasyAnimateLoadConditioning"]
    assert len(notes["EasyAnimateLoadConditioning"]) < 10_200
    assert prefix in notes["EasyAnimateSaveConditioning"]
    if not (is_old and drawn == "vue"):  # its nodes of HTML show no widgets that come later
        assert page.page.locator(".ea-note:visible").count() == len(notes)
    assert page.page.locator(".ea-note *").count() == 0

    if drawn == "canvas":
        for node in ("EasyAnimateLoadLora", "EasyAnimateLoadConditioning"):
            page.page.mouse.click(*page.page.evaluate(FIRST_WIDGET, node))
            menu = page.page.locator(".litecontextmenu")
            menu.wait_for()
            assert TAG in menu.inner_text().replace("\N{WORD JOINER}", "")
            page.page.wait_for_timeout(500)
            page.page.keyboard.press("Escape")
            page.page.mouse.click(1700, 900)
    assert page.page.evaluate("() => window.hurt") == 0
    assert page.page.evaluate("() => JSON.stringify(app.graph.serialize())").count("ea-note") == 0


@pytest.mark.newest_frontend
@pytest.mark.parametrize("window", [(900, 760), (1920, 1080)], ids=str)
def test_the_side_panel_leaves_a_note_as_it_is(page, comfy_server, window, tmp_path):
    """Its size is the node's, and the panel has no empty place for it."""
    if comfy_server.version.startswith("0.8."):
        pytest.skip("its nodes of HTML show no widgets that come later, and its panel is another")
    tab = page.page
    before = tab.viewport_size
    tab.set_viewport_size({"width": window[0], "height": window[1]})
    page.close_side_panel()
    tab.evaluate(SAY, "A report. " * 60)
    tab.wait_for_timeout(700)
    note, panel = tab.locator(".ea-note"), tab.get_by_test_id("properties-panel")
    toggle = tab.get_by_label("Toggle properties panel").first
    box = note.bounding_box()
    assert box["width"] > 300
    try:
        for state in ("open", "closed"):
            toggle.click()
            tab.mouse.click(200, 185)  # the node's title
            tab.wait_for_timeout(700)
            tab.screenshot(path=tmp_path / f"{state}.png")
            if state == "open":
                assert "positive" in panel.inner_text()
                assert not panel.locator("canvas, .ea-note").count()
            tab.evaluate("() => app.canvas.deselectAll()")
            tab.wait_for_timeout(300)
            assert note.bounding_box() == box, state
    finally:
        page.close_side_panel()
        tab.set_viewport_size(before)


@pytest.mark.newest_frontend
def test_a_long_text_scrolls_and_makes_no_node_taller(page, comfy_server, request, tmp_path):
    if comfy_server.version.startswith("0.8."):
        pytest.skip("its nodes of HTML show no widgets that come later")
    tab = page.page
    heights = []
    for text in ("Short.", "A long report. " * 200):
        tab.evaluate(SAY if not heights else SAY_MORE, text)
        tab.wait_for_timeout(900)
        node = tab.locator("[data-node-id]:has(.ea-note)")
        if request.node.callspec.params["page"] == "vue":
            heights.append(node.first.bounding_box()["height"])
        else:
            heights.append(tab.evaluate("() => app.graph._nodes[0].size[1]"))
    note = tab.locator(".ea-note")
    tab.screenshot(path=tmp_path / "long.png")
    assert heights[0] == heights[1]
    assert note.bounding_box()["height"] >= 40
    assert note.evaluate("(note) => note.scrollHeight > note.clientHeight")


@pytest.mark.newest_frontend
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_notes_are_readable_in_every_theme(page, comfy_server, theme, tmp_path):
    """Those of the workflows are drawn by the canvas unless nodes are of HTML."""
    if comfy_server.version.startswith("0.8."):
        pytest.skip("its nodes of HTML show no widgets that come later")
    workflow = json.loads((FOLDER / "1 Try it - text.json").read_text(encoding="utf-8"))
    tab = page.page
    try:
        page.set_setting("Comfy.ColorPalette", theme)
        page.open_workflow(workflow)
        tab.evaluate(SAY_ALL)
        tab.wait_for_timeout(1000)
        tab.screenshot(path=tmp_path / "notes.png")
        found = tab.evaluate(CONTRAST, TEXTS)
        assert found
        assert min(found) >= LEAST_CONTRAST, found
    finally:
        page.set_setting("Comfy.ColorPalette", "dark")
