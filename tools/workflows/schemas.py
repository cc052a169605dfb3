"""Schemas of the nodes that the workflows use, as compact JSON.

The files contain the response of `/object_info`, without tooltips and names of the user's files.
The oldest version has every node; newer ones only those that differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dev

FOLDER = dev.ROOT / "tests" / "workflows" / "schemas"
OLDEST, NEWEST = "0.8", "0.33"
VERSIONS = (OLDEST, NEWEST)
PACK_PREFIX = "EasyAnimate"
#: Third-party nodes that the workflows may use: ComfyUI's, present in all `VERSIONS`, and
#: VideoHelperSuite's.
FOREIGN = (
    "CLIPTextEncode",
    "ContextWindowsManual",
    "CreateVideo",
    "EmptyImage",
    "GetVideoComponents",
    "ImageCompositeMasked",
    "KSampler",
    "LoadImage",
    "LoadVideo",
    "PreviewImage",
    "SaveImage",
    "SaveVideo",
    "VAEDecode",
    "VHS_LoadVideo",
    "VHS_VideoCombine",
)
#: Nodes that exist only in the frontend.
NOTE = "MarkdownNote"
#: Combos that list the user's files or folders.
FILE_LISTS = {
    ("EasyAnimateLoadCheckpoint", "checkpoint"),
    ("EasyAnimateMemoryPlan", "checkpoint"),
    ("EasyAnimateTrainLora", "checkpoint"),
    ("EasyAnimateLoadConditioning", "embeddings"),
    ("EasyAnimateLoadDiffusionModel", "diffusion_model"),
    ("EasyAnimateLoadLora", "lora"),
    ("EasyAnimateLoadTextEncoder", "text_encoder"),
    ("EasyAnimateLoadTextEncoder", "text_encoder_2"),
    ("EasyAnimateLoadVAE", "vae_file"),
    ("LoadImage", "image"),
    ("LoadVideo", "file"),
    ("VHS_LoadVideo", "video"),
}
#: A combo whose choices add widgets.
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
#: What to do instead of removing or renaming a node.
KEEP = (
    "Saved workflows hold ids, names and positions. Keep a replaced node under its id, deprecated, "
    "as nodes/original.py does; if one node with the same types replaces it, also register "
    "io.NodeReplace, where ComfyUI has it (0.14 and newer), so that its page offers the new one."
)
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC}
UPLOADS = ("image_upload", "video_upload")
_KEPT = (
    "default",
    "min",
    "max",
    "step",
    "round",
    "options",
    "multiline",
    "control_after_generate",
    "formats",
    *UPLOADS,
)


@dataclass(frozen=True)
class Input:
    """A socket or a widget. `options` are the choices of a combo, or None if they are files."""

    name: str
    type: str
    optional: bool
    settings: Mapping[str, Any]

    @property
    def is_widget(self) -> bool:
        return self.type in WIDGETS

    @property
    def options(self) -> list[Any] | None:
        options = self.settings.get("options")
        return [option["key"] for option in options] if self.type == DYNAMIC else options

    @property
    def default(self) -> Any:
        """The frontend's default value."""
        if "default" in self.settings:
            return self.settings["default"]
        empty = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}
        return (self.options or [""])[0] if self.type not in empty else empty[self.type]

    def brought_by(self, choice: Any) -> list[Input]:
        """The widgets that a choice of a dynamic combo adds, named `<combo>.<input>`."""
        options = self.settings.get("options", ()) if self.type == DYNAMIC else ()
        return [
            Input(f"{self.name}.{name}", kind, section == "optional", rest[0] if rest else {})
            for option in options
            if option["key"] == choice
            for section, inputs in option["inputs"].items()
            for name, (kind, *rest) in inputs.items()
        ]


@dataclass(frozen=True)
class Schema:
    """A node type: inputs in the order of definition, outputs as (name, type)."""

    type: str
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str], ...]

    @property
    def sockets(self) -> list[Input]:
        return [entry for entry in self.inputs if not entry.is_widget]

    @property
    def widgets(self) -> list[Input]:
        """The widgets in the frontend's order, including those that it adds itself."""
        found = []
        for entry in self.inputs:
            if not entry.is_widget:
                continue
            found.append(entry)
            if entry.settings.get("control_after_generate"):
                choices = {"options": ["fixed", "increment", "decrement", "randomize"]}
                found.append(Input("control_after_generate", "COMBO", False, choices))
        if any(entry.settings.get(upload) for entry in self.inputs for upload in UPLOADS):
            found.append(Input("upload", "IMAGEUPLOAD", False, {"options": ["image"]}))
        return found

    def filled(self, value_of: Callable[[Input], Any]) -> list[tuple[Input, Any]]:
        """The widgets and their values in the frontend's order, including those added by choices.

        That is the order of a node's `widgets_values`, in which `value_of` is called.
        """
        return [pair for widget in self.widgets for pair in _filled(widget, value_of)]

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        """The `widgets_values` of a node by widget name; the counts must match."""
        left = iter(values)
        found = {widget.name: value for widget, value in self.filled(lambda _: next(left))}
        if len(found) != len(values):
            raise ValueError(
                f"{self.type} has {len(found)} widgets, but there are {len(values)} values."
            )
        return found

    @property
    def is_video_helper(self) -> bool:
        """Whether its widgets, including those of its format, are stored by name."""
        return self.type.startswith("VHS_")

    def format_widgets(self, chosen: str) -> list[Input]:
        """The widgets that VideoHelperSuite adds for a format."""
        formats = next(i.settings.get("formats") for i in self.inputs if i.name == "format")
        found = formats.get(chosen)
        return [_format_widget(*parts) for parts in found] if isinstance(found, list) else []


