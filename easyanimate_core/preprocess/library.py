"""Use of controlnet-aux 0.0.10 and the workarounds that it needs.

* Importing the package imports all its detectors (2.3 s, 1,900 more modules) and overwrites
  networks registered by timm. Its submodules are imported under an empty root of our own; the
  package's own name stays free for others.
* `from_pretrained` and the constructors of Body, Hand and Face download, and unpickle with
  PyTorch's default, which runs code before 2.6. The networks are built and filled here instead.
* Importing open_pose sets KMP_DUPLICATE_LIB_OK for the whole process; it is restored.
* open_pose imports `scipy.ndimage.filters`, which warns and will be removed in SciPy 2.
* Hands are drawn with matplotlib, which the library does not require: see `pose.draw_hand`.
* `MLSDdetector.__call__` swallows every exception, even out of memory, and returns a black image:
  `pred_lines` is called instead. It raises IndexError if there is no line.
* `resize_image` rounds both sides to multiples of 64, which changes the aspect ratio. Images whose
  sides already are multiples pass unchanged: `fit.Fit` ensures that.
* ZoeDepth's network needs BEiT from timm in 2022. transformers has the same network.
* Its DWPose needs mmpose, which has no build for current Python; the published ONNX files of the
  same networks are used instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from types import ModuleType

from ..files.packages import require
from .kinds import Kind

_ROOT = "_easyanimate_controlnet_aux"
_SWITCH = "KMP_DUPLICATE_LIB_OK"


def check_packages(facts: Kind) -> None:
    """Raise `InputError` unless the packages of a kind are installed."""
    require(facts.display_name, (*facts.modules, *facts.packages))


def submodule(name: str) -> ModuleType:
    """Import `controlnet_aux.NAME` without running the package's `__init__`."""
    if _ROOT not in sys.modules:
        require("This kind of control video", ["controlnet_aux"])
        spec = importlib.util.find_spec("controlnet_aux")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        root = ModuleType(_ROOT)
        root.__path__ = list(spec.submodule_search_locations)
        sys.modules[_ROOT] = root
    before = os.environ.get(_SWITCH)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"{_ROOT}.{name}")
    finally:
        if before is None:
            os.environ.pop(_SWITCH, None)
        else:
            os.environ[_SWITCH] = before
