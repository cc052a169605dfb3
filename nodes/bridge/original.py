"""What nodes under the original's ids need of ComfyUI: the registry, and expansion."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
from comfy_execution.graph_utils import GraphBuilder

from ...easyanimate_core.errors import InputError
from ...easyanimate_core.models.specs import Head
from ...easyanimate_core.sampling import check_scheduler
from . import notes
from .denoiser import DenoiserInfo, denoiser_info
from .stored import holds_float8

_LOG = logging.getLogger(__name__)
#: The socket of the loaders and the samplers, and the ids of the loaders.
MODEL = "easyanimate_model"
LOADERS = ("LoadEasyAnimateModel", "LoadEasyAnimateLora")

#: (graph, positive, negative, vae) -> links to the conditioned positive, negative and the latent.
Condition = Callable[[GraphBuilder, list[Any], list[Any], Any], tuple[Any, Any, Any]]


@dataclass(frozen=True)
class OriginalModel:
    """The value of an EASYANIMATESMODEL socket."""

    model: Any
    clip: Any
    vae: Any

    @property
    def info(self) -> DenoiserInfo:
        """What the denoiser is."""
        info = denoiser_info(self.model)
        assert info is not None
        return info

    @property
    def head(self) -> Head:
        """The denoiser's head, which decides what a sampler does."""
        return self.info.transformer.head

    def check_scheduler(self, name: str) -> None:
        """Raise `SchedulerError` before anything is encoded."""
        check_scheduler(name, self.info.transformer.version, self.info.scheduler)


@dataclass(frozen=True)
class Asked:
    """What the three samplers have in common."""

    prompt: str
    negative: str
    seed: int
    steps: int
    cfg: float
    scheduler: str
    step_cache: float
    denoise: float = 1.0


def free_ids(ids: Sequence[str]) -> set[str]:
    """Those of `ids` that no pack has registered; one that is loaded later replaces ours."""
    registered = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {})
    taken = [name for name in ids if name in registered]
    if taken:
        _LOG.info("Another pack has the nodes %s; it keeps them.", ", ".join(taken))
    return set(ids) - set(taken)


def supports_float8() -> bool:
    """Whether weights can be stored in fp8 on this device."""
    return holds_float8(comfy.model_management.get_torch_device())


def say(node_id: str | None, lines: Sequence[str]) -> None:
    """Say in the log and on the node what a setting means here."""
    for line in lines:
        _LOG.info("%s", line)
    notes.show(node_id, "\n".join(lines))


def checked(loaded: Any) -> OriginalModel:
    """The value of an EASYANIMATESMODEL socket, if it is ours."""
    if not isinstance(loaded, OriginalModel):
        raise InputError(
            f"{MODEL} is a {type(loaded).__name__} of another pack. Connect Load EasyAnimate Model "
            "of this pack, or remove the other pack and restart ComfyUI."
        )
    return loaded


def expand(
    hidden: Any, loaded: OriginalModel, asked: Asked, condition: Condition
) -> tuple[list[Any], Mapping[str, Any]]:
    """The frames' link, and the nodes of this pack that make them."""
    graph = GraphBuilder()
    model, clip, vae = _parts(hidden, loaded)
    text = graph.node(
        "EasyAnimateTextEncode", clip=clip, positive=asked.prompt, negative=asked.negative
    )
    positive, negative, latent = condition(graph, text.out(0), text.out(1), vae)
    sampled = graph.node(
        "EasyAnimateSampler",
        model=model,
        positive=positive,
        negative=negative,
        latent_image=latent,
        seed=asked.seed,
        steps=asked.steps,
        cfg=asked.cfg,
        scheduler=asked.scheduler,
        denoise=asked.denoise,
        guidance_rescale=0.0,
        step_cache=asked.step_cache,
    )
    frames = graph.node("EasyAnimateDecode", vae=vae, samples=sampled.out(0), tiles="auto")
    return frames.out(0), graph.finalize()


def _parts(hidden: Any, loaded: OriginalModel) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE as links to the loader, so that ComfyUI caches what follows from them.

    The objects themselves, if the socket is connected to a node in between.
    """
    source, _ = hidden.dynprompt.get_node(hidden.unique_id)["inputs"][MODEL]
    if hidden.dynprompt.get_node(source)["class_type"] not in LOADERS:
        return loaded.model, loaded.clip, loaded.vae
    return [source, 1], [source, 2], [source, 3]
