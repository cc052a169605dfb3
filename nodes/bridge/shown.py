"""What conditioning nodes pass to the denoiser through ComfyUI's CONDITIONING."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ...easyanimate_core.conditioning.channels import Shown, nothing_known
from ...easyanimate_core.errors import HeadError, InputError, counted
from ...easyanimate_core.models.geometry import SPATIAL_FACTOR, pixel_frames
from ...easyanimate_core.models.specs import Head, TransformerConfig, Version

#: Its key in a CONDITIONING entry's dictionary.
KEY = "easyanimate_shown"

#: Key of V5's mT5 states, in addition to those of the first text encoder.
TEXT_T5 = "easyanimate_text_t5"

_NODE = {
    Head.INPAINT: "EasyAnimate Image to Video or Inpaint",
    Head.CONTROL: "EasyAnimate Control or Trajectory",
    Head.CAMERA: "EasyAnimate Camera",
}


def mixed(shown: Shown, earlier: Shown | None, mask: Tensor | None) -> Shown:
    """Mix a control with an earlier one: their sum, or `shown` where `mask` is 1.

    `mask` [1, 1, F, H, W] is in latent size.
    """
    if earlier is None:
        return shown if mask is None else replace(shown, channels=shown.channels * mask)
    if (earlier.head, shown.head) != (Head.CONTROL, Head.CONTROL):
        raise HeadError(
            f"An earlier node conditions a {earlier.head.value} model, this one a "
            f"{shown.head.value} model. Only control videos can be mixed: connect the text "
            "directly to one of the two nodes."
        )
    if earlier.channels.shape != shown.channels.shape:
        raise InputError(
            f"An earlier control video is {_pixels(earlier.channels)}, this one is "
            f"{_pixels(shown.channels)}. Use the same size and length in both nodes."
        )
    if earlier.reference is not None and shown.reference is not None:
        raise InputError(
            "Two mixed controls have a reference image, but the model takes one. Disconnect one."
        )
    kept = earlier.channels if mask is None else earlier.channels * (1 - mask)
    own = shown.channels if mask is None else shown.channels * mask
    return replace(shown, channels=kept + own, reference=_either(earlier, shown))


@dataclass(frozen=True)
class Act:
    """When and where a control applies.

    `window` is the part of the schedule, 0 to 1, in which it applies; `mask` [1, 1, F, H, W] in
    latent size is 1 where it applies, None means everywhere.
    """

    window: tuple[float, float] = (0.0, 1.0)
    mask: Tensor | None = None


def attach(conditioning: Sequence[Any], shown: Shown, act: Act | None = None) -> list[Any]:
    """CONDITIONING with `shown` in every entry, mixed with that of an earlier node.

    An entry limited to a part of the schedule is split within that part. Outside the window, the
    earlier condition applies, or none.
    """
    act = act or Act()
    window = act.window
    attached: list[Any] = []
    for states, extra in conditioning:
        own = (extra.get("start_percent", 0.0), extra.get("end_percent", 1.0))
        earlier = extra.get(KEY)
        inside = mixed(shown, earlier, act.mask)
        outside = shown.hidden()
        if earlier is not None:
            outside = replace(earlier, reference=_either(earlier, shown))
        parts = (
            (own[0], min(own[1], window[0]), outside),
            (max(own[0], window[0]), min(own[1], window[1]), inside),
            (max(own[0], window[1]), own[1], outside),
        )
        for start, end, value in parts:
            whole = (start, end) == (0.0, 1.0)
            limits = {} if whole else {"start_percent": start, "end_percent": end}
            if start < end:
                attached.append([states, {**extra, **limits, KEY: value}])
    return attached


def _either(first: Shown, second: Shown) -> Tensor | None:
    """The reference image of whichever has one."""
    return second.reference if first.reference is None else first.reference


def denoiser_channels(
    shown: Shown | None, config: TransformerConfig, noise: Tensor
) -> Tensor | None:
    """The condition channels of `config`'s head for latents shaped like `noise`, None for T2V.

    Raises:
        HeadError: The conditioning is for another head.
        InputError: The conditioning differs from the latents in size or length.
    """
    if shown is None:
        return _nothing_shown(config, noise)
    if shown.head is not config.head:
        raise _wrong_head(shown.head, config)
    if shown.channels.shape[2:] != noise.shape[2:]:
        raise InputError(
            f"The conditioning is for {_pixels(shown.channels)}, the latent for {_pixels(noise)}. "
            "Use the latent output of the same conditioning node."
        )
    channels = shown.beside_noise(config)
    return channels.to(noise).expand(noise.shape[0], -1, -1, -1, -1)


def _nothing_shown(config: TransformerConfig, noise: Tensor) -> Tensor | None:
    if config.head is Head.T2V:
        return None
    if config.head is Head.INPAINT:
        nothing = nothing_known(noise.shape[0], noise.shape[2:], config.out_channels)
        return nothing.channels.to(noise)
    raise HeadError(
        f"This is a {config.head.value} model, which needs a condition: put the node "
        f"{_NODE[config.head]} between text and sampler, or load a T2V or InP model."
    )


def _wrong_head(wanted: Head, config: TransformerConfig) -> HeadError:
    version = Version.V5_1 if wanted is Head.CAMERA else config.version
    instead = "connect the text directly to the sampler"
    if config.head in _NODE:
        instead = f"use the node {_NODE[config.head]}"
    return HeadError(
        f"The conditioning is for the {wanted.value} head, but this model has the "
        f"{config.head.value} head: load an EasyAnimate {version.value} {wanted.value} model, or "
        f"{instead}."
    )


def _pixels(latents: Tensor) -> str:
    frames, height, width = latents.shape[2:]
    height, width = height * SPATIAL_FACTOR, width * SPATIAL_FACTOR
    return f"{width} x {height} x {counted(pixel_frames(frames), 'frame')}"
