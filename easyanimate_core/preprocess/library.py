"""controlnet-aux 0.0.10 as it is used here, and what has to be worked around in it.

* Importing the package imports every detector it has (2.3 s, 1,900 modules more) and registers its
  own networks over timm's. Its submodules are imported under a root of our own, which is empty; the
  package's own name stays free for others.
* `from_pretrained` and the constructors of Body, Hand and Face unpickle with PyTorch's default,
  which runs code below 2.6, and download. The networks are built here and get their tensors.
* Importing open_pose sets KMP_DUPLICATE_LIB_OK for the whole process; it is set back.
* open_pose imports `scipy.ndimage.filters`, which warns and will go in SciPy 2.
* Hands are drawn with matplotlib, which the library does not require: see `pose.draw_hand`.
* `MLSDdetector.__call__` swallows every exception, out of memory included, and gives a black
  picture: `pred_lines` is called instead. It fails by IndexError where there is no line.
* `resize_image` rounds both sides to multiples of 64 and so changes the aspect. Pictures of such
  sides pass unchanged: `fit.Fit` makes them so.
* ZoeDepth's network needs BEiT as timm had it in 2022. transformers has the same network.
* Its DWPose needs mmpose, which has no build for current Python; the published ONNX files of the
  same networks are run instead.
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
    """Raise `InputError` unless what a kind imports is installed."""
    require(facts.display_name, (*facts.modules, *facts.packages))


def submodule(name: str) -> ModuleType:
    """`controlnet_aux.NAME`, imported without the package's own start."""
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
