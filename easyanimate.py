r"""The commands of EasyAnimate, from any folder and with any Python: `easyanimate.py --help`.

With the portable ComfyUI, in the folder that contains `python_embeded`:
  python_embeded\python.exe ComfyUI\custom_nodes\ComfyUI-EasyAnimate\easyanimate.py --help
"""

import os
import sys

# The portable ComfyUI's Python does not search the script's folder. Worker processes of a command
# run these lines again.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

if __name__ == "__main__":
    import easyanimate_core.__main__  # noqa: F401
