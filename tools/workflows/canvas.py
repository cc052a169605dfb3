"""Nodes, links and groups on a canvas, and the JSON that ComfyUI's frontend opens."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import dev

from .schemas import NOTE, OLDEST, PACK_PREFIX, Input, Schema
from .words import Said

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Where ComfyUI looks for the templates of a pack.
FOLDER = dev.ROOT / "workflows"
#: Pixels of the canvas.
TITLE = 30  # height of a node's title, above its position
GROUP_TITLE = 44
PADDING, GAP = 20, 30
#: Width and minimum height of nodes: what every frontend needs in either renderer once the node has
#: reported on its run and shows its preview (`tests/comfy/test_layout.py` measures it).
SIZES = {
    NOTE: (400, 200),
    "CLIPTextEncode": (360, 170),
    "ContextWindowsManual": (400, 410),
    "CreateVideo": (340, 116),
    "EasyAnimateCamera": (340, 520),
    "EasyAnimateCameraFile": (360, 260),
    "EasyAnimateCameraKeyframes": (360, 260),
    "EasyAnimateCameraMove": (360, 322),
    "EasyAnimateControl": (340, 490),
    "EasyAnimateDecode": (340, 180),
    "EasyAnimateEmptyLatentVideo": (400, 220),
    "EasyAnimateImageToVideo": (340, 470),
    "EasyAnimateInpaint": (340, 524),
    "EasyAnimateLoadCheckpoint": (360, 280),
    "EasyAnimateLoadLora": (360, 280),
    "EasyAnimatePinFrames": (340, 196),
    "EasyAnimatePreprocess": (300, 324),
    "EasyAnimateSampler": (360, 674),
    "EasyAnimateTextEncode": (360, 300),
    "EasyAnimateTrainLora": (360, 560),
    "EasyAnimateTrajectory": (420, 900),
    "EasyAnimateVideoToVideo": (340, 324),
    "EmptyImage": (300, 160),
    "GetVideoComponents": (300, 120),
    "ImageCompositeMasked": (300, 164),
    "KSampler": (400, 510),
    "LoadImage": (300, 360),
    "LoadVideo": (300, 350),
    "PreviewImage": (300, 268),
    "SaveImage": (420, 480),
    "SaveVideo": (340, 370),
    "VAEDecode": (340, 90),
    "VHS_LoadVideo": (300, 570),
    "VHS_VideoCombine": (340, 600),
}
#: Height of nodes that grow with a video as tall as a phone's, at the width above. They are the
#: last of their columns, in groups with this room.
GROWN = {
    "LoadVideo": 615,
    "SaveVideo": 710,
    "VHS_LoadVideo": 876,
    "VHS_VideoCombine": 984,
}
#: Nodes that fill the rest of their column, up to this height: text, images, videos, previews.
ELASTIC = {
    NOTE: 2000,
    "CLIPTextEncode": 600,
    "EasyAnimateTextEncode": 900,
    "LoadImage": 480,
    "LoadVideo": 420,
    "PreviewImage": 400,
    "SaveImage": 640,
    "SaveVideo": 480,
}
COLOURS = ("#b58b2a", "#88A", "#8A8", "#3f789e", "#8AA", "#A88")
#: Nodes 2.0 writes grey on it (dark theme) or on a paler one of its own (light): 4.6 to 1 in both.
NOTE_COLOURS = {"color": "#2e2a22", "bgcolor": "#343434"}
#: The registry name and version of the pack that a node belongs to.
CORE_ORIGIN = ("comfy-core", f"{OLDEST}.0")
VIDEO_HELPER_ORIGIN = ("comfyui-videohelpersuite", "1.7.9")
#: Where a workflow keeps its texts in other languages, in `extra`.
TEXTS = "easyanimate_texts"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "easyanimate-nodes")


class Output(NamedTuple):
    """An output socket of a node."""

    node: Node
    slot: int
    type: str


@dataclass(eq=False)
class Node:
    """A node: widget `values` by name, and `sources`, the outputs linked to its inputs.

    `labels` are shown instead of the names of inputs.
    """

    id: int
    schema: Schema
    title: Said | None
    values: dict[str, Any]
    sources: dict[str, Output]
    models: list[dict[str, str]] = field(default_factory=list)
    labels: dict[str, Said] = field(default_factory=dict)
    chinese: dict[str, Any] = field(default_factory=dict)
    position: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)

    def __getitem__(self, name: str) -> Output:
        for slot, (known, kind) in enumerate(self.schema.outputs):
            if known == name:
                return Output(self, slot, kind)
        raise KeyError(f"{self.schema.type} has no output {name!r}: {self.schema.outputs}")

    @property
    def room(self) -> int:
        """The height that it can grow to."""
        return max(self.size[1], GROWN.get(self.schema.type, 0))

    @property
    def slots(self) -> list[Input]:
        """Inputs in the frontend's order: sockets, then widgets, which can be linked too."""
        named = [w for w in self.widgets if w.name != "control_after_generate"]
        return [*self.schema.sockets, *named, *self.format_widgets]

    @property
    def widgets(self) -> list[Input]:
        """The node's widgets, including those added by its choices."""
        return [widget for widget, _ in self.schema.filled(lambda w: self.values[w.name])]

    @property
    def format_widgets(self) -> list[Input]:
        """The widgets that VideoHelperSuite adds for the chosen format."""
        if not self.schema.is_video_helper:
            return []
        return self.schema.format_widgets(self.values["format"])


