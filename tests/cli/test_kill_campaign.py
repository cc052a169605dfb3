"""A slice of the campaign that kills whatever writes; `python -m tools.kill_campaign` is whole."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = ("camera", "make-clips")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_killed_commands_leave_whole_files():
    """In a process of its own: a fork of this one would have PyTorch's locked threads."""
    words = ["--kills", "6", "--seed", "3", "--only", *COMMANDS]
    done = subprocess.run(
        [sys.executable, "-m", "tools.kill_campaign", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("6 kills, 0 faults\n")
