"""Workflows of the form that the original pack's ten have: its node ids, links and widget values.

The pictures, clips and prompts are those of these tests.
"""

from dataclasses import dataclass, field

NEGATIVE, POSITIVE = "模糊，静止", "A dog shakes its head on a sofa. 一只狗。"
QFLOAT8 = "model_cpu_offload_and_qfloat8"
CONFIGS = {
    "V5": "easyanimate_video_v5_magvit_multi_text_encoder.yaml",
    "V5.1": "easyanimate_video_v5.1_magvit_qwen.yaml",
}
PICTURE, CLIP, POSES = "astronaut.png", "bikes.mp4", "bikes_canny.mp4"
#: Points of KJNodes' spline editor, which has fractions of pixels.
TRACKS = (
    "[{'x': 100.5, 'y': 120.25}, {'x': 140, 'y': 150}, {'x': 200.75, 'y': 180}, "
    "{'x': 260, 'y': 200}, {'x': 300, 'y': 240.5}]",
    "[{'x': 400, 'y': 300}, {'x': 400.5, 'y': 310}, {'x': 401, 'y': 320}, "
    "{'x': 401.5, 'y': 330}, {'x': 402, 'y': 340}]",
)


@dataclass
class Drawing:
    """A workflow in the making; nodes are numbered as they come."""

    nodes: list = field(default_factory=list)
    links: list = field(default_factory=list)

    def add(self, kind, values, inputs=(), outputs=()):
        """A node; an input is (name, type, (node, output) or None)."""
        node = {
            "id": len(self.nodes) + 1,
            "type": kind,
            "pos": [400 * (len(self.nodes) % 4), 350 * (len(self.nodes) // 4)],
            "size": [350, 250],
            "flags": {},
            "order": len(self.nodes),
            "mode": 0,
            "inputs": [{"name": name, "type": type_, "link": None} for name, type_, _ in inputs],
            "outputs": [
                {"name": name, "type": type_, "links": [], "slot_index": slot}
                for slot, (name, type_) in enumerate(outputs)
            ],
            "properties": {"Node name for S&R": kind},
            "widgets_values": values,
        }
        self.nodes.append(node)
        for slot, (name, type_, source) in enumerate(inputs):
            if type_ == "STRING":  # a widget turned into a socket, as old frontends write it
                node["inputs"][slot]["widget"] = {"name": name}
            if source is not None:
                self._connect(source, node, slot, type_)
        return node["id"]

    def _connect(self, source, node, slot, type_):
        start, output = source
        link = len(self.links) + 1
        self.links.append([link, start, output, node["id"], slot, type_])
        node["inputs"][slot]["link"] = link
        self.nodes[start - 1]["outputs"][output]["links"].append(link)

    def done(self):
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }


def common(drawing, name, version, kind):
    """Model and prompts, as the first inputs of every sampler."""
    values = [name, QFLOAT8, kind, CONFIGS[version], "bf16"]
    outputs = [("easyanimate_model", "EASYANIMATESMODEL")]
    model = drawing.add("LoadEasyAnimateModel", values, (), outputs)
    text = [("prompt", "STRING_PROMPT")]
    positive = drawing.add("EasyAnimate_TextBox", [POSITIVE], (), text)
    negative = drawing.add("EasyAnimate_TextBox", [NEGATIVE], (), text)
    return [
        ("easyanimate_model", "EASYANIMATESMODEL", (model, 0)),
        ("prompt", "STRING_PROMPT", (positive, 0)),
        ("negative_prompt", "STRING_PROMPT", (negative, 0)),
    ]


def image(drawing):
    outputs = [("IMAGE", "IMAGE"), ("MASK", "MASK")]
    return drawing.add("LoadImage", [PICTURE, "image"], (), outputs), 0


def clip(drawing, name, rate):
    values = {
        "video": name,
        "force_rate": rate,
        "force_size": "Disabled",
        "custom_width": 512,
        "custom_height": 512,
        "frame_load_cap": 0,
        "skip_first_frames": 0,
        "select_every_nth": 1,
        "choose video to upload": "image",
        "videopreview": {"hidden": False, "paused": False, "params": {"filename": name}},
    }
    outputs = [("IMAGE", "IMAGE"), ("frame_count", "INT"), ("audio", "AUDIO")]
    sockets = [("meta_batch", "VHS_BatchManager", None), ("vae", "VAE", None)]
    outputs.append(("video_info", "VHS_VIDEOINFO"))
    return drawing.add("VHS_LoadVideo", values, sockets, outputs), 0


def combine(drawing, source, prefix="EasyAnimate"):
    values = {
        "frame_rate": 8,
        "loop_count": 0,
        "filename_prefix": prefix,
        "format": "video/h264-mp4",
        "pix_fmt": "yuv420p",
        "crf": 22,
        "save_metadata": True,
        "pingpong": False,
        "save_output": True,
        "videopreview": {"hidden": False, "paused": False, "params": {}},
    }
    sockets = [
        ("images", "IMAGE", source),
        ("audio", "AUDIO", None),
        ("meta_batch", "VHS_BatchManager", None),
        ("vae", "VAE", None),
    ]
    drawing.add("VHS_VideoCombine", values, sockets, [("Filenames", "VHS_FILENAMES")])


def sampler(drawing, kind, values, inputs):
    outputs = [("images", "IMAGE")]
    return drawing.add(f"EasyAnimateV5_{kind}Sampler", values, inputs, outputs), 0


def text_to_video(version, name, *last):
    drawing = Drawing()
    inputs = common(drawing, name, version, "Inpaint")
    values = [49, 672, 384, False, 43, "fixed", 50, 6, *last]
    combine(drawing, sampler(drawing, "T2V", values, inputs))
    return drawing.done()


def image_to_video(version, name, *last):
    drawing = Drawing()
    inputs = common(drawing, name, version, "Inpaint")
    inputs += [("start_img", "IMAGE", image(drawing)), ("end_img", "IMAGE", None)]
    values = [49, 512, 43, "fixed", 50, 6, *last]
    combine(drawing, sampler(drawing, "I2V", values, inputs))
    return drawing.done()


def sources(video=None, control=None, reference=None, camera=None):
    """The sockets of the sampler for video to video, in the order of its files."""
    return [
        ("validation_video", "IMAGE", video),
        ("control_video", "IMAGE", control),
        ("ref_image", "IMAGE", reference),
        ("camera_conditions", "STRING", camera),
    ]


def video_to_video(version, name, steps, cfg, strength, *last):
    drawing = Drawing()
    inputs = common(drawing, name, version, "Inpaint")
    inputs += sources(video=clip(drawing, CLIP, 8))
    values = [49, 512, 43, "fixed", steps, cfg, strength, *last, 0.1, True, ""]
    combine(drawing, sampler(drawing, "V2V", values, inputs))
    return drawing.done()


def control(version, name, steps, *last):
    drawing = Drawing()
    inputs = common(drawing, name, version, "Control")
    inputs += sources(control=clip(drawing, POSES, 0))
    values = [49, 512, 43, "fixed", steps, 6, 1, *last, 0.08, True, ""]
    combine(drawing, sampler(drawing, "V2V", values, inputs))
    return drawing.done()


def camera(name):
    drawing = Drawing()
    inputs = common(drawing, name, "V5.1", "Control")
    poses = [("CameraPose", "CameraPose")]
    drawing.add("CameraBasicFromChaoJie", ["Pan Up", 1, 49], (), poses)
    moves = ["Pan Up", "Pan Left", "Static", "Static", 1, 49]
    both = drawing.add("CameraCombineFromChaoJie", moves, (), poses)
    text = drawing.add(
        "CameraTrajectoryFromChaoJie",
        [0.532139961, 0.946026558, 0.5, 0.5],
        [("camera_pose", "CameraPose", (both, 0))],
        [("camera_trajectory", "STRING"), ("video_length", "INT")],
    )
    inputs += sources(reference=image(drawing), camera=(text, 0))
    values = [49, 512, 43, "fixed", 43, 6, 1, "Flow", 0.08, True, ""]
    combine(drawing, sampler(drawing, "V2V", values, inputs))
    return drawing.done()


def trajectory(name):
    drawing = Drawing()
    inputs = common(drawing, name, "V5.1", "Control")
    outputs = [("mask", "MASK"), ("coord_str", "STRING")]
    first, second = (drawing.add("SplineEditor", [text], (), outputs) for text in TRACKS)
    strings = [("string1", "STRING", (first, 1)), ("string2", "STRING", (second, 1))]
    both = drawing.add("AppendStringsToList", ["", ""], strings, [("STRING", "STRING")])
    sockets = [("masks", "MASK", (first, 0)), ("coordinates", "STRING", (both, 0))]
    drawn = drawing.add("CreateTrajectoryBasedOnKJNodes", [""], sockets, [("image", "IMAGE")])
    inputs += sources(control=(drawn, 0), reference=image(drawing))
    values = [49, 512, 43, "fixed", 50, 6, 1, "Flow", 0.08, True, ""]
    made = sampler(drawing, "V2V", values, inputs)
    videos = [("video_1", "IMAGE", made), ("video_2", "IMAGE", (drawn, 0))]
    merged = drawing.add("ImageMaximumNode", [], videos, [("image", "IMAGE")])
    combine(drawing, made)
    combine(drawing, (drawn, 0), "EasyAnimate-Trajectory")
    combine(drawing, (merged, 0), "EasyAnimate-Trajectory-Merge")
    return drawing.done()


V5, V51 = "EasyAnimateV5-12b-zh", "EasyAnimateV5.1-12b-zh"
#: By the names of the original's files.
WORKFLOWS = {
    "v5_i2v": image_to_video("V5", f"{V5}-InP", "DDIM"),
    "v5_t2v": text_to_video("V5", f"{V5}-InP", "DDIM"),
    "v5_v2v": video_to_video("V5", f"{V5}-InP", 35, 7, 0.7, "DDIM"),
    "v5_v2v_control": control("V5", f"{V5}-Control", 35, "DDIM"),
    "v5.1_control_camera": camera(f"{V51}-Control-Camera"),
    "v5.1_control_trajectory": trajectory(f"{V51}-Control"),
    "v5.1_i2v": image_to_video("V5.1", f"{V51}-InP", "Flow", 0.08, True),
    "v5.1_t2v": text_to_video("V5.1", f"{V51}-InP", "Flow", 0.08, True),
    "v5.1_v2v": video_to_video("V5.1", f"{V51}-InP", 50, 6, 0.7000000000000001, "Flow"),
    "v5.1_v2v_control": control("V5.1", f"{V51}-Control", 50, "Flow"),
}
