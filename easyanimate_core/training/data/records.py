"""Clips to train on, whatever they come from.

Shapes: F frames, H and W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ...models.geometry import num_tokens
from ...paths.camera import CameraPath


class Shape(NamedTuple):
    """What a clip is brought to: frames (4n + 1), height and width (multiples of 16)."""

    frames: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        """Tokens that the denoiser sees of it."""
        return num_tokens(*self)


@dataclass(frozen=True)
class Sample:
    """A clip as it is trained on. Pixels are [F, H, W, 3] in [0, 1].

    `control` has the same shape; `camera` has F poses; `masks` [F, H, W] are 1 on a region that is
    worth changing (the synthetic world knows its bodies).
    """

    frames: Tensor
    control: Tensor | None = None
    camera: CameraPath | None = None
    masks: Tensor | None = None


@dataclass(frozen=True)
class Record:
    """A clip that is not read yet, of a `name` that its user knows.

    `identity` changes whenever its content does; `captions` mean the same (one is drawn at a time);
    `load` brings it to a shape. `notes` say what is changed in it first.
    """

    identity: str
    captions: tuple[str, ...]
    frames: int
    height: int
    width: int
    load: Callable[[Shape], Sample]
    notes: tuple[str, ...] = ()
    name: str = ""


def generator_of(*parts: int | str) -> np.random.Generator:
    """Random numbers that depend on `parts` alone, such as (seed, step, sample).

    Every draw of training is made this way, so that a resumed run needs no state but its step.
    """
    words = [p if isinstance(p, int) else int.from_bytes(p.encode(), "big") for p in parts]
    return np.random.default_rng(words)