def _filled(widget: Input, value_of: Callable[[Input], Any]) -> Iterator[tuple[Input, Any]]:
    value = value_of(widget)
    yield widget, value
    for brought in widget.brought_by(value):
        yield from _filled(brought, value_of)


def _format_widget(name: str, kind: str | list[str], *rest: Any) -> Input:
    settings = rest[0] if rest else {}
    if isinstance(kind, list):
        return Input(name, "COMBO", False, {"options": kind, **settings})
    return Input(name, kind, False, settings)


NOTE_SCHEMA = Schema(NOTE, (Input("text", "STRING", False, {"multiline": True}),), ())


def read(version: str = OLDEST) -> dict[str, Schema]:
    """The nodes of one of `VERSIONS`."""
    return {**{k: _from_json(k, v) for k, v in read_compact(version).items()}, NOTE: NOTE_SCHEMA}


def read_compact(version: str) -> dict[str, Any]:
    """The result of `compact` for one of `VERSIONS`, read from the files."""
    found: dict[str, Any] = {}
    for name in VERSIONS[: VERSIONS.index(version) + 1]:
        found |= json.loads(file_of(name).read_text(encoding="utf-8"))
    return found


def _from_json(name: str, entry: Mapping[str, Any]) -> Schema:
    inputs = tuple(
        Input(key, kind, "optional" in flags, settings)
        for key, kind, settings, *flags in entry["inputs"]
    )
    return Schema(name, inputs, tuple((key, kind) for key, kind in entry["outputs"]))


def compact(info: Mapping[str, Any]) -> dict[str, Any]:
    """This pack's nodes and the `FOREIGN` ones in a response of `/object_info`.

    Without those under the original's ids, which no workflow of this pack has.
    """
    own = (name for name in info if name.startswith(PACK_PREFIX) and not info[name]["deprecated"])
    wanted = {*FOREIGN, *own}
    return {name: _compact_node(name, info[name]) for name in sorted(wanted)}


def _compact_node(name: str, info: Mapping[str, Any]) -> dict[str, Any]:
    inputs = []
    for section in ("required", "optional"):
        for key, (kind, *rest) in info["input"].get(section, {}).items():
            settings = dict(rest[0]) if rest else {}
            if isinstance(kind, list):
                kind, settings["options"] = "COMBO", kind  # noqa: PLW2901
            if (name, key) in FILE_LISTS:
                settings.pop("options", None)
                settings.pop("default", None)
            kept = {word: _without_tooltips(settings[word]) for word in _KEPT if word in settings}
            inputs.append([key, kind, kept, *(["optional"] if section == "optional" else [])])
    outputs = zip(info["output_name"], info["output"], strict=True)
    return {"inputs": inputs, "outputs": [list(pair) for pair in outputs]}


def _without_tooltips(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_tooltips(v) for k, v in value.items() if k != "tooltip"}
    return [_without_tooltips(v) for v in value] if isinstance(value, list) else value


def write(answers: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the files from the responses of `/object_info`, by version.

    Ends the program instead if saved workflows would lose something, see `lost`.
    """
    for version in VERSIONS:
        if faults := lost(read_compact(version), answers[version]):
            raise SystemExit("\n".join([*faults, KEEP]))
    FOLDER.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = {}
    for version in VERSIONS:
        nodes = compact(answers[version])
        changed = {name: node for name, node in nodes.items() if known.get(name) != node}
        known |= changed
        lines = [
            f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in changed.items()
        ]
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        file_of(version).write_text(text, encoding="utf-8")


def lost(known: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    """What saved workflows would lose by a change of this pack's nodes, one line each.

    They hold nodes by id, sockets by name, and widgets and outputs by position. `known` is from
    `compact`, `info` a response of `/object_info`.
    """
    lines = []
    for name in filter(lambda name: name.startswith(PACK_PREFIX), known):
        if name not in info:
            lines.append(f"{name} is gone.")
            continue
        before = _from_json(name, known[name])
        after = _from_json(name, _compact_node(name, info[name]))
        widgets = [[widget.name for widget in schema.widgets] for schema in (before, after)]
        sockets = [[socket.name for socket in schema.sockets] for schema in (before, after)]
        if widgets[1][: len(widgets[0])] != widgets[0]:
            lines.append(
                f"{name}: widgets only come at the end, but {widgets[0]} are {widgets[1]}."
            )
        if not set(sockets[0]) <= {entry.name for entry in after.inputs}:
            lines.append(f"{name}: of the sockets {sockets[0]}, {sockets[1]} are left.")
        if after.outputs[: len(before.outputs)] != before.outputs:
            lines.append(f"{name}: outputs only come at the end, but they are {after.outputs}.")
    return lines


def file_of(version: str) -> Path:
    """The file of a version."""
    return FOLDER / f"comfyui-{version}.json"
