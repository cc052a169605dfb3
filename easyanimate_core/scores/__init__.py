"""Scores of pictures and of their match with a prompt, through which gradients flow."""

from .aesthetics import read_head
from .catalogue import KINDS, Kind, Scorer, Sources, build_scorer, check_sources
from .clip import Clip, load_clip

__all__ = [
    "KINDS",
    "Clip",
    "Kind",
    "Scorer",
    "Sources",
    "build_scorer",
    "check_sources",
    "load_clip",
    "read_head",
]
