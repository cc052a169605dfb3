r"""The commands of EasyAnimate, from any folder and with any Python: `easyanimate.py --help`.

With ComfyUI's portable version, in the folder that holds `python_embeded`:
  python_embeded\python.exe ComfyUI\custom_nodes\ComfyUI-EasyAnimate\easyanimate.py --help
"""

import os
import sys

# The portable ComfyUI's Python does not look beside the script. Processes that work for a command
# run these lines again.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

if __name__ == "__main__":
    import easyanimate_core.__main__  # noqa: F401
