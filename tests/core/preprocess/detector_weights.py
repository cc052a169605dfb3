"""Files of random weights in each detector's published format, for its real network."""

from functools import partial

import torch
from transformers import (
    BeitConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)

from easyanimate_core.preprocess.library import submodule

ANNOTATORS = "lllyasviel/Annotators"


def _hed():
    return submodule("hed").ControlNetHED_Apache2().state_dict()


def _pidi():
    """A training checkpoint of a network that was trained in parallel."""
    state = submodule("pidi").pidinet().state_dict()
    return {"epoch": 1, "state_dict": {f"module.{key}": value for key, value in state.items()}}


def _mlsd():
    return submodule("mlsd").MobileV2_MLSD_Large().state_dict()


def _anime():
    norm = partial(torch.nn.InstanceNorm2d, affine=False, track_running_stats=False)
    network = submodule("lineart_anime").UnetGenerator(3, 1, 8, 64, norm_layer=norm)
    return {f"module.{key}": value for key, value in network.state_dict().items()}


def _body():
    """The names lack the first part, and no weight is large enough to find anybody."""
    state = submodule("open_pose.model").bodypose_model().state_dict()
    return {key.split(".", 1)[1]: value for key, value in state.items()}


def _hand():
    state = submodule("open_pose.model").handpose_model().state_dict()
    return {key.split(".", 1)[1]: value for key, value in state.items()}


def _face():
    return submodule("open_pose.face").FaceNet().state_dict()


def _midas():
    library = submodule("midas.midas.dpt_depth")
    return library.DPTDepthModel(path=None, backbone="vitb_rn50_384").state_dict()


#: Makers of pickled weights by file name.
PICKLES = {
    "ControlNetHED.pth": _hed,
    "table5_pidinet.pth": _pidi,
    "mlsd_large_512_fp32.pth": _mlsd,
    "netG.pth": _anime,
    "body_pose_model.pth": _body,
    "hand_pose_model.pth": _hand,
    "facenet.pth": _face,
    "dpt_hybrid-midas-501f0c75.pt": _midas,
}


def write_pickle(folder, name):
    """One of `PICKLES` at its repository's path below `folder`."""
    path = folder / ANNOTATORS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(PICKLES[name](), path)
    return path


def write_depth_anything(folder, size="Small"):
    """The published architecture with one narrow block per stage."""
    backbone = Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        image_size=70, patch_size=14, reshape_hidden_states=False, apply_layernorm=True,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[16, 16, 16, 16],
        fusion_hidden_size=16, head_hidden_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    path = folder / f"depth-anything/Depth-Anything-V2-{size}-hf"
    DepthAnythingForDepthEstimation(config).save_pretrained(path)
    return path


