"""EasyAnimate Enhance Prompt in the browser: what it wrote is readable, and can be changed."""

import pytest

from tests.comfy.prompts import V51

RUN = """async ([checkpoint, seed]) => {
  app.clean()
  app.graph.clear()
  const add = (type, x, values = {}) => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    node.pos = [x, 0]
    for (const widget of node.widgets ?? [])
      if (widget.name in values) widget.value = values[widget.name]
    return node
  }
  const load = add('EasyAnimateLoadTextEncoder', 0, { text_encoder: checkpoint })
  const write = add('EasyAnimateEnhancePrompt', 400, { prompt: 'A dog runs.', seed, edited: '' })
  const preview = add('PreviewAny', 900)
  write.setSize([420, 560])
  load.connect(0, write, 0)
  write.connect(0, preview, 0)
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [250, 120]
  app.canvas.setDirty(true, true)
  await app.queuePrompt(0)
}"""
NOTE = """() => {
  const node = app.graph._nodes.find(({ type }) => type === 'EasyAnimateEnhancePrompt')
  return node.widgets.find(({ name }) => name === 'note')?.element.textContent ?? ''
}"""
BOX = """() => {
  const node = app.graph._nodes.find(({ type }) => type === 'EasyAnimateEnhancePrompt')
  const { height, width } = node.widgets.find(({ name }) => name === 'note').element
    .getBoundingClientRect()
  return [width, height]
}"""
OWN = "A dog runs over a wide field. " * 12


def said(page, known):
    """The note once it is another than `known`."""
    page.wait_for_function(
        f"(known) => (({NOTE})() || known) !== known", arg=known, timeout=120_000
    )
    return page.evaluate(NOTE)


@pytest.mark.newest_frontend
@pytest.mark.parametrize("drawn", ["canvas", "vue"])
def test_the_long_prompt_is_shown_and_can_be_changed(browser_page, comfy_server, tmp_path, drawn):
    if comfy_server.version.startswith("0.8."):
        pytest.skip("the server part is what is tried with it")
    browser_page.set_setting("Comfy.VueNodes.Enabled", drawn == "vue")
    page = browser_page.page
    try:
        comfy_server.free_memory()  # what is cached is not run again and says nothing
        page.evaluate(RUN, [V51, 7])
        written = said(page, "")
        width, height = page.evaluate(BOX)
        assert width > 250
        assert height >= 55
        page.screenshot(path=tmp_path / f"{drawn} written.png")
        field = page.locator("textarea:visible:not([readonly])").last
        field.fill(OWN)
        field.blur()
        page.evaluate("() => app.queuePrompt(0)")
        shown = said(page, written)
        assert shown.startswith(OWN)
        assert "nothing was written" in shown
        page.screenshot(path=tmp_path / f"{drawn} edited.png")
        assert not browser_page.page_errors
    finally:
        page.evaluate("() => app.graph.clear()")
        browser_page.set_setting("Comfy.VueNodes.Enabled", False)
