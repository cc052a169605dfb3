"""Nodes of the ready-made workflows lie apart and inside their groups, in every renderer.

Nodes 2.0 draws nodes taller than the canvas does, and a node grows once it has reported on its run.
"""

import json
from itertools import combinations

import pytest

from tools.workflows.canvas import FOLDER, TITLE

#: Above a node's position; what a pixel of the screen is at this scale is within the slack.
SCALE, SLACK = 0.6, 2
REPORT = "The clip was scaled from 1280 x 720 to 672 x 384 and cropped by 8 pixels."
OPEN = """async ([workflow, scale, report]) => {
  await app.loadGraphData(workflow)
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [40, 60]
  const nodes = app.graph._nodes.filter(({ comfyClass }) => comfyClass?.startsWith('EasyAnimate'))
  for (const { id } of nodes)
    app.api.dispatchCustomEvent('easyanimate-note', { node: id, text: report })
  app.canvas.setDirty(true, true)
}"""
#: Left, top, width and height of every node in the graph's units, the title included.
RECTANGLES = """(title) => {
  const { scale, offset } = app.canvas.ds
  const isVue = Boolean(LiteGraph.vueNodesMode)
  const canvas = app.canvas.canvas.getBoundingClientRect()
  return Object.fromEntries(app.graph._nodes.map((node) => {
    const label = `${node.id} (${node.title})`
    if (!isVue)
      return [label, [node.pos[0], node.pos[1] - title, node.size[0], node.size[1] + title]]
    const found = [...document.querySelectorAll(`[data-node-id="${node.id}"]`)]
    const boxes = found.map((element) => element.getBoundingClientRect())
    const box = boxes.sort((one, other) => other.height - one.height)[0]
    const left = (box.left - canvas.left) / scale - offset[0]
    const top = (box.top - canvas.top) / scale - offset[1]
    return [label, [left, top, box.width / scale, box.height / scale]]
  }))
}"""
GROUPS = "() => app.graph._groups.map(({ pos, size }) => [...pos, ...size])"


def faults(rectangles, groups):
    """Pairs of nodes that cover each other, and nodes that stick out of their group."""
    edges = {
        name: (left, top, left + wide, top + high)
        for name, (left, top, wide, high) in rectangles.items()
    }
    found = [
        (one, other)
        for (one, a), (other, b) in combinations(edges.items(), 2)
        if min(a[2], b[2]) - max(a[0], b[0]) > SLACK and min(a[3], b[3]) - max(a[1], b[1]) > SLACK
    ]
    for name, (left, top, right, bottom) in edges.items():
        inside = [
            x - SLACK < left
            and y - SLACK < top
            and right < x + w + SLACK
            and bottom < y + h + SLACK
            for x, y, w, h in groups
        ]
        if not any(inside):
            found.append((name, "leaves its group", round(bottom)))
    return found


@pytest.mark.campaign
@pytest.mark.newest_frontend
@pytest.mark.parametrize("drawn", ["canvas", "vue"])
def test_nothing_overlaps_once_nodes_have_reported(browser_page, comfy_server, tmp_path, drawn):
    if drawn == "vue" and comfy_server.version.startswith("0.8."):
        pytest.skip("its nodes of HTML are unfinished and show no widgets that come later")
    browser_page.set_setting("Comfy.VueNodes.Enabled", drawn == "vue")
    page = browser_page.page
    found = {}
    try:
        for file in sorted(FOLDER.glob("*.json")):
            workflow = json.loads(file.read_text(encoding="utf-8"))
            page.evaluate(OPEN, [workflow, SCALE, REPORT])
            page.wait_for_timeout(400)
            wrong = faults(page.evaluate(RECTANGLES, TITLE), page.evaluate(GROUPS))
            if wrong:
                found[file.stem] = wrong
                page.screenshot(path=tmp_path / f"{file.stem}.png")
    finally:
        browser_page.set_setting("Comfy.VueNodes.Enabled", False)
        browser_page.close_dialogs()
    assert not found
