"""The form: a component for every field, in the order in which the page passes their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from ..errors import InputError
from ..memory.options import OFFLOADS, QUANTIZATIONS, Memory
from ..paths.camera import CAMERA_MOVES
from ..preprocess import KINDS
from ..sampling import SCHEDULERS
from ..settings import Settings
from ..small_model import EXAMPLE_PROMPT
from ..speeds import LARGEST_SHARE
from ..tasks import TASKS
from .checkpoints import Checkpoints
from .request import AS_IT_IS, fields_of, names_of, sources
from .texts import FIELDS

#: The values of a request, by position.
FORM = (
    "prompt", "model", "mode", *sources(), "preprocessor", *names_of(Settings), *names_of(Memory),
)  # fmt: skip
_PICTURE = {"type": "filepath", "image_mode": None, "sources": ["upload", "clipboard"]}


def build_form(i18n: gr.I18n, checkpoints: Checkpoints) -> dict[str, Any]:
    """Place all components of the form on the page; by field name."""
    names = checkpoints.names()
    first = next(iter(TASKS))
    form: dict[str, Any] = {}
    make = _maker(i18n, form)
    with gr.Group():
        make("model", gr.Dropdown, choices=names, value=names[0] if names else None,
             allow_custom_value=True)  # fmt: skip
        make("mode", gr.Radio, choices=mode_choices(i18n, tuple(TASKS)), value=first)
    _add_sources(make, first)
    make("prompt", gr.Textbox, value="", lines=3, placeholder=EXAMPLE_PROMPT, autofocus=True)
    return form


def add_settings(i18n: gr.I18n, form: dict[str, Any]) -> Any:
    """Place the settings, folded; returns the button for a random seed."""
    make = _maker(i18n, form)
    with gr.Accordion(i18n("size"), open=False):
        with gr.Row():
            for name in ("height", "width", "frames"):
                make(name, gr.Textbox, value="", placeholder="auto", min_width=110)
        with gr.Row():
            make("fps", gr.Number, value=Settings.fps, min_width=110)
            make("batch", gr.Number, value=Settings.batch, precision=0, min_width=110)
            _make_choice(make, "short", ("refuse", "repeat"), Settings.short)
    with gr.Accordion(i18n("sampling"), open=False):
        dice = _add_sampling(make, i18n)
    with gr.Accordion(i18n("memory"), open=False):
        with gr.Row():
            _make_choice(make, "quantization", QUANTIZATIONS, Memory.quantization)
            _make_choice(make, "text_quantization", QUANTIZATIONS, Memory.text_quantization)
        with gr.Row():
            _make_choice(make, "offload", OFFLOADS, Memory.offload)
            make("text_device", gr.Textbox, value="", min_width=110)
            make("tile", gr.Textbox, value="", placeholder="auto", min_width=110)
        with gr.Row():
            make("sequential_guidance", gr.Checkbox, value=Memory.sequential_guidance)
            make("resident_blocks", gr.Number, value=Memory.resident_blocks, precision=0)
    return dice


def mode_choices(i18n: gr.I18n, modes: tuple[str, ...]) -> list[tuple[str, str]]:
    """The modes as options of the form."""
    return [(str(i18n(mode)), mode) for mode in modes]


def _maker(i18n: gr.I18n, form: dict[str, Any]) -> Callable[..., None]:
    def make(name: str, component: Any, **properties: Any) -> None:
        label, info = i18n(f"field.{name}"), i18n(f"field.{name}.info")
        has_info = component not in (gr.Image, gr.Video, gr.File)
        told = {"label": label, "info": info} if has_info else {"label": label}
        form[name] = component(**told, **properties, elem_id=f"field-{name}")

    assert FIELDS.keys() >= {*FORM}
    return make


def _make_choice(make: Callable[..., None], name: str, choices: Any, value: Any) -> None:
    make(name, gr.Dropdown, choices=list(choices), value=value, min_width=110)


def _add_sampling(make: Callable[..., None], i18n: gr.I18n) -> Any:
    make("negative_prompt", gr.Textbox, value=Settings.negative_prompt, lines=2)
    with gr.Row():
        make("seed", gr.Textbox, value=str(Settings.seed), min_width=110)
        dice = gr.Button(i18n("dice"), min_width=110, elem_id="dice")
    with gr.Row():
        make("steps", gr.Slider, minimum=1, maximum=200, step=1, value=Settings.steps)
        make("guidance_scale", gr.Slider, minimum=1, maximum=20, step=0.1,
             value=Settings.guidance_scale)  # fmt: skip
    with gr.Row():
        _make_choice(make, "scheduler", [("auto", ""), *SCHEDULERS], "")
        _make_choice(make, "keep_known", ("auto", "on", "off"), "auto")
    with gr.Row():
        make("guidance_rescale", gr.Slider, minimum=0, maximum=1, step=0.05,
             value=Settings.guidance_rescale)  # fmt: skip
        make("guidance_window", gr.Slider, minimum=0, maximum=1, step=0.05,
             value=Settings.guidance_window)  # fmt: skip
    with gr.Row():
        make("step_cache", gr.Slider, minimum=0, maximum=LARGEST_SHARE, step=0.05,
             value=Settings.step_cache)  # fmt: skip
        make("reference_noise", gr.Number, value=Settings.reference_noise, min_width=110)
    return dice


def _add_sources(make: Callable[..., None], mode: str) -> None:
    shown = {name: name in fields_of(mode) for name in sources()}
    with gr.Row():
        for name in ("start", "end"):
            make(name, gr.Image, visible=shown[name], height=220, **_PICTURE)
    with gr.Row():
        make("video", gr.Video, visible=shown["video"], height=220, sources=["upload"])
        for name in ("mask", "reference"):
            make(name, gr.Image, visible=shown[name], height=220, **_PICTURE)
    kinds = [("–", AS_IT_IS), *((kind.display_name, name) for name, kind in KINDS.items())]
    make("preprocessor", gr.Dropdown, choices=kinds, value=AS_IT_IS, visible=mode == "control")
    make("moves", gr.Dropdown, choices=list(CAMERA_MOVES), multiselect=True, value=[],
         visible=shown["moves"])  # fmt: skip
    with gr.Row():
        make("speed", gr.Number, value=1.0, visible=shown["speed"], min_width=110)
        make("original_timing", gr.Checkbox, value=True, visible=shown["original_timing"])
    make("poses", gr.File, file_types=[".txt"], visible=shown["poses"], height=120)
    make("tracks", gr.Textbox, value="", lines=4, visible=shown["tracks"],
         placeholder='[[{"x": 24, "y": 48}, {"x": 72, "y": 48}]]')  # fmt: skip
    make("strength", gr.Textbox, value="", placeholder="auto", visible=shown["strength"])


def guard_files(form: Mapping[str, Any]) -> None:
    """Leave the reading of uploads to this package, and fetch nothing from other addresses.

    Pillow and FFmpeg of gradio's components would judge them first, with other limits and messages.
    """
    for component in form.values():
        if isinstance(component, gr.Image | gr.Video | gr.File):
            component.preprocess = _path_of  # type: ignore[method-assign]
            component.async_move_resource_to_block_cache = _kept(component)  # type: ignore


def _path_of(payload: Any) -> str | None:
    return None if payload is None else str(payload.path)


def _kept(component: Any) -> Callable[[Any], Any]:
    move = component.async_move_resource_to_block_cache

    async def kept(path: Any) -> Any:
        if path is not None and "://" in str(path):
            raise InputError(f"{path} is an address; give a file of this machine.")
        return await move(path)

    return kept
