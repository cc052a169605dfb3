"""Results of a script that ran with ComfyUI's Python."""

import json
from pathlib import Path

SCRIPTS = Path(__file__).with_name("scripts")


def run_script(comfy_python, name, *arguments):
    """What the script found: name to numbers."""
    output = comfy_python.run_script(SCRIPTS / name, *arguments, timeout=1200)
    (line,) = (line for line in output.splitlines() if line.startswith("FOUND "))
    return json.loads(line.removeprefix("FOUND "))
