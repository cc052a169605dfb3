"""Connects the nodes of workflows that run the pack's small model without any files."""

from __future__ import annotations

from typing import Any

from easyanimate_core.models.specs import Head, Version
from easyanimate_core.sampling import DEFAULT_SCHEDULER
from easyanimate_core.shapes.scenes import COLOURS, TINTS
from easyanimate_core.small_model import SIZE, few_steps_name, list_name

from .builders import Columns, beside_prompt
from .canvas import Group, Node
from .drafts import LOAD, SAMPLE, SHOWN, Draft
from .drafts import SIZE as SIZE_STEP
from .words import Said

_FRAMES, _HEIGHT, _WIDTH = SIZE
_CLIP = {"width": _WIDTH, "height": _HEIGHT, "length": _FRAMES}
#: With a control video, strong guidance would lead away from it.
_CFG, _SHOWN_CFG = 4.0, 2.0
#: A large square in the small model's world: its side and its initial position.
_SIDE, _LEFT, _TOP = 30, 56, 34
#: Prompt of the clip that the control video is made from.
COPIED = "A large red circle moves right on plain grey."


def text(draft: Draft) -> Columns:
    """Text to video."""
    before = [draft.load(), draft.prompt()]
    empty = _empty(draft)
    size = Group(SIZE_STEP, [[empty]])
    return [[], before, [size, draft.sample(**_sampling(draft, _CFG))], [draft.save()]]


def four_steps(draft: Draft) -> Columns:
    """Text to video in four steps, with the LoRA for it."""
    load = draft.load()
    lora = draft.add(
        "EasyAnimateLoadLora", model=draft.model, lora=few_steps_name(Head.INPAINT), strength=1.0
    )
    draft.model = lora["MODEL"]
    load = Group(LOAD, [[*load.columns[0], lora]])
    before = [load, draft.prompt()]
    size = Group(SIZE_STEP, [[_empty(draft)]])
    return [[], before, [size, draft.sample(steps=4, cfg=1.0)], [draft.save()]]


def start_image(draft: Draft) -> Columns:
    """A start image composed of two plain ones."""
    before = [draft.load(), draft.prompt()]
    ground = _plain(draft, Said("The ground", "背景"), TINTS["grey"], _WIDTH, _HEIGHT)
    shape = _plain(draft, Said("The square", "方块"), COLOURS["red"], _SIDE, _SIDE)
    both = draft.add(
        "ImageCompositeMasked",
        title=Said("The square on the background", "背景上的方块"),
        destination=ground["IMAGE"],
        source=shape["IMAGE"],
        x=_LEFT,
        y=_TOP,
    )
    preview = draft.add(
        "PreviewImage", title=Said("The start image", "首帧图"), images=both["IMAGE"]
    )
    shown = draft.show(
        "EasyAnimateImageToVideo", start_image=both["IMAGE"], keep_known=True, **_CLIP
    )
    group = Group(SHOWN, [[ground, shape, both], [preview, shown]])
    return beside_prompt(draft, before, group, **_sampling(draft, _CFG))


def control(draft: Draft) -> Columns:
    """The edges of a first generated clip provide the motion of a second one."""
    load = draft.load()
    other = draft.add(
        "EasyAnimateLoadCheckpoint",
        checkpoint=list_name(Head.CONTROL, Version(draft.weights.version)),
    )
    load = Group(LOAD, [[*load.columns[0], other]])
    first = draft.add(
        "CLIPTextEncode",
        title=Said("First: a clip", "第一步：一段短片"),
        clip=draft.clip,
        text=COPIED,
    )
    prompt = draft.prompt()
    second = draft.positive
    prompt.columns.insert(0, [first])
    empty = _empty(draft)
    draft.positive = first["CONDITIONING"]
    sampled = _sampler(draft, Said("First: a clip", "第一步：一段短片"), _CFG)
    decode = draft.add("EasyAnimateDecode", vae=draft.vae, samples=sampled["latent"])
    edges = draft.add("EasyAnimatePreprocess", image=decode["IMAGE"], kind="canny")
    video = edges["control_video"]
    preview = draft.add("PreviewImage", title=Said("The control video", "控制视频"), images=video)
    draft.positive = second
    shown = draft.show("EasyAnimateControl", control_video=video, **_CLIP)
    draft.model = other["MODEL"]
    copied = _sampler(draft, Said("Second: its copy", "第二步：照它再做一段"), _SHOWN_CFG)
    draft.latent = copied["latent"]
    group = Group(SHOWN, [[sampled], [decode, edges, preview], [empty, shown]])
    return [[load], [prompt, group], [Group(SAMPLE, [[copied]])], [draft.save()]]


def camera(draft: Draft) -> Columns:
    """A camera move and the prompt."""
    before = [draft.load(), draft.prompt()]
    shown = draft.show("EasyAnimateCamera", move="Pan Left", original_timing=False, **_CLIP)
    preview = draft.add(
        "PreviewImage", title=Said("The camera's path", "镜头的路径"), images=shown["preview"]
    )
    group = Group(SHOWN, [[shown, preview]])
    return beside_prompt(draft, before, group, **_sampling(draft, _CFG))


def _empty(draft: Draft) -> Node:
    empty = draft.add("EasyAnimateEmptyLatentVideo", **_CLIP)
    draft.latent = empty["latent"]
    return empty


def _plain(
    draft: Draft, title: Said, colour: tuple[int, int, int], width: int, height: int
) -> Node:
    red, green, blue = colour
    number = red << 16 | green << 8 | blue
    return draft.add("EmptyImage", title=title, width=width, height=height, color=number)


def _sampling(draft: Draft, cfg: float) -> dict[str, Any]:
    """Settings of a sampler; of V5 the scheduler is named, because there are five."""
    named = {"scheduler": DEFAULT_SCHEDULER[Version.V5]}
    return {"steps": 20, "cfg": cfg} | (named if draft.weights.version == Version.V5 else {})


def _sampler(draft: Draft, title: Said, cfg: float) -> Node:
    return draft.add(
        "EasyAnimateSampler",
        title=title,
        model=draft.model,
        positive=draft.positive,
        negative=draft.negative,
        latent_image=draft.latent,
        **_sampling(draft, cfg),
    )
