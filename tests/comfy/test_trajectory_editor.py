"""The track editor of EasyAnimate Trajectory, used with the mouse and the keys of a browser.

Every test runs with nodes drawn on the canvas and with nodes of HTML ("Nodes 2.0").
"""

import json
import time
from dataclasses import dataclass, field

import pytest

MARGIN = 12  # around the picture, in CSS pixels
DEFAULT = '[{"x": 168, "y": 192}, {"x": 504, "y": 192}]'
VALUES = {"width": 672, "height": 384, "length": 49, "tracks": DEFAULT}
#: New frontends remember widgets by the node's id, also over a cleared graph: hence the values.
#: Clean: what nodes showed is kept by the node's id too.
MAKE = """(values) => {
  app.clean()
  app.graph.clear()
  const load = LiteGraph.createNode('LoadImage')
  app.graph.add(load)
  load.pos = [0, 0]
  load.widgets[0].value = 'astronaut.png'
  load.widgets[0].callback?.('astronaut.png')
  const node = LiteGraph.createNode('EasyAnimateTrajectory')
  app.graph.add(node)
  node.pos = [400, 0]
  load.connect(0, node, 'reference_image')
  for (const widget of node.widgets)
    if (widget.name in values) widget.value = values[widget.name]
}"""
LOOK = """([scale, x, y]) => {
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [x, y]
  app.canvas.setDirty(true, true)
}"""
NODE = "app.graph._nodes.find((node) => node.type === 'EasyAnimateTrajectory')"
SET = f"""([name, value]) => {{
  const widget = {NODE}.widgets.find((widget) => widget.name === name)
  widget.value = value
  widget.callback?.(value)
}}"""
GET = f"(name) => {NODE}.widgets.find((widget) => widget.name === name).value"
#: Where the mouse takes the lower right corner of the node, in both ways of drawing nodes.
CORNER = f"""() => {{
  const shown = document.querySelector('.ea-tracks').closest('[data-node-id]')
  const box = shown?.getBoundingClientRect()
  if (box) return [box.right - 3, box.bottom - 3]
  const [node, [left, top]] = [{NODE}, app.canvas.ds.offset]
  return [left + node.pos[0] + node.size[0] - 3, top + node.pos[1] + node.size[1] - 3]
}}"""


