"""The blueprints: found by the search, placed as one node each, and run."""

import av
import pytest

from easyanimate_core import small_model
from easyanimate_core.models.specs import Head
from tools.workflows.blueprints import BLUEPRINTS, FOLDER

LENGTH, HEIGHT, WIDTH = small_model.SIZE
BY_MODE = {each.mode: each for each in BLUEPRINTS}
HEADS = {"Text to video": Head.INPAINT, "Image to video": Head.INPAINT, "Control": Head.CONTROL}
SOCKETS = {
    "Text to video": [],
    "Image to video": ["start_image", "end_image"],
    "Control": ["control_video", "reference_image"],
}
PLACED = """() => app.graph._nodes.map((node) => ({
  title: node.title,
  sockets: node.inputs.filter((input) => !input.widget).map(({ name }) => name),
  values: Object.fromEntries(node.widgets.map(({ name, value }) => [name, value])),
  outputs: node.outputs.map(({ type }) => type),
}))"""
#: Settings of the placed node, a picture for its first socket, and a file for its video.
COMPLETE = """([values, frames]) => {
  const [node] = app.graph._nodes
  for (const widget of node.widgets)
    if (widget.name in values) widget.value = values[widget.name]
  const save = LiteGraph.createNode('SaveVideo')
  app.graph.add(save)
  node.connect(0, save, 0)
  const socket = node.inputs.findIndex((input) => !input.widget)
  if (socket < 0) return
  const picture = LiteGraph.createNode('EmptyImage')
  app.graph.add(picture)
  for (const [name, value] of Object.entries({ width: 96, height: 96, batch_size: frames }))
    picture.widgets.find((widget) => widget.name === name).value = value
  picture.connect(0, node, socket)
}"""


def small_name(mode):
    return small_model.list_name(HEADS[mode])


def test_the_server_lists_them(comfy_server):
    found = {entry["name"] for entry in comfy_server.get_json("/global_subgraphs").values()}
    assert {each.name for each in BLUEPRINTS} <= found
    assert {file.stem for file in FOLDER.iterdir()} == {each.name for each in BLUEPRINTS}


@pytest.fixture(params=["canvas", "vue"])
def page(browser_page, comfy_server, request):
    """An empty graph, in one of the two ways of drawing nodes."""
    if comfy_server.version.startswith("0.8."):
        pytest.skip("its frontend's search is another")
    browser_page.set_setting("Comfy.VueNodes.Enabled", request.param == "vue")
    browser_page.reload()
    browser_page.close_side_panel()
    browser_page.page.evaluate("() => { app.clean(); app.graph.clear() }")
    browser_page.page.wait_for_timeout(6000)  # the frontend reads every blueprint
    yield browser_page
    browser_page.page.evaluate("() => app.graph.clear()")
    browser_page.set_setting("Comfy.VueNodes.Enabled", False)
    assert not browser_page.page_errors


@pytest.mark.campaign
@pytest.mark.newest_frontend
@pytest.mark.skipif(not small_model.is_installed(), reason="the small model is not there")
@pytest.mark.parametrize("mode", BY_MODE)
def test_it_is_found_placed_and_runs(page, comfy_server, mode, tmp_path):
    tab, name = page.page, BY_MODE[mode].name
    for _ in range(5):  # a busy page takes the first for two clicks
        tab.mouse.dblclick(1100, 800)
        tab.wait_for_timeout(2000)
        if tab.evaluate("() => document.activeElement?.tagName === 'INPUT'"):
            break
    tab.keyboard.type(name)
    tab.get_by_text(name, exact=True).first.wait_for()
    tab.screenshot(path=tmp_path / "search.png")
    tab.keyboard.press("Enter")
    tab.wait_for_timeout(3000)  # the node follows the mouse by then
    tab.mouse.click(700, 250)
    tab.wait_for_function(f"() => ({PLACED})().length")
    tab.screenshot(path=tmp_path / "placed.png")
    (placed,) = tab.evaluate(PLACED)
    assert placed["title"] == name
    assert placed["sockets"] == SOCKETS[mode]
    assert placed["outputs"] == ["VIDEO", "IMAGE"]
    values = placed["values"]
    assert values["positive"] == BY_MODE[mode].prompt
    assert (values["width"], values["height"], values["length"]) == (672, 384, 49)
    assert values["checkpoint"] == BY_MODE[mode].weights.folders[0]

    changed = {
        "positive": "A large red circle moves left on plain grey.",
        "width": WIDTH,
        "height": HEIGHT,
        "length": LENGTH,
        "steps": 2,
        "checkpoint": small_name(mode),
    }
    tab.evaluate(COMPLETE, [changed, LENGTH if mode == "Control" else 1])
    prompt = page.graph_to_prompt()
    inner = {entry["class_type"]: entry["inputs"] for entry in prompt.values()}
    assert inner["EasyAnimateLoadCheckpoint"]["checkpoint"] == changed["checkpoint"]
    assert inner["EasyAnimateSampler"]["steps"] == 2
    history = comfy_server.run_prompt(prompt)
    (file,) = [path for path in history.files() if path.suffix == ".mp4"]
    with av.open(str(file)) as container:
        frames = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert frames == [(WIDTH, HEIGHT)] * LENGTH
