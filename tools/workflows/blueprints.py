"""Blueprints: whole modes as one node each, which ComfyUI lists beside its nodes.

A blueprint is a workflow of one node, whose definition is a subgraph. ComfyUI shows it under the
name of its file.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dev

from .canvas import NAMESPACE, Canvas, Group, Node, Output, pack_origin, to_text
from .drafts import FPS, SAVE, SHOWN, SIZE, Draft, Form
from .notes import CONTROL, INP, T2V, Weights
from .schemas import Schema, read

#: Where ComfyUI looks for the blueprints of a pack.
FOLDER = dev.ROOT / "subgraphs"
CATEGORY = "EasyAnimate"
WIDTH, ROW, MARGIN = 400, 28, 120
#: The ends of a subgraph's own inputs and outputs, as the frontend numbers them.
INPUT_END, OUTPUT_END = -10, -20
IMAGES = "IMAGE"


@dataclass(eq=False)
class Face:
    """What the one node shows: sockets and settings of the nodes inside, in order.

    It takes the place of a node whose outputs are the subgraph's inputs.
    """

    id: int = INPUT_END
    entries: list[tuple[str, str, Node | None]] = field(default_factory=list)
    optional: set[str] = field(default_factory=set)

    def images(self, name: str, *, optional: bool) -> Output:
        """A new socket, to give to a node inside."""
        if optional:
            self.optional.add(name)
        return self._add(name, IMAGES, None)

    def promote(self, node: Node, *names: str) -> None:
        """Show settings of a node inside; their values are those of that node."""
        for name in names:
            (kind,) = (w.type for w in node.widgets if w.name == name)
            node.sources[name] = self._add(name, kind, node)

    def _add(self, name: str, kind: str, node: Node | None) -> Output:
        self.entries.append((name, kind, node))
        return Output(self, len(self.entries) - 1, kind)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Blueprint:
    """One mode as one node."""

    mode: str
    weights: Weights
    about: str
    prompt: str
    show: Callable[[Draft, Face], Group]

    @property
    def name(self) -> str:
        """The name of the file and of the node; a file's name has no colon on Windows."""
        return f"EasyAnimate - {self.mode}"

    def workflow(self, schemas: Mapping[str, Schema]) -> dict[str, Any]:
        """The blueprint as JSON."""
        canvas, face = Canvas(self.name, schemas), Face()
        draft = Draft(canvas, Form.CORE, weights=self.weights, text=self.prompt, prefix="")
        load, prompt = draft.load(), draft.prompt()
        encode = prompt.columns[0][0]
        shown = self.show(draft, face)
        sample = draft.sample()
        decode = draft.add("EasyAnimateDecode", vae=draft.vae, samples=draft.latent)
        video = draft.add("CreateVideo", images=decode[IMAGES], fps=FPS)
        face.promote(encode, "positive", "negative")
        for node in shown.columns[-1]:
            names = {widget.name for widget in node.widgets}
            face.promote(node, *(n for n in SHOWN_SETTINGS if n in names))
        face.promote(sample.columns[0][-1], "seed", "steps", "cfg")
        face.promote(load.columns[0][0], "checkpoint")
        canvas.arrange([[load, prompt], [shown, sample], [Group(SAVE, [[decode, video]])]])
        return _to_json(self, canvas, face, (video["VIDEO"], decode[IMAGES]))


SHOWN_SETTINGS = ("width", "height", "length", "strength", "source_fps")


def _size(draft: Draft, face: Face) -> Group:  # noqa: ARG001  (there is nothing to show)
    empty = draft.add("EasyAnimateEmptyLatentVideo")
    draft.latent = empty["latent"]
    return Group(SIZE, [[empty]])


def _images(draft: Draft, face: Face) -> Group:
    sockets = {name: face.images(name, optional=True) for name in ("start_image", "end_image")}
    return Group(SHOWN, [[draft.show("EasyAnimateImageToVideo", **sockets)]])


def _control(draft: Draft, face: Face) -> Group:
    shown = draft.show(
        "EasyAnimateControl",
        control_video=face.images("control_video", optional=False),
        reference_image=face.images("reference_image", optional=True),
    )
    return Group(SHOWN, [[shown]])


