"""The track editor's reading, writing and sampling of tracks, run by Node.js."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "web" / "js" / "trajectory" / "tracks.js"
TESTS = Path(__file__).with_name("tracks.test.mjs")


def test_tracks_in_node(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: https://nodejs.org, version 18 or newer")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < 18:
        pytest.skip(f"node is {version.strip()}; its test runner needs 18 or newer")
    # Node takes a .js file for CommonJS; the browser does not.
    shutil.copyfile(MODULE, tmp_path / "tracks.mjs")
    shutil.copyfile(TESTS, tmp_path / TESTS.name)
    done = subprocess.run(
        [node, "--test", TESTS.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
