"""Runs a script inside ComfyUI's modules: `bootstrap.py COMFYUI BASE PACK SCRIPT [ARGUMENTS]`.

It stands for ComfyUI's main.py: CPU, base directory, then the script as `__main__`. The script has
`load_pack()`, which imports this pack as ComfyUI does, by its path.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

comfyui, base, pack, script, *arguments = sys.argv[1:]
sys.path[0] = comfyui
sys.argv = ["main.py", "--cpu", "--base-directory", base]
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.cli_args  # noqa: E402
import utils.extra_config  # noqa: E402, F401  (as main.py does: `comfy/utils.py` must not be first)

assert comfy.cli_args.args.cpu


def load_pack(folder=pack):
    """The pack's package; ComfyUI names it by its path with the dots replaced (nodes.py)."""
    name = str(folder).replace(".", "_x_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(folder) / "__init__.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


sys.argv = [script, *arguments]
runpy.run_path(script, init_globals={"load_pack": load_pack}, run_name="__main__")
