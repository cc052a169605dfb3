"""Model patchers, through which ComfyUI loads, streams and patches a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import torch
from torch import nn


def make_patcher(
    network: nn.Module,
    load_device: torch.device,
    offload_device: torch.device,
    *,
    disable_dynamic: bool = False,
) -> Any:
    """This ComfyUI's default patcher for a network.

    Newer releases use a dynamic one, which moves weights to the GPU when they are used;
    `disable_dynamic` selects the plain one.
    """
    usual = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    chosen = comfy.model_patcher.ModelPatcher if disable_dynamic else usual
    return chosen(network, load_device=load_device, offload_device=offload_device)


def is_dynamic(patcher: Any) -> bool:
    """Whether a patcher is the dynamic one."""
    return bool(getattr(patcher, "is_dynamic", lambda: False)())


def at_each_run(patcher: Any, act: Callable[[Any], None]) -> None:
    """Call `act(patcher)` at the start of every sampling run; clones of the patcher do so too."""
    kind = comfy.patcher_extension.CallbacksMP.ON_PRE_RUN
    patcher.add_callback_with_key(kind, "easyanimate", act)


def after_each_run(patcher: Any, act: Callable[[Any], None]) -> None:
    """Call `act(model)` after the last step of every sampling run, of the patcher's clones too."""

    def around(sample: Callable[..., Any], guider: Any, *arguments: Any, **named: Any) -> Any:
        samples = sample(guider, *arguments, **named)
        act(guider.inner_model)
        return samples

    kind = comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE
    patcher.add_wrapper_with_key(kind, "easyanimate", around)


def remember_how(patcher: Any, make: Callable[..., Any], *arguments: Any) -> None:
    """Tell ComfyUI how to recreate this patcher for another GPU or without dynamic loading.

    `make(*arguments, disable_dynamic=...)` returns a patcher.
    """
    patcher.cached_patcher_init = (make, arguments)
