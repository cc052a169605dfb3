"""What each task shows the denoiser in addition to the noise.

Shapes: C channels, F, H, W latent frames, height and width, or those of the video for pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...conditioning.channels import Shown
from ...conditioning.control import camera_condition
from ...conditioning.encode import to_model_range
from ...conditioning.inpaint import mask_channel, masked_video
from ...errors import HeadError, InputError
from ...models.specs import Head, TransformerConfig
from ...paths.camera import plucker_embedding
from ..config import ObjectiveConfig, TrainConfig
from ..data.buckets import Draw
from ..data.records import Sample, Shape, generator_of
from ..masks import draw_mask

#: The stream of `WithRegions`, [1, F, H, W].
REGIONS = "regions"
#: How the names of inpaint masks begin, each with a number.
MASK = "mask"

#: Makes channels of latent size from (F, H, W) and the VAE's scaling factor.
Channels = Callable[[Sequence[int], float], Tensor]


@dataclass(frozen=True)
class Stream:
    """`video` [1, 3, F, H, W] in [-1, 1] is encoded and appended to `channels`."""

    video: Tensor | None = None
    channels: Channels | None = None


class TaskStreams(Protocol):
    """A task's streams. Every task has "latents", the clip itself."""

    def names(self, draw: Draw, config: TrainConfig) -> tuple[str, ...]:
        """The streams that a draw needs."""

    def identity(self, name: str, config: TrainConfig) -> tuple[object, ...]:
        """All settings that affect a stream's content."""

    def make(
        self,
        name: str,
        sample: Sample,
        shape: Shape,
        config: TrainConfig,
        random: np.random.Generator,
    ) -> Stream:
        """Make one stream of a clip."""

    def channels(
        self,
        streams: Mapping[str, Tensor],
        dropout: ObjectiveConfig | None,
        random: np.random.Generator,
    ) -> Tensor | None:
        """The condition [C, F, H, W] of encoded streams; with `dropout`, parts are left out."""


class TextToVideoStreams:
    """No streams besides the latents."""

    def names(self, draw: Draw, config: TrainConfig) -> tuple[str, ...]:  # noqa: ARG002
        return ("latents",)

    def identity(self, name: str, config: TrainConfig) -> tuple[object, ...]:  # noqa: ARG002
        return (name,)

    def make(
        self,
        name: str,  # noqa: ARG002
        sample: Sample,
        shape: Shape,  # noqa: ARG002
        config: TrainConfig,  # noqa: ARG002
        random: np.random.Generator,  # noqa: ARG002
    ) -> Stream:
        return Stream(to_model_range(sample.frames))

    def channels(
        self,
        streams: Mapping[str, Tensor],  # noqa: ARG002
        dropout: ObjectiveConfig | None,  # noqa: ARG002
        random: np.random.Generator,  # noqa: ARG002
    ) -> Tensor | None:
        return None


class InpaintStreams(TextToVideoStreams):
    """The mask and the masked clip; `data.draws` masks are encoded per clip."""

    def names(self, draw: Draw, config: TrainConfig) -> tuple[str, ...]:
        random = generator_of(config.seed, draw.index, draw.epoch, "which mask")
        return "latents", f"{MASK} {int(random.integers(config.data.draws))}"

    def identity(self, name: str, config: TrainConfig) -> tuple[object, ...]:
        if name == "latents":
            return (name,)
        objective = config.objective
        shares = tuple(sorted(objective.masks.items()))
        return name, config.seed, shares, objective.noise_mean, objective.noise_std

    def make(
        self,
        name: str,
        sample: Sample,
        shape: Shape,
        config: TrainConfig,
        random: np.random.Generator,
    ) -> Stream:
        video = to_model_range(sample.frames)
        if name == "latents":
            return Stream(video)
        objective = config.objective
        mask = draw_mask(shape, sample, objective.masks, random)[None, None]
        amplitude = float(np.exp(random.normal(objective.noise_mean, objective.noise_std)))
        noise = torch.from_numpy(random.standard_normal(video.shape, np.float32)) * amplitude
        masked = masked_video(video, mask, noise)
        return Stream(masked, lambda size, scale: mask_channel(mask, size, scale)[0])

    def channels(
        self,
        streams: Mapping[str, Tensor],
        dropout: ObjectiveConfig | None,
        random: np.random.Generator,
    ) -> Tensor | None:
        shown = next(value for name, value in streams.items() if name != "latents")
        if dropout is not None and random.random() < dropout.condition_dropout:
            return Shown(Head.INPAINT, shown).hidden().channels  # text to video
        return shown