@dataclass
class Group:
    """A step: columns of nodes inside a group frame."""

    title: Said
    columns: list[list[Node]]
    position: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)

    @property
    def has_note(self) -> bool:
        return any(node.schema.type == NOTE for column in self.columns for node in column)

    @property
    def widths(self) -> list[int]:
        return [max(node.size[0] for node in column) for column in self.columns]

    @property
    def width(self) -> int:
        return sum(self.widths) + GAP * (len(self.columns) - 1) + 2 * PADDING

    @property
    def height(self) -> int:
        """The height of its tallest column."""
        columns = [sum(TITLE + node.room + GAP for node in column) for column in self.columns]
        return GROUP_TITLE + max(columns) - GAP + PADDING

    def place(self, x: int, y: int, width: int, height: int) -> None:
        """Place the frame and its nodes; elastic nodes fill the remaining space."""
        self.position, self.size = (x, y), (width, height)
        stretch = (width - self.width) // len(self.columns)
        left = x + PADDING
        for column, natural in zip(self.columns, self.widths, strict=True):
            room = height - GROUP_TITLE - PADDING + GAP
            room -= sum(TITLE + node.room + GAP for node in column)
            elastic = [node for node in column if node.schema.type in ELASTIC]
            top = y + GROUP_TITLE
            for node in column:
                tall = node.size[1]
                if node in elastic:
                    tall = min(tall + room // len(elastic), ELASTIC[node.schema.type])
                node.position = (left, top + TITLE)
                node.size = (natural + stretch, tall)
                top += TITLE + node.size[1] + GAP
            left += natural + stretch + GAP


class Canvas:
    """A workflow under construction."""

    def __init__(self, name: str, schemas: Mapping[str, Schema]) -> None:
        self.name = name
        self.schemas = schemas
        self.nodes: list[Node] = []
        self.groups: list[Group] = []
        self.extra: dict[str, Any] = {}

    def add(
        self,
        type_name: str,
        *,
        title: Said | None = None,
        models: Sequence[dict[str, str]] = (),
        **given: Any,
    ) -> Node:
        """Add a node; an `Output` becomes a link, anything else a widget's value."""
        schema = self.schemas[type_name]
        chinese = {"title": title.zh} if title else {}
        chinese |= {name: value.zh for name, value in given.items() if isinstance(value, Said)}
        given = {k: value.en if isinstance(value, Said) else value for k, value in given.items()}
        sources = {k: value for k, value in given.items() if isinstance(value, Output)}
        values = {k: value for k, value in given.items() if not isinstance(value, Output)}
        filled = schema.filled(lambda widget: values.get(widget.name, widget.default))
        values = {widget.name: value for widget, value in filled} | values
        node = Node(
            len(self.nodes) + 1, schema, title, values, sources, list(models), chinese=chinese
        )
        node.values = {w.name: w.default for w in node.format_widgets} | values
        node.size = SIZES[type_name]
        known = {entry.name for entry in node.slots} | {"control_after_generate"}
        if unknown := given.keys() - known:
            raise KeyError(f"{type_name} has no input {', '.join(sorted(unknown))}")
        missing = {i.name for i in schema.sockets if not i.optional} - sources.keys()
        if missing:
            raise KeyError(f"{self.name}: {type_name} needs {', '.join(sorted(missing))}")
        self.nodes.append(node)
        return node

    def arrange(self, columns: Sequence[Sequence[Group]]) -> None:
        """Place columns of groups from left to right, all with the same height.

        The note takes what is left of its column, elsewhere the last group.
        """
        heights = [sum(g.height + GAP for g in column) - GAP for column in columns]
        total = max(heights)
        x = 0
        for column, height in zip(columns, heights, strict=True):
            width = max(group.width for group in column)
            y = 0
            grows = next((group for group in column if group.has_note), column[-1])
            for group in column:
                rest = total - height if group is grows else 0
                group.place(x, y, width, group.height + rest)
                y += group.size[1] + GAP
                self.groups.append(group)
            x += width + GAP

    def to_json(self) -> dict[str, Any]:
        """The workflow in the format that "Save" writes."""
        links = self._links()
        return {
            "id": str(uuid.uuid5(NAMESPACE, self.name)),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(links),
            "nodes": [self._node_json(node, links) for node in self.nodes],
            "links": links,
            "groups": [
                {
                    "id": number,
                    "title": group.title.en,
                    "bounding": [*group.position, *group.size],
                    "color": COLOURS[(number - 1) % len(COLOURS)],
                    "font_size": 24,
                    "flags": {},
                }
                for number, group in enumerate(self.groups, start=1)
            ],
            "config": {},
            "extra": {**self.extra, TEXTS: {"zh": self._chinese()}},
            "version": 0.4,
        }

    def _chinese(self) -> dict[str, Any]:
        """Titles, labels and notes as `web/js/workflow_language.js` puts them on a Chinese page."""
        nodes = {}
        for node in self.nodes:
            labels = {name: label.zh for name, label in node.labels.items()}
            if texts := {**node.chinese, **({"labels": labels} if labels else {})}:
                nodes[str(node.id)] = texts
        return {"nodes": nodes, "groups": [group.title.zh for group in self.groups]}

    def _links(self) -> list[list[Any]]:
        """Rows of id, from node, from slot, to node, to slot, type."""
        rows = []
        for node in self.nodes:
            for slot, entry in enumerate(node.slots):
                if source := node.sources.get(entry.name):
                    row = [source.node.id, source.slot, node.id, slot, source.type]
                    rows.append([len(rows) + 1, *row])
        return rows

    def _node_json(self, node: Node, links: list[list[Any]]) -> dict[str, Any]:
        schema = node.schema
        body: dict[str, Any] = {
            "id": node.id,
            "type": schema.type,
            "pos": list(node.position),
            "size": list(node.size),
            "flags": {},
            "order": node.id - 1,
            "mode": 0,
            "inputs": [_input_json(entry, node, slot, links) for slot, entry in _slots(node)],
            "outputs": [
                {"name": name, "type": kind, "links": _leaving(node.id, slot, links)}
                for slot, (name, kind) in enumerate(schema.outputs)
            ],
        }
        if node.title:
            body["title"] = node.title.en
        body["properties"] = _properties(node)
        body["widgets_values"] = _widget_values(node)
        if schema.type == NOTE:
            body |= NOTE_COLOURS
        return body


def _slots(node: Node) -> list[tuple[int, Input]]:
    return [] if node.schema.type == NOTE else list(enumerate(node.slots))


def _input_json(entry: Input, node: Node, slot: int, links: list[list[Any]]) -> dict[str, Any]:
    found = [link[0] for link in links if link[3:5] == [node.id, slot]]
    body: dict[str, Any] = {"name": entry.name, "type": entry.type}
    if entry.optional:
        body["shape"] = 7
    if entry.name in node.labels:
        body["label"] = node.labels[entry.name].en
    if entry.is_widget or entry.name == "upload":
        body["widget"] = {"name": entry.name}
    return {**body, "link": found[0] if found else None}


def _leaving(node: int, slot: int, links: list[list[Any]]) -> list[int] | None:
    return [link[0] for link in links if link[1:3] == [node, slot]] or None


def _properties(node: Node) -> dict[str, Any]:
    """The node's pack, so that a missing one can be installed, and the files that it loads."""
    kind = node.schema.type
    if kind.startswith(PACK_PREFIX):
        origin = pack_origin()
    elif node.schema.is_video_helper:
        origin = VIDEO_HELPER_ORIGIN
    else:
        origin = CORE_ORIGIN
    body: dict[str, Any] = {"cnr_id": origin[0], "ver": origin[1], "Node name for S&R": kind}
    return {**body, "models": node.models} if node.models else body


def pack_origin() -> tuple[str, str]:
    """This pack's name in the registry and its version."""
    with (dev.ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    return project["name"], project["version"]


def _widget_values(node: Node) -> list[Any] | dict[str, Any]:
    """Values by position, or by name for VideoHelperSuite, which saves them like this itself.

    Frontends from 1.55 turn a dict of only widget names into a list, which VideoHelperSuite takes
    for its old format, shifted by one value. Including its preview prevents that.
    """
    if node.schema.is_video_helper:
        named = {name: value for name, value in node.values.items() if name != "upload"}
        return {**named, "videopreview": {"hidden": False, "paused": False, "params": {}}}
    return [node.values[widget.name] for widget in node.widgets]


def to_text(workflow: Mapping[str, Any]) -> str:
    """JSON with one node, link or group per line, so that diffs are small."""
    parts = []
    for key, value in workflow.items():
        if isinstance(value, list) and value:
            rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in value)
            parts.append(f" {json.dumps(key)}: [\n{rows}\n ]")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