def write_zoe(folder):
    """The published architecture, narrow."""
    backbone = BeitConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        image_size=64, patch_size=16, use_relative_position_bias=True, reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[16, 16, 16, 16], fusion_hidden_size=16,
        bottleneck_features=16, bin_embedding_dim=16, num_relative_features=8,
        bin_configurations=[{"n_bins": 16, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
    )  # fmt: skip
    torch.manual_seed(0)
    path = folder / "Intel/zoedepth-nyu-kitti"
    network = ZoeDepthForDepthEstimation(config)
    for parameter in network.parameters():  # so narrow, its own start gives the same everywhere
        torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(path)
    return path


#: Joints that a limb joins, counted from 1, and the two affinity fields of the limb: the network's
#: published channels.
LIMBS = {
    (2, 3): (31, 32), (2, 6): (39, 40), (3, 4): (33, 34), (4, 5): (35, 36), (6, 7): (41, 42),
    (7, 8): (43, 44), (2, 9): (19, 20), (9, 10): (21, 22), (10, 11): (23, 24), (2, 12): (25, 26),
    (12, 13): (27, 28), (13, 14): (29, 30), (2, 1): (47, 48), (1, 15): (49, 50), (15, 17): (53, 54),
    (1, 16): (51, 52), (16, 18): (55, 56), (3, 17): (37, 38), (6, 18): (45, 46),
}  # fmt: skip


class Skeleton(torch.nn.Module):
    """In the place of OpenPose's network: a person who stands in the middle of every picture.

    It gives what the network gives: affinity fields of limbs and heat maps of joints.
    """

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, pictures):
        height, width = (side // 8 for side in pictures.shape[-2:])
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        joints = [(0.5 + 0.15 * (part * 7 % 5 - 2), 0.1 + 0.8 * part / 17) for part in range(18)]
        heat, field = torch.zeros(1, 19, height, width), torch.zeros(1, 38, height, width)
        for part, (x, y) in enumerate(joints):
            far = (columns - x * width) ** 2 + (rows - y * height) ** 2
            heat[0, part] = torch.exp(-far / 2)
        for (first, second), (across, down) in LIMBS.items():
            (x0, y0), (x1, y1) = joints[first - 1], joints[second - 1]
            way = torch.tensor([(x1 - x0) * width, (y1 - y0) * height])
            field[0, across - 19], field[0, down - 19] = way / way.norm()
        return field, heat


def joints(box):
    """Where `write_dwpose` puts 133 points in a box (left, top, right, bottom), [133, 2]."""
    left, top, right, bottom = box
    shares = torch.arange(133)
    across, down = (shares * 37 % 100) / 100, (shares * 61 % 100) / 100
    return torch.stack([left + across * (right - left), top + down * (bottom - top)], dim=1)


def write_dwpose(folder, box, picture):
    """DWPose's two files, with the published inputs and outputs, that see what they are told to.

    A person in `box` (left, top, right, bottom) of a `picture` (height, width), and a second, worse
    box over it; `joints` are the person's points, of which the last hand is not seen.
    """
    import onnx

    left, top, right, bottom = box
    ratio = 640 / max(picture)
    found = torch.zeros(1, 8400, 85)
    for index, score in ((80 * 3 + 5, 0.9), (80 * 4 + 5, 0.8)):  # two cells of stride 8
        row, column = divmod(index, 80)
        centre = torch.tensor([left + right, top + bottom]) / 2 * ratio / 8
        size = torch.tensor([right - left, bottom - top]) * ratio / 8
        found[0, index, :2] = centre - torch.tensor([column, row])
        found[0, index, 2:4] = size.log()
        found[0, index, 4], found[0, index, 5] = score, 1.0
    width = max((right - left) * 1.25, (bottom - top) * 1.25 * 288 / 384)
    corner = torch.tensor([(left + right - width) / 2, (top + bottom - width * 384 / 288) / 2])
    bins = ((joints(box) - corner) * 288 / width * 2).round().long()
    across, down = torch.zeros(1, 133, 576), torch.zeros(1, 133, 768)
    seen = torch.ones(133)
    seen[112:] = 0.1
    across[0, torch.arange(133), bins[:, 0]] = seen
    down[0, torch.arange(133), bins[:, 1]] = seen
    target = folder / "yzd-v/DWPose"
    target.mkdir(parents=True, exist_ok=True)
    for name, shape, outputs in (
        ("yolox_l.onnx", [1, 3, 640, 640], {"output": found}),
        ("dw-ll_ucoco_384.onnx", [1, 3, 384, 288], {"simcc_x": across, "simcc_y": down}),
    ):
        onnx.save(_answering(shape, outputs), target / name)
    return target


def _answering(shape, outputs):
    """An ONNX network that gives `outputs` for whatever picture it sees."""
    from onnx import TensorProto, helper, numpy_helper

    made = [numpy_helper.from_array(t.numpy(), f"{name}_told") for name, t in outputs.items()]
    made.append(numpy_helper.from_array(torch.zeros(1).numpy(), "nothing"))
    steps = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["none"]),
        *(helper.make_node("Add", [f"{name}_told", "none"], [name]) for name in outputs),
    ]
    seen = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(t.shape))
        for name, t in outputs.items()
    ]
    graph = helper.make_graph(steps, "told", [seen], given, made)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)
