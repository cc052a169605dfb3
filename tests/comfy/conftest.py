"""Real ComfyUI servers, scripts with ComfyUI's Python, and a browser.

Everything depends on `comfyui`, which runs a test once for every ComfyUI of this machine; one that
is marked `newest_frontend` also with the newest frontend on the newest ComfyUI.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.comfy.installation import Installation
from tools import comfyui_install

ROOT = Path(__file__).parents[2]
NONE_FOUND = (
    "there is no ComfyUI on this machine: run `python dev.py comfyui --environment`, or set "
    "COMFYUI_PATH to a ComfyUI folder (several are separated as in PATH)"
)


#: The part of a test's name that `pytest_generate_tests` gives it.
SERVER = re.compile(r"\d+\.\d+\.\d+(-frontend-[\d.]+)?(?=[-\]])")


class ByServer(LoadScopeScheduling):
    """With several processes, one of them runs all tests of a file with the same server."""

    def _split_scope(self, nodeid):
        server = SERVER.search(nodeid)
        return f"{nodeid.partition('::')[0]} {server[0] if server else ''}"


def pytest_xdist_make_scheduler(config, log):
    """The order stays that of the servers, so that each process changes its server once."""
    config.option.loadscopereorder = False
    return ByServer(config, log)


def pytest_generate_tests(metafunc):
    """One run of a test per ComfyUI and frontend; without one, a skip that says how to get one."""
    if "comfyui" in metafunc.fixturenames:
        try:
            folders = comfyui_install.found()
        except SystemExit as wrong_path:
            raise pytest.UsageError(str(wrong_path)) from None
        ids = [comfyui_install.version_of(folder) for folder in folders]
        chosen = [(folder, None) for folder in folders]
        if metafunc.definition.get_closest_marker("newest_frontend"):
            frontend = comfyui_install.NEWEST_FRONTEND
            newest = f"{next(iter(comfyui_install.TAGS))}."
            for folder, version in zip(folders, tuple(ids), strict=True):
                if version.startswith(newest):
                    chosen.append((folder, frontend))
                    ids.append(f"{version}-frontend-{frontend}")
        if not chosen:
            chosen, ids = [pytest.param(None, marks=pytest.mark.skip(reason=NONE_FOUND))], ["none"]
        metafunc.parametrize("comfyui", chosen, ids=ids, indirect=True, scope="session")


@pytest.fixture(scope="session")
def prepared_base(tmp_path_factory):
    """A base directory with tiny models and inputs, to copy for each server."""
    from tools.comfyui_base import make_base

    return make_base(tmp_path_factory.mktemp("comfyui") / "base", {})


def environment_of(comfyui):
    """The Python of its environment, set up where it is missing; a skip where it cannot be."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "dev.py"), "comfyui", "--environment"],
        env={**os.environ, "COMFYUI_PATH": str(comfyui)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(
            f"no environment for {comfyui} (status {done.returncode}): {done.stderr[-800:]}"
        )
    return done.stdout.splitlines()[-1]


def newest_frontend():
    """Its folder, fetched where it is missing; a skip where it cannot be."""
    try:
        return comfyui_install.ready_frontend()
    except SystemExit as failed:
        pytest.skip(f"no frontend {comfyui_install.NEWEST_FRONTEND} ({failed}): pip said why")


@pytest.fixture(scope="session")
def comfyui(request, prepared_base, tmp_path_factory):
    """A ComfyUI with its environment and a base directory of its own."""
    from tools.comfyui_base import PACK, VIDEO_HELPER_SUITE, link

    folder, frontend = request.param
    frontend = frontend and newest_frontend()
    version = comfyui_install.version_of(folder)
    python = environment_of(folder)
    base = tmp_path_factory.mktemp(f"comfyui-{version}") / "base"
    shutil.copytree(prepared_base, base)
    nodes = base / "custom_nodes"
    link(nodes / PACK, ROOT)
    link(nodes / "easyanimate-probe", Path(__file__).with_name("probe_pack"))
    link(nodes / VIDEO_HELPER_SUITE, comfyui_install.ready_video_helper_suite())
    return Installation(folder, version, python, base, nodes / PACK, frontend)


@pytest.fixture(scope="session")
def comfy_python(comfyui):
    """Scripts in a process of ComfyUI's Python: `comfy_python.run_script(source, *arguments)`."""
    return comfyui


@pytest.fixture(scope="session")
def comfy_server(comfyui):
    """A running server; see `tests.comfy.server.Server`."""
    from tests.comfy.server import Server

    server = Server(comfyui, EASYANIMATE_CACHE=str(comfyui.base / "cache"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium of this machine."""
    sync_api = pytest.importorskip("playwright.sync_api")
    from tests.comfy.browser import FLAGS, NAMES, find_chromium

    path = find_chromium()
    if path is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def browser_page(comfy_server, browser):
    """The frontend of the server, open and ready; see `tests.comfy.browser.ComfyPage`."""
    from tests.comfy.browser import ComfyPage

    page = ComfyPage(browser, comfy_server)
    yield page
    page.close()


@pytest.fixture
def app_page(comfy_server, browser):
    """A page of its own for App mode, which stays on from one workflow to the next."""
    from tests.comfy.browser import ComfyPage

    if comfy_server.version.startswith("0.8."):
        pytest.skip("its frontend has no App mode")
    page = ComfyPage(browser, comfy_server)
    yield page
    errors = list(page.page_errors)
    page.close()
    assert not errors
