"""Schemas and the documentation's screenshot from a real ComfyUI.

The servers and the browser are those of the tests; the browser is this machine's Chromium.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

import dev
from tests.comfy.browser import FLAGS, ComfyPage, find_chromium
from tests.comfy.installation import Installation
from tests.comfy.server import Server
from tools.comfyui_base import PACK, VIDEO_HELPER_SUITE, make_base
from tools.comfyui_install import (
    ready_comfyui,
    ready_python,
    ready_video_helper_suite,
    version_of,
)

from . import schemas
from .canvas import FOLDER
from .notes import REWARD_LORA

#: Input files to show in the screenshot, by type and title of a node; `make_base` puts them into
#: the input folder.
SAMPLES = {("LoadImage", "Start image"): "astronaut.png"}
DOCUMENTED = "3 Image to video"
DOCUMENT, DOCUMENT_WIDTH = dev.ROOT / "docs" / "workflow.jpg", 1600
#: Size of the browser window: the screenshot, and the frontend's bars above and below it.
WIDTH, HEIGHT, MARGIN = 1920, 1080, 80
SECONDS_TO_LOAD = 2
VIEW = """([left, top, scale]) => {
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [left, top]
  app.canvas.setDirty(true, true)
}"""


@contextlib.contextmanager
def running_server(version: str) -> Iterator[Server]:
    """A ComfyUI with this pack and tiny models, in a temporary folder."""
    comfyui, suite = ready_comfyui(version), ready_video_helper_suite()
    python = ready_python(comfyui, [suite])
    with tempfile.TemporaryDirectory() as folder:
        base = make_base(Path(folder), {PACK: dev.ROOT, VIDEO_HELPER_SUITE: suite})
        (base / "models" / "loras" / REWARD_LORA["name"]).touch()  # only its name is used
        pack = base / "custom_nodes" / PACK
        server = Server(Installation(comfyui, version_of(comfyui), python, base, pack))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def open_page(server: Server) -> Iterator[ComfyPage]:
    """The server's frontend in a headless browser."""
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        raise SystemExit("Screenshots need Chromium (Debian: apt-get install chromium).")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = ComfyPage(browser, server)
        yield page
        page.close()
        browser.close()


def write_schemas() -> None:
    """Write the node schemas of every version."""
    answers = {}
    for version in schemas.VERSIONS:
        with running_server(version) as server:
            answers[version] = server.object_info()
    schemas.write(answers)


def write_screenshot() -> None:
    """Write the documentation's screenshot."""
    file = FOLDER / f"{DOCUMENTED}.json"
    with running_server(schemas.NEWEST) as server, open_page(server) as page:
        page.page.set_viewport_size({"width": WIDTH, "height": HEIGHT + 2 * MARGIN})
        picture = picture_of(page, with_samples(json.loads(file.read_text(encoding="utf-8"))))
    height = round(DOCUMENT_WIDTH * picture.height / picture.width)
    large = picture.resize((DOCUMENT_WIDTH, height), Image.Resampling.LANCZOS)
    large.save(DOCUMENT, quality=85, optimize=True)


def with_samples(workflow: dict[str, Any]) -> dict[str, Any]:
    """A copy of the workflow that uses the files of `make_base`."""
    for node in workflow["nodes"]:
        for (kind, title), name in SAMPLES.items():
            if node["type"] == kind and node.get("title", "").startswith(title):
                node["widgets_values"][0] = name
    return workflow


def picture_of(page: ComfyPage, workflow: Mapping[str, Any]) -> Image.Image:
    """A screenshot of the whole graph, as large as possible."""
    page.open_workflow(dict(workflow))
    page.page.evaluate("() => { app.extensionManager.focusMode = true }")
    frames = [group["bounding"] for group in workflow["groups"]]
    width = max(left + wide for left, _, wide, _ in frames)
    height = max(top + high for _, top, _, high in frames)
    scale = 0.98 * min(WIDTH / width, HEIGHT / height)
    left, top = (WIDTH / scale - width) / 2, (HEIGHT / scale - height) / 2 + MARGIN / scale
    page.page.evaluate(VIEW, [left, top, scale])
    page.page.wait_for_timeout(SECONDS_TO_LOAD * 1000)
    clip = {"x": 0, "y": MARGIN, "width": WIDTH, "height": HEIGHT}
    return Image.open(io.BytesIO(page.page.screenshot(clip=clip))).convert("RGB")
