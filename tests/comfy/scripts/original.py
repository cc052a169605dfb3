"""Nodes under the original's ids: who has them beside another pack, and what the helpers give."""

import asyncio
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent))
from probing import Probe, clip_of, gap

import nodes

PACK = Path(load_pack.__defaults__[0])  # noqa: F821  (given by the bootstrap)
ANOTHER = """
class Theirs:
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}
NODE_CLASS_MAPPINGS = dict.fromkeys(%r, Theirs)
"""
probe = Probe(load_pack())  # noqa: F821
samplers = probe.module("nodes.original_samplers")
IDS = [node.define_schema().node_id for node in probe.module("nodes.extension").ORIGINAL]
HELPERS = [name for name in IDS if "ChaoJie" in name] + ["ImageMaximumNode"]


def owners(packs):
    """Who has the old ids after ComfyUI loaded packs in an order; None is this one."""
    for name in IDS:
        nodes.NODE_CLASS_MAPPINGS.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        for index, source in enumerate(packs):
            path = PACK
            if source is not None:
                path = Path(folder) / f"pack_{index}"
                path.mkdir()
                (path / "__init__.py").write_text(source, encoding="utf-8")
            asyncio.run(nodes.load_custom_node(str(path)))
    classes = {name: nodes.NODE_CLASS_MAPPINGS.get(name) for name in IDS}
    found = {n: "" if c is None else c.__name__ for n, c in classes.items()}
    return {n: "theirs" if c == "Theirs" else "ours" if c else "none" for n, c in found.items()}


whole, part = ANOTHER % (IDS,), ANOTHER % (HELPERS,)
cases = {
    "alone": [None],
    "before": [whole, None],
    "after": [None, whole],
    "broken before": ["import no_such_module", None],
    "broken after": [None, "import no_such_module"],
    "helpers before": [part, None],
    "helpers after": [None, part],
}
probe.found["owners"] = {case: owners(packs) for case, packs in cases.items()}
probe.found["helpers"] = HELPERS

sizes = [(1080, 1920, 512), (1920, 1080, 768), (512, 512, 1024), (272, 640, 512), (480, 544, 960)]
sizes += [(352, 672, 512), (672, 352, 512), (100, 4000, 512), (4000, 100, 512)]
probe.found["sizes"] = [samplers.size_for(*size) for size in sizes]


def run(node_id, **given):
    return probe.nodes[node_id].execute(**given).args


moves = {"camera_pose1": "Zoom In", "camera_pose2": "ACW", "camera_pose3": "Static"}
moves["camera_pose4"] = "Pan Up"
(basic,) = run("CameraBasicFromChaoJie", camera_pose="Pan Left", speed=2.0, video_length=4)
(both,) = run("CameraCombineFromChaoJie", **moves, speed=1.0, video_length=4)
kept = basic.copy()
(joined,) = run("CameraJoinFromChaoJie", camera_pose1=both, camera_pose2=basic)
probe.found["basic"] = basic.tolist()
probe.found["both"] = both.tolist()
probe.found["joined"] = [list(joined.shape), gap(torch.tensor(kept), torch.tensor(basic))]
turn, step = both[-1, :, :3], both[-1, :, 3]
wanted = [np.c_[pose[:, :3] @ turn, pose[:, 3] + pose[:, :3] @ step] for pose in basic]
probe.found["joint"] = gap(torch.tensor(joined[4:]), torch.tensor(np.stack(wanted)))
lens = {"fx": 0.532139961, "fy": 0.946026558, "cx": 0.5, "cy": 0.5}
text, length = run("CameraTrajectoryFromChaoJie", camera_pose=both, **lens)
path = samplers._path(text)
probe.found["text"] = [length, len(path), gap(path.world_to_camera, torch.tensor(both))]

square = torch.zeros(3, 64, 96)
track = "[{'x': 10, 'y': 10}, {'x': 40.6, 'y': 20.2}, {'x': 80, 'y': 40}]"
short = "[{'x': 10, 'y': 50}, {'x': 80, 'y': 50}]"
(one,) = run("CreateTrajectoryBasedOnKJNodes", coordinates=track, masks=square)
(two,) = run("CreateTrajectoryBasedOnKJNodes", coordinates=[track, short], masks=square)
probe.found["tracks"] = [list(one.shape), list(two.shape), bool((two >= one).all())]
a, b = clip_of(5, 64, 96, 1), clip_of(3, 32, 48, 2)
(larger,) = run("ImageMaximumNode", video_1=a, video_2=b)
probe.found["maximum"] = [list(larger.shape), bool((larger >= a[:3]).all())]
probe.found["bad poses"] = probe.error(lambda: samplers._path("[[1, 2], 3]"))
probe.found["no poses"] = probe.error(lambda: samplers._path("nothing"))
probe.found["foreign"] = probe.error(lambda: probe.module("nodes.bridge.original").checked({}))
probe.done()
