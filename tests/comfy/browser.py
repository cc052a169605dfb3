"""ComfyUI's own frontend in a headless browser: workflows opened as a person opens them."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from tests.comfy.server import Server

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
WIDTH, HEIGHT = 1920, 1080
OPEN_SECONDS = 120
#: No template popup and tours at the first start; a picture without frame counter and map.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Locale": "en",
    "Comfy.OnboardingCoachmarks.Seen": ["appMode", "firstRun"],
}
READY = (
    "() => Boolean(window.app?.vueAppReady && window.app.extensionManager"
    " && window.LiteGraph?.registered_node_types['KSampler'])"
)
DIALOGS = ".p-dialog, [role=dialog], [role=alertdialog]"
#: Newer frontends collect a workflow's errors in an overlay of their own.
ERRORS = ".p-toast-message, [data-testid=error-overlay]"

#: What the open graph looks like to the frontend, subgraphs included.
REPORT = """(given) => {
  const app = window.app, found = {
    missing: [], nodes: [], broken_links: [], unconnected: [], invalid_values: [],
  }
  const known = (type) => type in window.LiteGraph.registered_node_types
  const graphs = [[app.graph.rootGraph ?? app.graph, '']]
  const root = graphs[0][0]
  for (const [id, subgraph] of root.subgraphs ?? []) graphs.push([subgraph, `${id}:`])
  for (const [graph, prefix] of graphs) {
    const isRoot = prefix === ''
    for (const node of graph._nodes) {
      const id = prefix + node.id, label = `${id} (${node.type})`
      found.nodes.push({
        id, type: node.type, title: node.title, mode: node.mode,
        pos: [node.pos[0], node.pos[1]], size: [node.size[0], node.size[1]],
      })
      if (!known(node.type)) found.missing.push(node.type)
      if (node.mode !== 0) continue
      const spec = node.constructor.nodeData?.input ?? {}
      for (const input of node.inputs ?? []) {
        if (input.link != null || input.widget) continue
        const optional = input.name in (spec.optional ?? {}) || input.shape === 7
        if (input.name in (spec.required ?? {}) || !optional)
          found.unconnected.push(`${label}: ${input.name}`)
      }
      for (const widget of node.widgets ?? []) {
        let values = widget.options?.values
        if (widget.type !== 'combo' || !values) continue
        if (typeof values === 'function') values = values.call(widget, widget, node)
        if (!Array.isArray(values)) values = Object.keys(values)
        if (!values.includes(widget.value) &&
            !(node.inputs ?? []).some((i) => i.widget?.name === widget.name && i.link != null))
          found.invalid_values.push(`${label}: ${widget.name} = ${widget.value}`)
      }
    }
    for (const link of graph.links.values()) {
      const label = `${prefix}${link.id}: ${link.origin_id}.${link.origin_slot} -> ` +
        `${link.target_id}.${link.target_slot}`
      // The ends of a subgraph's own inputs and outputs have negative ids.
      const from = link.origin_id < 0 ? null : graph.getNodeById(link.origin_id)
      const to = link.target_id < 0 ? null : graph.getNodeById(link.target_id)
      const output = from?.outputs?.[link.origin_slot], input = to?.inputs?.[link.target_slot]
      if (link.origin_id >= 0 && !output?.links?.includes(link.id))
        found.broken_links.push(`${label}: no such output`)
      else if (link.target_id >= 0 && input?.link !== link.id)
        found.broken_links.push(`${label}: no such input`)
      else if (output && input && !window.LiteGraph.isValidConnection(output.type, input.type))
        found.broken_links.push(`${label}: ${output.type} does not fit ${input.type}`)
    }
    if (!isRoot) continue
    for (const link of given?.links ?? []) {
      const id = Array.isArray(link) ? link[0] : link.id
      if (!graph.links.has(id)) found.broken_links.push(`${JSON.stringify(link)}: dropped`)
    }
  }
  found.missing = [...new Set(found.missing)]
  return found
}"""


@dataclass(frozen=True)
class Opened:
    """What the frontend makes of a workflow.

    `nodes` have id, type, title, mode, pos and size. `broken_links` point to nothing, do not fit
    or were dropped; `unconnected` are required inputs of active nodes without a link;
    `invalid_values` are choices that their list does not have (a model that is not there).
    `dialogs` and `errors` (toasts, the error overlay, exceptions of the page) are what a person
    would see.
    """

    missing: list[str]
    nodes: list[dict[str, Any]]
    broken_links: list[str]
    unconnected: list[str]
    invalid_values: list[str]
    dialogs: list[str]
    errors: list[str]

    @property
    def faults(self) -> dict[str, list[str]]:
        """All that is wrong, by kind; empty where nothing is."""
        kinds = (
            "missing",
            "broken_links",
            "unconnected",
            "invalid_values",
            "dialogs",
            "errors",
        )
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def find_chromium() -> str | None:
    """The browser of this machine."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class ComfyPage:
    """The frontend of one server in one tab; `page` is Playwright's."""

    def __init__(self, browser: Browser, server: Server):
        self.server = server
        server.post_json("/settings", SETTINGS)
        self.page: Page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        self.page_errors: list[str] = []
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        self.page.goto(server.url, timeout=OPEN_SECONDS * 1000)
        self.page.wait_for_function(READY, timeout=OPEN_SECONDS * 1000)
        self.close_dialogs()

    def close(self) -> None:
        self.page.close()

    def reload(self) -> None:
        """Load the frontend anew: it asks for the lists of files only then."""
        self.page.reload(timeout=OPEN_SECONDS * 1000)
        self.page.wait_for_function(READY, timeout=OPEN_SECONDS * 1000)
        self.close_dialogs()

    def command(self, name: str) -> None:
        """One of the frontend's own commands, such as Comfy.LoadDefaultWorkflow."""
        self.page.evaluate("(name) => app.extensionManager.command.execute(name)", name)

    def open_workflow(self, workflow: dict[str, Any]) -> Opened:
        """Open a workflow (the JSON that "Save" writes) as dropping it on the page does."""
        self.close_dialogs()
        self.page_errors.clear()
        self.page.evaluate("async (workflow) => { await app.loadGraphData(workflow) }", workflow)
        return self.report(workflow)

    def open_prompt(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """Open an API prompt, arranged by the frontend; the workflow that "Save" would write."""
        self.close_dialogs()
        self.page.evaluate(
            "async (prompt) => { await app.loadApiJson(prompt, 'prompt'); app.graph.arrange() }",
            prompt,
        )
        self._settle()
        return self.workflow()

    def report(self, workflow: dict[str, Any] | None = None) -> Opened:
        """What is open now; `workflow` is what was asked for, to find dropped links."""
        self._settle()
        found = self.page.evaluate(REPORT, workflow)
        return Opened(
            **found,
            dialogs=self._visible_texts(DIALOGS),
            errors=[*self._visible_texts(ERRORS), *self.page_errors],
        )

    def workflow(self) -> dict[str, Any]:
        """What "Save" would write."""
        return self.page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")

    def graph_to_prompt(self) -> dict[str, Any]:
        """The API prompt that "Run" would send."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def set_setting(self, name: str, value: Any) -> None:
        """A setting of the frontend, such as Comfy.VueNodes.Enabled; it is kept by the server."""
        self.page.evaluate(
            "([name, value]) => app.extensionManager.setting.set(name, value)", [name, value]
        )
        self._settle()

    def close_dialogs(self) -> None:
        """Close dialogs, the template browser and an open sidebar."""
        for _ in range(5):
            if not self._visible_texts(DIALOGS):
                break
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(300)
        self.page.evaluate(
            """() => {
              const manager = app.extensionManager
              const open = manager.sidebarTab.activeSidebarTabId
              if (open) manager.sidebarTab.toggleSidebarTab(open)
              manager.toast.removeAll?.()
              app.canvas.deselectAll?.()
            }"""
        )

    def close_side_panel(self) -> None:
        """Close the panel at the right, which shows the chosen node's settings."""
        if self.page.get_by_test_id("properties-panel").is_visible():
            self.page.get_by_label("Toggle properties panel").first.click()
            self._settle()

    def screenshot(self, path: Path, *, graph_only: bool = False) -> Path:
        """A picture with the whole graph in view; `graph_only` hides the menus."""
        self.close_dialogs()
        self._focus_mode(on=graph_only)
        self.page.wait_for_timeout(300)
        self.command("Comfy.Canvas.FitView")
        self.page.wait_for_timeout(1200)  # the view moves there; pictures in nodes load
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        self._focus_mode(on=False)
        return path

    def _focus_mode(self, *, on: bool) -> None:
        self.page.evaluate("(on) => { app.extensionManager.focusMode = on }", on)

    def _settle(self) -> None:
        """Let the frontend draw what was asked of it."""
        self.page.wait_for_timeout(500)

    def _visible_texts(self, selector: str) -> list[str]:
        found = self.page.locator(selector)
        shown = [found.nth(index) for index in range(found.count())]
        return [element.inner_text() for element in shown if element.is_visible()]
