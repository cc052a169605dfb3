"""Control signals from any clip: edges, lines, poses and depth, by controlnet-aux."""

from .cache import ResultCache
from .detection import Detection
from .fit import fit_for
from .kinds import KINDS, Kind, Option, WeightFile
from .library import check_packages
from .run import preprocess
from .weights import find_weights, locate

__all__ = [
    "KINDS",
    "Detection",
    "Kind",
    "Option",
    "ResultCache",
    "WeightFile",
    "check_packages",
    "find_weights",
    "fit_for",
    "locate",
    "preprocess",
]
