"""Clips to train on, whatever their source.

Shapes: F frames, H and W height and width in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from ...models.geometry import num_tokens
from ...paths.camera import CameraPath


class Shape(NamedTuple):
    """The target shape of a clip: frames (4n + 1), height and width (multiples of 16)."""

    frames: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        """Number of tokens in the denoiser."""
        return num_tokens(*self)


@dataclass(frozen=True)
class Sample:
    """A clip in its training shape. Pixels are [F, H, W, 3] in [0, 1].

    `control` has the same shape; `camera` has F poses; `masks` [F, H, W] are 1 on a region worth
    changing (the bodies of the synthetic world).
    """

    frames: Tensor
    control: Tensor | None = None
    camera: CameraPath | None = None
    masks: Tensor | None = None


class Load(Protocol):
    """Reads a clip in a shape, from frame `start` on."""

    def __call__(self, shape: Shape, start: int = 0) -> Sample:
        """The sample; raises `EasyAnimateError` if the clip cannot be read."""


@dataclass(frozen=True)
class Record:
    """A clip that has not been read yet; its `name` is shown to the user.

    `identity` changes whenever its content does; `captions` are alternatives, one of which is
    drawn each time; `load` reads a part of it in a given shape. `notes` list the changes made to it
    first.
    `seconds` is the file's length at its own speed, 0 for a picture; `repeats` is how often it is
    drawn per epoch. `span` is over how many frames what lies beside it (a control video, a camera
    path) extends, None if over all. Clips of the same `recording` were cut out of one; it is ""
    if that is not known. `fps` is the file's own rate, on average if it is not `is_even`, and 0 for
    a picture.
    """

    identity: str
    captions: tuple[str, ...]
    frames: int
    height: int
    width: int
    load: Load
    notes: tuple[str, ...] = ()
    name: str = ""
    seconds: float = 0.0
    repeats: int = 1
    span: int | None = None
    recording: str = ""
    fps: float = 0.0
    is_even: bool = True


def generator_of(*parts: int | str) -> np.random.Generator:
    """A random generator that depends only on `parts`, such as (seed, step, sample).

    All random draws of training are made this way, so that a resumed run needs only its step.
    """
    words = [p if isinstance(p, int) else int.from_bytes(p.encode(), "big") for p in parts]
    return np.random.default_rng(words)