@dataclass
class Editor:
    """The editor of the one Trajectory node of the open graph."""

    frontend: object
    zoom: float = 1.0
    errors: list[str] = field(default_factory=list)

    @property
    def page(self):
        return self.frontend.page

    @property
    def text(self):
        return self.page.evaluate(GET, "tracks")

    @property
    def tracks(self):
        return json.loads(self.text)

    @property
    def message(self):
        return self.page.locator(".ea-tracks-message").inner_text()

    def get(self, selector):
        return self.page.locator(f".ea-tracks {selector}")

    def named(self, label):
        found = self.page.locator(".ea-tracks").get_by_label(label)
        return found.and_(self.page.locator(":not(.ea-tracks-keys)"))

    def set(self, name, value):
        self.page.evaluate(SET, [name, value])
        self.settle()

    def settle(self):
        """Longer than the editor's look at what changed outside, by the page's own clock."""
        self.page.evaluate("() => new Promise(done => setTimeout(done, 350))")

    def look(self, zoom=1.0, x=200.0, y=80.0):
        self.zoom = zoom
        self.page.evaluate(LOOK, [zoom, x, y])
        self.page.wait_for_timeout(500)

    def place(self, x, y):
        """Where a pixel of the result is on the screen."""
        box = self.get("canvas").bounding_box()
        width, height = (self.page.evaluate(GET, name) for name in ("width", "height"))
        inner = [box[side] - 2 * MARGIN * self.zoom for side in ("width", "height")]
        scale = min(inner[0] / width, inner[1] / height)
        return (
            box["x"] + (box["width"] - width * scale) / 2 + x * scale,
            box["y"] + (box["height"] - height * scale) / 2 + y * scale,
        )

    def click(self, x, y, **options):
        self.page.mouse.click(*self.place(x, y), **options)

    def drag(self, start, end):
        self.page.mouse.move(*self.place(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(*end), steps=5)
        self.page.mouse.up()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def pixels(self):
        """What the canvas shows, as text to compare."""
        self.page.wait_for_timeout(100)
        return self.page.evaluate("() => document.querySelector('.ea-tracks canvas').toDataURL()")


@pytest.fixture(params=["canvas", "vue"])
def editor(browser_page, request):
    """A new node with its editor in view; afterwards nothing of ours may have gone wrong."""
    page = browser_page.page
    browser_page.close_dialogs()
    browser_page.page_errors.clear()
    opened = Editor(browser_page)

    def listen(message):
        ours = "EasyAnimate" in message.text or "trajectory" in message.location.get("url", "")
        if message.type in ("error", "warning") and ours:
            opened.errors.append(message.text)

    page.on("console", listen)
    browser_page.set_setting("Comfy.VueNodes.Enabled", request.param == "vue")
    page.evaluate(MAKE, VALUES)
    page.wait_for_timeout(700)
    opened.look()
    yield opened
    page.remove_listener("console", listen)
    page.evaluate("() => app.graph.clear()")
    browser_page.set_setting("Comfy.VueNodes.Enabled", False)
    assert not opened.errors
    assert not browser_page.page_errors


def near(point, x, y, within=2):
    return abs(point["x"] - x) <= within and abs(point["y"] - y) <= within


@pytest.mark.newest_frontend
def test_the_editor_is_in_the_node_and_no_value_of_it(editor):
    assert editor.get("canvas").is_visible()
    saved = editor.page.evaluate(f"() => {NODE}.serialize().widgets_values")
    assert saved == [672, 384, 49, 1, DEFAULT, 1, 0, 1, False]
    inputs = editor.page.evaluate(
        "async () => Object.values((await app.graphToPrompt()).output)"
        ".find((node) => node.class_type === 'EasyAnimateTrajectory').inputs"
    )
    assert inputs["tracks"] == DEFAULT
    assert "track_editor" not in inputs
    box, node = editor.get("canvas").bounding_box(), editor.page.evaluate(f"() => {NODE}.size")
    assert box["width"] > 300
    assert box["height"] > 200
    assert box["width"] < node[0]


@pytest.mark.parametrize("zoom", [1.0, 0.6])
def test_clicks_add_points_at_their_pixels(editor, zoom):
    editor.look(zoom)
    editor.click(336, 64)
    first, second, third = editor.tracks
    assert [first, second] == json.loads(DEFAULT)
    assert near(third, 336, 64, within=3)
    editor.click(336, 192)  # on the line from the first to the second
    assert near(editor.tracks[1], 336, 192, within=3)
    assert len(editor.tracks) == 4


@pytest.mark.newest_frontend
def test_a_drag_moves_a_point_and_is_one_step_back(editor):
    editor.drag((168, 192), (268, 92))
    assert near(editor.tracks[0], 268, 92)
    assert editor.tracks[1] == {"x": 504, "y": 192}
    editor.press("Control+z")
    assert editor.text == DEFAULT
    editor.press("Control+Shift+Z")
    assert near(editor.tracks[0], 268, 92)


def test_points_are_removed_and_come_back(editor):
    editor.click(168, 192)
    assert editor.text == DEFAULT
    editor.press("Delete")
    assert editor.tracks == [{"x": 504, "y": 192}]
    assert editor.page.evaluate(f"() => Boolean({NODE})"), "Delete reached the node"
    editor.press("Control+z")
    assert editor.text == DEFAULT
    editor.click(504, 192, button="right")
    assert editor.tracks == [{"x": 168, "y": 192}]
    assert not editor.frontend.page.locator(".litecontextmenu, .p-contextmenu").count()
    editor.press("Control+z")
    editor.page.keyboard.down("Alt")
    editor.click(168, 192)
    editor.page.keyboard.up("Alt")
    assert editor.tracks == [{"x": 504, "y": 192}]
    editor.click(504, 192, click_count=2)
    assert editor.tracks == []
    editor.click(100, 100, click_count=2)  # adds one, and leaves it there
    assert near(editor.tracks[0], 100, 100)
    editor.press(*["Control+z"] * 3)
    assert editor.text == DEFAULT
    assert editor.named("Undo").is_disabled()
    assert editor.page.evaluate(GET, "width") == 672  # the workflow's own undo did not run


def test_the_keys_move_and_choose_points(editor):
    editor.click(168, 192)
    editor.press("ArrowRight", "Shift+ArrowUp")
    assert editor.tracks[0] == {"x": 169, "y": 182}
    editor.press("PageDown", "ArrowDown")
    assert editor.tracks[1] == {"x": 504, "y": 193}
    assert "Point 2 of track 1 at 504, 193" in editor.get(".ea-tracks-keys").get_attribute(
        "aria-label"
    )


def test_tracks_and_what_they_say_of_themselves(editor):
    editor.named("Spline").check()
    assert editor.tracks == [{"points": json.loads(DEFAULT), "spline": True}]
    editor.named("Size").fill("1.5")
    editor.named("Size").press("Enter")
    assert editor.tracks[0]["size"] == 1.5
    editor.click(504, 192)
    editor.named("Visible").uncheck()
    editor.named("Time").fill("0.25")
    editor.named("Time").press("Enter")
    last = {"x": 504, "y": 192, "t": 0.25, "visible": False}
    assert editor.tracks[0]["points"][1] == last
    editor.named("Add a track").click()
    editor.click(100, 300)
    first, second = editor.tracks
    assert first["points"][1] == last
    assert near(second[0], 100, 300)
    assert len(second) == 1
    editor.get("select").select_option("Track 1")
    editor.named("Remove this track").click()
    assert editor.tracks == second
    editor.press("Control+z")
    assert editor.tracks == [first, second]


def test_the_text_redraws_and_bad_text_is_kept(editor):
    before = editor.pixels()
    editor.set("tracks", '[{"x": 100, "y": 50}, {"x": 600, "y": 350}]')
    assert editor.pixels() != before
    field = editor.page.locator("textarea").first
    field.fill('[{"x": 100, "y": 50}, {"x": 600')
    editor.settle()
    assert "not valid JSON" in editor.message
    editor.click(336, 64)
    editor.press("Delete", "Control+z")
    assert editor.text == '[{"x": 100, "y": 50}, {"x": 600'
    field.fill("[[{'x': 100, 'y': 50}], [{'x': 1, 'y': 2}]]")
    editor.settle()
    assert editor.message == ""
    assert editor.get("option").all_inner_texts() == ["Track 1", "Track 2"]


def test_size_and_picture_are_the_node_s(editor):
    astronaut = editor.pixels()
    editor.set("width", 384)
    narrow = editor.pixels()
    assert narrow != astronaut
    editor.page.evaluate(f"() => {NODE}.disconnectInput('reference_image')")
    editor.settle()
    assert editor.pixels() != narrow
    editor.set("width", 672)
    assert editor.pixels() != astronaut


def test_what_a_node_showed_in_the_last_run_is_behind_the_tracks(editor):
    astronaut = editor.pixels()
    editor.page.evaluate(
        f"""() => {{
          const [load] = app.graph.findNodesByType('LoadImage')
          const invert = LiteGraph.createNode('ImageInvert')
          const preview = LiteGraph.createNode('PreviewImage')
          for (const node of [invert, preview]) app.graph.add(node)
          load.connect(0, invert, 'image')
          invert.connect(0, preview, 'images')
          invert.connect(0, {NODE}, 'reference_image')
        }}"""
    )
    editor.settle()
    grid = editor.pixels()
    assert grid != astronaut
    editor.page.evaluate("() => app.queuePrompt(0)")
    end = time.monotonic() + 60
    while editor.pixels() == grid and time.monotonic() < end:
        editor.settle()
    assert editor.pixels() not in (grid, astronaut)


def test_times_increase(editor):
    editor.click(336, 192)
    for given, kept in (("0.4", 0.4), ("1", 0.999), ("0", 0.001)):
        editor.named("Time").fill(given)
        editor.named("Time").press("Enter")
        point = editor.tracks[0]["points"][1]
        assert point["t"] == kept
        assert editor.named("Time").input_value() == str(kept)
        said = editor.get(".ea-tracks-hint").inner_text()
        assert ("from 0.001 to 0.999" in said) == (str(kept) != given)
    editor.set("tracks", '[{"x": 1, "y": 2, "t": 0.5}, {"x": 1, "y": 2, "t": 0.5}]')
    assert "Point 2 of track 1 is not reached after the one in front of it" in editor.message


def test_time_moves_the_blobs(editor):
    start = editor.pixels()
    slider = editor.named("Frame")
    slider.fill("24")
    middle = editor.pixels()
    assert middle != start
    assert editor.get(".ea-tracks-frame").inner_text() == "25 / 49"
    editor.set("length", 9)
    assert editor.get(".ea-tracks-frame").inner_text() == "9 / 9"
    editor.named("Play").click()
    seen, end = set(), time.monotonic() + 10
    while len(seen) < 3 and time.monotonic() < end:
        seen.add(editor.get(".ea-tracks-frame").inner_text())
    assert len(seen) == 3
    editor.named("Pause").click()
    assert editor.text == DEFAULT


@pytest.mark.newest_frontend
def test_a_saved_workflow_comes_back(editor):
    editor.click(336, 64)
    editor.named("Spline").check()
    text, workflow = editor.text, editor.frontend.workflow()
    (saved,) = (node for node in workflow["nodes"] if node["type"] == "EasyAnimateTrajectory")
    saved["size"] = [400, 420]  # as before there was an editor
    editor.frontend.open_workflow(workflow)
    editor.look()
    assert editor.get("canvas").bounding_box()["height"] > 200
    assert editor.text == text
    assert editor.named("Spline").is_checked()
    assert editor.get("canvas").count() == 1
    values = editor.page.evaluate(f"() => {NODE}.serialize().widgets_values")
    assert values == [672, 384, 49, 1, text, 1, 0, 1, False]
    (prompt,) = (
        node
        for node in editor.frontend.graph_to_prompt().values()
        if node["class_type"] == "EasyAnimateTrajectory"
    )
    assert prompt["inputs"]["tracks"] == text


def test_linked_tracks_are_not_edited(editor):
    editor.page.evaluate(
        f"""() => {{
          const source = LiteGraph.createNode('PrimitiveStringMultiline')
          app.graph.add(source)
          source.pos = [0, 500]
          source.connect(0, {NODE}, 'tracks')
        }}"""
    )
    editor.settle()
    assert "another node" in editor.message
    editor.click(336, 64)
    assert editor.text == DEFAULT


@pytest.mark.newest_frontend
def test_the_editor_grows_with_the_node(editor, comfy_server, request):
    before = editor.get("canvas").bounding_box()
    corner = editor.page.evaluate(CORNER)
    editor.page.mouse.move(*corner)
    editor.page.mouse.down()
    editor.page.mouse.move(corner[0] + 200, corner[1] + 150, steps=8)
    editor.page.mouse.up()
    editor.page.wait_for_timeout(500)
    after = editor.get("canvas").bounding_box()
    assert after["width"] > before["width"] + 150
    # The frontend of ComfyUI 0.8 keeps widgets of its HTML nodes at their least height.
    if (comfy_server.version[:3], request.node.callspec.params["editor"]) != ("0.8", "vue"):
        assert after["height"] > before["height"] + 50
    editor.click(336, 64)
    assert near(editor.tracks[2], 336, 64)


@pytest.fixture
def window(editor, request):
    """The browser's window in another size; afterwards the side panel is closed."""
    page = editor.page
    before, (width, height) = page.viewport_size, request.param
    page.set_viewport_size({"width": width, "height": height})
    editor.frontend.close_side_panel()
    yield request.param
    editor.frontend.close_side_panel()
    page.set_viewport_size(before)


@pytest.mark.newest_frontend
@pytest.mark.parametrize("window", [(900, 760), (2560, 1440)], indirect=True, ids=str)
@pytest.mark.parametrize("width", [230, 800])
def test_the_side_panel_leaves_the_editor_as_it_is(editor, window, width, tmp_path, comfy_server):
    if comfy_server.version.startswith("0.8."):
        pytest.skip("its panel moves widgets of HTML out of their node")
    page = editor.page
    page.evaluate(f"(width) => {NODE}.setSize([width, {NODE}.size[1]])", width)
    # The panel covers the right part of a narrow window.
    view = (0.45 if width > window[0] / 2 else 1.0, -330.0, -230.0)
    editor.look(*view)
    before = editor.get("canvas").bounding_box()
    toggle = page.get_by_label("Toggle properties panel").first
    panel = page.get_by_test_id("properties-panel")
    tracks = [[168, 192], [504, 192]]
    for number, state in enumerate(("closed", "open", "closed again")):
        if number:
            toggle.click()
            page.wait_for_timeout(300)
            editor.look(1.0, -330.0, 150.0)
            page.mouse.click(220, 135)  # the node's title
            editor.look(*view)
            page.screenshot(path=tmp_path / f"{state}.png")
            if state == "open":
                assert "tracks" in panel.inner_text()
                assert not panel.locator("canvas, .ea-tracks").count(), "an empty place"
            page.evaluate("() => app.canvas.deselectAll()")
            page.wait_for_timeout(300)
        assert editor.get("canvas").bounding_box() == before, state
        frame = page.locator(".ea-tracks").bounding_box()
        for element in editor.get(":is(button, select, input:not(.ea-tracks-keys))").all():
            box = element.bounding_box()
            assert frame["x"] < box["x"], state
            assert box["x"] + box["width"] < frame["x"] + frame["width"], state
            assert box["y"] + box["height"] < frame["y"] + frame["height"], state
        tracks.append([100 + 200 * number, 320])
        editor.click(*tracks[-1])
        a_pixel = 672 / (before["width"] - 2 * MARGIN * editor.zoom)
        assert near(editor.tracks[-1], *tracks[-1], within=2 * a_pixel), state
        assert len(editor.tracks) == len(tracks)
    drawn = editor.tracks
    editor.named("Undo (Ctrl+Z)").click()
    assert editor.tracks == drawn[:-1]
    editor.named("Redo (Ctrl+Shift+Z)").click()
    assert editor.tracks == drawn
    editor.named("Remove this track").click()
    assert editor.tracks == []


@pytest.mark.newest_frontend
def test_very_many_tracks(editor):
    """They are drawn and edited in bearable time."""
    many = [[{"x": x, "y": y} for x in range(0, 672, 7)] for y in range(0, 300, 2)]
    editor.set("tracks", json.dumps(many))
    started = time.monotonic()
    editor.click(336, 360)
    changed = editor.tracks
    assert time.monotonic() - started < 10
    assert len(changed) == len(many)
    assert sum(map(len, changed)) == sum(map(len, many)) + 1
    editor.press("Control+z")
    assert editor.tracks == many


def test_the_wheel_zooms_the_graph(editor):
    editor.page.mouse.move(*editor.place(336, 64))
    editor.page.mouse.wheel(0, -200)
    editor.page.wait_for_timeout(500)
    assert 1 < editor.page.evaluate("() => app.canvas.ds.scale") < 1.5


def test_chinese(editor):
    page = editor.frontend
    page.set_setting("Comfy.Locale", "zh")
    try:
        said = editor.page.locator(".ea-tracks").get_by_text("单击添加点")
        end = time.monotonic() + 30
        while not said.count() and time.monotonic() < end:
            # Some frontends open their last workflow again a moment after the language changed.
            page.page.evaluate(MAKE, VALUES)
            editor.look()  # a node that is out of view has no HTML
        assert editor.named("曲线").count() == 1
    finally:
        page.set_setting("Comfy.Locale", "en")