BLUEPRINTS = (
    Blueprint(
        "Text to video",
        Weights("V5.1", T2V),
        "Generates a video from a prompt with EasyAnimate V5.1.",
        "A corgi runs along a sunny beach, its paws splashing through the shallow waves. Golden "
        "light of late afternoon. Realistic, rich in detail.",
        _size,
    ),
    Blueprint(
        "Image to video",
        Weights("V5.1", INP),
        "Generates a video that starts with an image, ends with one, or both, with EasyAnimate "
        "V5.1.",
        "The scene comes alive: hair and clothes move in a light breeze, and the camera slowly "
        "moves closer.",
        _images,
    ),
    Blueprint(
        "Control",
        Weights("V5.1", CONTROL),
        "A control video (poses, edges, depth) provides the motion, the prompt and an optional "
        "reference image the look, with EasyAnimate V5.1.",
        "A young woman in a red dress dances in a garden full of flowers, her long hair flying. "
        "Realistic, rich in detail.",
        _control,
    ),
)


def files() -> dict[str, str]:
    """The content of every blueprint, by file name."""
    schemas = read()
    return {f"{each.name}.json": to_text(each.workflow(schemas)) for each in BLUEPRINTS}


def _to_json(
    blueprint: Blueprint, canvas: Canvas, face: Face, results: tuple[Output, ...]
) -> dict[str, Any]:
    inner = canvas.to_json()
    links = [_link(*row) for row in inner["links"]]
    nodes = {node["id"]: node for node in inner["nodes"]}
    outputs = []
    for slot, result in enumerate(results):
        number = len(links) + 1
        links.append(_link(number, result.node.id, result.slot, OUTPUT_END, slot, result.type))
        source = nodes[result.node.id]["outputs"][result.slot]
        source["links"] = [*(source["links"] or []), number]
        outputs.append({"name": result.type, "type": result.type, "linkIds": [number]})
    inputs = [
        {"name": name, "type": kind, "linkIds": _leaving(links, slot)}
        for slot, (name, kind, _) in enumerate(face.entries)
    ]
    for own in (inputs, outputs):
        for entry in own:
            entry["id"] = _id(blueprint, f"{own is inputs} {entry['name']}")
    right = max(group.position[0] + group.size[0] for group in canvas.groups)
    definition = {
        "id": _id(blueprint, "definition"),
        "version": 1,
        "state": {
            "lastGroupId": len(inner["groups"]),
            "lastNodeId": len(nodes),
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": blueprint.name,
        "inputNode": _end(INPUT_END, -2 * MARGIN, len(inputs)),
        "outputNode": _end(OUTPUT_END, right + MARGIN, len(outputs)),
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": inner["nodes"],
        "groups": inner["groups"],
        "links": links,
        "extra": {},
        "category": CATEGORY,
        "description": blueprint.about,
    }
    return {
        **inner,
        "id": _id(blueprint, "workflow"),
        "last_node_id": len(nodes) + 1,
        "last_link_id": 0,
        "nodes": [_host(definition, face)],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [definition]},
        "extra": {"BlueprintDescription": blueprint.about},
    }


def _host(definition: Mapping[str, Any], face: Face) -> dict[str, Any]:
    """The one node."""
    name, version = pack_origin()
    inputs = []
    for entry, kind, node in face.entries:
        body: dict[str, Any] = {"name": entry, "type": kind, "link": None}
        if node:
            body["widget"] = {"name": entry}
        if entry in face.optional:
            body["shape"] = 7
        inputs.append(body)
    return {
        "id": definition["state"]["lastNodeId"] + 1,  # another id than those inside
        "type": definition["id"],
        "pos": [0, 0],
        "size": [WIDTH, ROW * (len(inputs) + 8)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "title": definition["name"],
        "inputs": inputs,
        "outputs": [
            {"name": entry["name"], "type": entry["type"], "links": None}
            for entry in definition["outputs"]
        ],
        "properties": {"cnr_id": name, "ver": version},
        "widgets_values": [node.values[name] for name, _, node in face.entries if node],
    }


def _link(number: int, origin: int, slot: int, target: int, to: int, kind: str) -> dict[str, Any]:
    return {
        "id": number,
        "origin_id": origin,
        "origin_slot": slot,
        "target_id": target,
        "target_slot": to,
        "type": kind,
    }


def _leaving(links: list[dict[str, Any]], slot: int) -> list[int]:
    ends = (INPUT_END, slot)
    return [link["id"] for link in links if (link["origin_id"], link["origin_slot"]) == ends]


def _end(number: int, x: float, count: int) -> dict[str, Any]:
    return {"id": number, "bounding": [x, 0, MARGIN, ROW * (count + 1)]}


def _id(blueprint: Blueprint, part: str) -> str:
    return str(uuid.uuid5(NAMESPACE, f"{blueprint.name} {part}"))
