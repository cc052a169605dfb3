"""The parameters of a run that all modes share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .conditioning.condition import REFERENCE_NOISE
from .errors import InputError
from .files import NUMBER, SWITCH, TEXT, check_fields, optional, whole
from .media import Fit
from .models.geometry import (
    LARGEST_SIDE,
    LONGEST,
    MOST_VIDEOS,
    bucket_size,
    check_frames,
    check_size,
)
from .models.specs import Version
from .models.vae import Tiles
from .sampling import DEFAULT_SCHEDULER, Guidance, check_scheduler, check_share, check_steps
from .tasks import DEFAULT_FRAMES, Loaded, Target

#: The original's negative prompt: "twisted body, missing limbs, captions, comic, static, ugly,
#: error, gibberish".
DEFAULT_NEGATIVE_PROMPT = "扭曲的身体，肢体残缺，文本字幕，漫画，静止，丑陋，错误，乱码。"
DEFAULT_SIZE = (384, 672)
#: Types of values; their limits are checked below.
_RULES = {
    "guidance_scale": NUMBER,
    "guidance_rescale": NUMBER,
    "guidance_window": NUMBER,
    "step_cache": NUMBER,
    "reference_noise": NUMBER,
    "negative_prompt": TEXT,
    "scheduler": optional(TEXT),
    "keep_known": optional(SWITCH),
}
_LIMITS = {
    "height": optional(whole(1, LARGEST_SIDE)),
    "width": optional(whole(1, LARGEST_SIDE)),
    "tile": optional(whole(0, LARGEST_SIDE)),
    "frames": optional(whole(1, LONGEST)),
}


@dataclass(frozen=True)
class Settings:
    """Size, length, sampling and seed.

    Args:
        height: Pixels, a multiple of 16. If both sides are None, the trained size closest to the
            source's aspect ratio is used (384 x 672 without a source).
        width: As `height`.
        frames: Length, 4n + 1; 1 is an image. None means 49, or what the source clip allows.
        fps: Frames per second of the result; source clips are resampled to it.
        steps: Number of inference steps.
        guidance_scale: How strongly the prompt is followed; 1 is off and twice as fast.
        guidance_rescale: 0 to 1, against overexposure at high guidance.
        guidance_window: Share of the steps, from the first, in which the negative prompt is
            evaluated; guidance is off in the rest.
        step_cache: Share of the steps whose evaluation is left out, 0 to 0.7: what they would
            predict is expected from earlier steps.
        negative_prompt: What to avoid.
        scheduler: One of `SCHEDULERS`; None is the version's default (V5.1: Flow, V5: DDIM).
        seed: Noise of the first sample; further samples use the seeds that follow.
        batch: Samples per prompt.
        reference_noise: Noise amplitude on known pixels (image to video, region editing).
        keep_known: Keep what is known (image to video, region editing): what is outside a region,
            and the first frames, come out as the VAE shows the source. Without it they may drift,
            as in the original. None is what the checkpoint's own config asks for; no published one
            does.
        short: What happens to a source clip that is too short: "refuse", or "repeat" its last
            frame.
        tile: Side in pixels of the VAE's tiles, to save memory; None processes whole frames.
    """

    height: int | None = None
    width: int | None = None
    frames: int | None = None
    fps: float = 8.0
    steps: int = 50
    guidance_scale: float = 6.0
    guidance_rescale: float = 0.0
    guidance_window: float = 1.0
    step_cache: float = 0.0
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT
    scheduler: str | None = None
    seed: int = 43
    batch: int = 1
    reference_noise: float = REFERENCE_NOISE
    keep_known: bool | None = None
    short: Literal["refuse", "repeat"] = "refuse"
    tile: int | None = None

    def __post_init__(self) -> None:
        for name in ("height", "width", "frames", "steps", "seed", "batch", "tile"):
            value = getattr(self, name)
            if value is not None and type(value) is not int:
                raise InputError(f"{name} is {value!r}; it must be a whole number.")
        check_fields(vars(self), _RULES, "A run", InputError)
        if (self.height is None) != (self.width is None):
            raise InputError("Give both height and width, or neither.")
        if self.height is not None and self.width is not None:
            check_size(self.height, self.width)
        if self.frames is not None:
            check_frames(self.frames)
        check_fields(vars(self), _LIMITS, "A run", InputError)
        if not (math.isfinite(self.fps) and 0 < self.fps <= 240):
            raise InputError(f"fps is {self.fps}; it must be above 0 and at most 240.")
        if not 1 <= self.batch <= MOST_VIDEOS:
            raise InputError(
                f"batch is {self.batch}; it must be at least 1 and at most {MOST_VIDEOS}."
            )
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}; it must be between 0 and 2**63 - 1.")
        if not 0 <= self.reference_noise <= 1:
            raise InputError(
                f"reference_noise is {self.reference_noise}; it must be between 0 and 1."
            )
        if self.short not in ("refuse", "repeat"):
            raise InputError(f"short is {self.short!r}; it must be 'refuse' or 'repeat'.")
        if self.tile is not None:
            Tiles.of_side(self.tile)  # validates
        check_steps(self.steps, 1.0)
        check_share(self.step_cache)
        self.guidance  # noqa: B018  (validates)

    @property
    def guidance(self) -> Guidance:
        """Guidance scale, rescale and window."""
        return Guidance(self.guidance_scale, self.guidance_rescale, self.guidance_window)

    def scheduler_for(self, version: Version, config: Mapping[str, Any], *, strength: float) -> str:
        """The scheduler's name, checked against the model and the number of steps."""
        name = self.scheduler or DEFAULT_SCHEDULER[version]
        check_scheduler(name, version, config)
        check_steps(self.steps, strength, name)
        return name

    def source_seconds(self) -> float:
        """Seconds of a source clip that can be used; the rest of its file is not read."""
        frames = DEFAULT_FRAMES if self.frames is None else self.frames
        return frames / self.fps

    def fit(self) -> Fit:
        """Rate and size at which a source clip is read; it is scaled during decoding."""
        if self.height is None or self.width is None:
            return Fit(self.fps)
        return Fit(self.fps, (self.height, self.width))

    def target(self, loaded: Loaded) -> Target:
        """Size and length of the result of a task that was read."""
        if self.height is not None and self.width is not None:
            size = (self.height, self.width)
        else:
            source = loaded.source_size()
            size = DEFAULT_SIZE if source is None else bucket_size(*source)
        frames = loaded.default_frames(self.fps) if self.frames is None else self.frames
        return Target(size[0], size[1], frames, self.fps, self.short)
