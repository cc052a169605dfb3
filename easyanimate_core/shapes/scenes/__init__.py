"""Procedural captioned clips of coloured shapes with exact ground truth, made without files."""

from .caption import LANGUAGES, caption
from .render import (
    CONTROLS,
    Rendered,
    camera_of,
    control_video,
    outlined_measure,
    reference,
    render,
    tracks_of,
)
from .scene import (
    CAMERAS,
    COLOURS,
    DIRECTIONS,
    KINDS,
    LOOKS,
    SHAPES,
    SIZES,
    TEXTURES,
    TINTS,
    Body,
    Ground,
    Scene,
    make_scene,
)

__all__ = [
    "CAMERAS",
    "COLOURS",
    "CONTROLS",
    "DIRECTIONS",
    "KINDS",
    "LANGUAGES",
    "LOOKS",
    "SHAPES",
    "SIZES",
    "TEXTURES",
    "TINTS",
    "Body",
    "Ground",
    "Rendered",
    "Scene",
    "camera_of",
    "caption",
    "control_video",
    "make_scene",
    "outlined_measure",
    "reference",
    "render",
    "tracks_of",
]
