"""The page in a process of its own, as the command starts it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
START_SECONDS = 180


class App:
    """A running page; `url` is its address, `output` its folder."""

    def __init__(self, folder, *options, **environment):
        self.output = folder / "videos"
        self.log = folder / "log.txt"
        command = [sys.executable, "-m", "easyanimate_core", "app", "--port", "0"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--output", str(self.output), *map(str, options)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
            )
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"is at (http\S+)", self.said())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"The page did not start:\n{self.said()}")
            time.sleep(0.2)
        self.url = found[1]

    def said(self):
        return self.log.read_text(encoding="utf-8")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    pytest.importorskip("gradio")
    running = App(tmp_path_factory.mktemp("app"))
    yield running
    running.stop()