class ControlStreams(TextToVideoStreams):
    """The control video, and the first frame as reference where the head takes one."""

    def __init__(self, sizes: TransformerConfig) -> None:
        self._sizes = sizes

    def names(self, draw: Draw, config: TrainConfig) -> tuple[str, ...]:  # noqa: ARG002
        return ("latents", "control", *(("reference",) if self._sizes.has_reference else ()))

    def make(
        self,
        name: str,
        sample: Sample,
        shape: Shape,
        config: TrainConfig,
        random: np.random.Generator,
    ) -> Stream:
        if name == "reference":
            return Stream(to_model_range(sample.frames[:1]))
        if name == "control":
            if sample.control is None:
                raise InputError(
                    "A clip has no control video. Add control_file_path to every entry of the "
                    "manifest."
                )
            return Stream(to_model_range(sample.control))
        return super().make(name, sample, shape, config, random)

    def channels(
        self,
        streams: Mapping[str, Tensor],
        dropout: ObjectiveConfig | None,
        random: np.random.Generator,
    ) -> Tensor | None:
        reference: Tensor | None = None
        if self._sizes.has_reference:
            reference = streams["reference"].unsqueeze(0)
        shown = Shown(self._sizes.head, streams["control"].unsqueeze(0), reference)
        if dropout is not None and random.random() < dropout.condition_dropout:
            shown = shown.hidden()
        if dropout is not None and reference is not None:
            keep = random.random() >= dropout.reference_dropout
            shown = replace(shown, reference=reference if keep else None)
        return shown.beside_noise(self._sizes)[0]


class CameraStreams(ControlStreams):
    """The camera's rays instead of a control video."""

    def make(
        self,
        name: str,
        sample: Sample,
        shape: Shape,
        config: TrainConfig,
        random: np.random.Generator,
    ) -> Stream:
        if name != "control":
            return super().make(name, sample, shape, config, random)
        if sample.camera is None:
            raise InputError(
                "A clip has no camera path. Add camera_file_path to every entry of the manifest."
            )
        rays = plucker_embedding(sample.camera, shape.height, shape.width).float()
        return Stream(None, lambda size, _: camera_condition(rays, size)[0])


class WithRegions:
    """A task's streams plus "regions", 1 in a clip's masks, where the loss has more weight."""

    def __init__(self, task: TaskStreams) -> None:
        self._task = task

    def names(self, draw: Draw, config: TrainConfig) -> tuple[str, ...]:
        return *self._task.names(draw, config), REGIONS

    def identity(self, name: str, config: TrainConfig) -> tuple[object, ...]:
        return (name,) if name == REGIONS else self._task.identity(name, config)

    def make(
        self,
        name: str,
        sample: Sample,
        shape: Shape,
        config: TrainConfig,
        random: np.random.Generator,
    ) -> Stream:
        if name != REGIONS:
            return self._task.make(name, sample, shape, config, random)
        if sample.masks is None:
            raise no_masks("objective.region_share", config.objective.region_share)
        masks = sample.masks[None]
        return Stream(None, lambda size, _: any_in_latent(masks, size))

    def channels(
        self,
        streams: Mapping[str, Tensor],
        dropout: ObjectiveConfig | None,
        random: np.random.Generator,
    ) -> Tensor | None:
        own = {name: value for name, value in streams.items() if name != REGIONS}
        return self._task.channels(own, dropout, random)


def no_masks(setting: str, value: float) -> InputError:
    """The error for a setting that needs clips with their own masks."""
    return InputError(
        f"{setting} is {value}, but a clip has no masks: only synthetic clips have them. Set it to "
        "0."
    )


def any_in_latent(masks_CFHW: Tensor, size: Sequence[int]) -> Tensor:
    """1 for every latent pixel that contains a marked pixel. The first frame is on its own."""
    frames, height, width = size
    first = F.adaptive_max_pool3d(masks_CFHW[:, :1], (1, height, width))
    if frames == 1:
        return first
    rest = F.adaptive_max_pool3d(masks_CFHW[:, 1:], (frames - 1, height, width))
    return torch.cat([first, rest], dim=1)


def streams_of(config: TrainConfig, sizes: TransformerConfig) -> TaskStreams:
    """The streams of the config's task; raises `HeadError` if the denoiser has another head."""
    tasks: dict[str, tuple[Head, TaskStreams]] = {
        "text_to_video": (Head.T2V, TextToVideoStreams()),
        "inpaint": (Head.INPAINT, InpaintStreams()),
        "control": (Head.CONTROL, ControlStreams(sizes)),
        "camera": (Head.CAMERA, CameraStreams(sizes)),
    }
    if config.task == "distill":  # of any head
        tasks = {config.task: next(task for task in tasks.values() if task[0] is sizes.head)}
    head, streams = tasks[config.task]
    if sizes.head is not head:
        raise HeadError(
            f"task {config.task} trains the {head.value} head, but this denoiser has "
            f"{sizes.in_channels} input channels: the {sizes.head.value} head. Choose the "
            "task of that head or another checkpoint."
        )
    return WithRegions(streams) if config.objective.region_share > 0 else streams
