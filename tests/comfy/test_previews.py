"""The pack's sampler shows previews unless the user chose otherwise."""

import json
from pathlib import Path

SCRIPT = Path(__file__).with_name("scripts") / "previews.py"


def test_previews_are_shown_until_the_user_chooses(comfy_python):
    found = json.loads(comfy_python.run_script(SCRIPT).splitlines()[-1])
    assert found == {"not chosen": True, "default": True, "none": False, "option": False}
