"""Where states of training lie, for caches in many places; argument: a folder."""

import importlib
import json
import os
import sys
from pathlib import Path

import folder_paths

pack = load_pack()  # noqa: F821  (given by the bootstrap)
bridge = importlib.import_module(f"{pack.__name__}.nodes.bridge.training")
root = Path(sys.argv[-1])
caches = {"cache": root / "cache", "file": root / "file"}
for kind in ("input", "output", "temp", "user"):
    caches[kind] = Path(getattr(folder_paths, f"get_{kind}_directory")()) / "below" / ".." / "x"
caches["models"] = Path(folder_paths.models_dir)
found = {}
for name, cache in caches.items():
    os.environ["EASYANIMATE_CACHE"] = str(cache)
    try:
        folder, note = bridge.work_folder()
        found[name] = [str(folder), note]
    except ValueError as refusal:
        found[name] = str(refusal)
print("\nFOUND " + json.dumps(found))
