"""The workflows with control videos, cameras and tracks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from . import builders, control_builders
from .builders import Columns
from .drafts import Draft, Form
from .mode import Mode
from .notes import (
    CAMERA,
    CHOOSE_VIDEO,
    CONTROL,
    NO_REFERENCE,
    REFERENCE,
    SHORT_CLIPS,
    STRENGTH_TIP,
    WRITE,
    Weights,
)
from .words import Said

MOTION = Said(
    "A control video provides the motion, the prompt the look.",
    "控制视频决定运动，提示词决定样貌。",
)
CHOOSE_CONTROL = Said(
    "Choose the control video in step 3: poses, edges, lines or depth, as long as the result (49 "
    "frames at 8 per second), or set *if_short* to repeat its last frame.",
    "在步骤 3 中选择控制视频：姿态、边缘、线条或深度，要与结果一样长（每秒 8 帧，49 帧），否则把 "
    "*if_short* 设为重复最后一帧。",
)
FROM_A_CLIP = Said(
    "To start from a normal clip, use *5 Control - any kind*, which draws the control video.",
    "想从普通视频开始，请用 *5 Control - any kind*，它会画出控制视频。",
)
ASPECT = Said(
    "Set a size with your clip's aspect ratio, the same in *EasyAnimate Control Video* and in "
    "*EasyAnimate Control*.",
    "按视频的宽高比设置尺寸，“提取控制视频”和“控制视频”两个节点相同。",
)
LOOK = Said(
    "Press **Run**. The preview shows the control video before sampling starts.",
    "点击**运行**。采样开始之前，预览会显示控制视频。",
)
CHOOSE_KIND = Said(
    "Choose the **kind**, for what should stay of your clip: *canny* edges, *hed* soft edges, "
    "*mlsd* straight lines, *scribble_…* rough shapes, *lineart_anime* drawings, *openpose* and "
    "*dwpose* people, *depth_…* space.",
    "选择**种类**，即保留视频的什么：*canny* 边缘，*hed* 柔和的边缘，"
    "*mlsd* 直线，*scribble_…* 粗略的形状，"
    "*lineart_anime* 线稿，*openpose* 和 *dwpose* 人物，*depth_…* 空间。",
)


def _annotators(*kinds: str) -> Said:
    """How to get the weights of detectors."""
    lines = "\n".join(f"python install.py --annotators {kind}" for kind in kinds)
    return Said(
        f"Its detector needs weights, from the pack's folder:\n\n```\n{lines}\n```",
        f"检测器需要权重，在节点包的文件夹中运行：\n\n```\n{lines}\n```",
    )


KINDS_TIP = Said(
    "*canny* and *scribble_xdog* need no weights. For another kind, run in the pack's folder: "
    "*python install.py --annotators KIND*.",
    "*canny* 和 *scribble_xdog* 不需要权重。其他种类请在节点包的文件夹中运行：*python install.py "
    "--annotators KIND*。",
)
V5_TIP = Said(
    "The **V5** Control weights (12b) take the same control video.",
    "**V5** 的 Control 权重（12b）用同样的控制视频。",
)
CITY = (
    "Cyclists ride through a city of the future at night, neon lights in violet and blue on the "
    "wet street. Realistic, rich in detail."
)
PATH_TIP = Said(
    "With a path, *EasyAnimate Camera* ignores *move* and *second_move*; leave *speed* at 1.",
    "有路径时，“镜头运动”节点不看 *move* 和 *second_move*；*speed* 保持 1。",
)
PLAIN_LOOK = Said(
    "Press **Run**. The preview shows the path from above and from the side.",
    "点击**运行**。预览从上方和侧面显示路径。",
)
LAKE = (
    "A quiet mountain lake at dawn, mist over the water, pine trees on the shore, the first sun on "
    "the peaks. Realistic, rich in detail."
)

CONTROLS = (
    Mode(
        "5 Control - any kind",
        Said("Control with any clip", "用任意视频控制"),
        partial(control_builders.control_of_clip, kind="canny"),
        Weights("V5.1", CONTROL),
        Said(
            "Draws a control video from any clip and follows it; the prompt provides the look.",
            "从任意视频画出控制视频并照着生成；样貌由提示词决定。",
        ),
        (CHOOSE_VIDEO, CHOOSE_KIND, ASPECT, WRITE, LOOK),
        CITY,
        (KINDS_TIP, SHORT_CLIPS, STRENGTH_TIP, V5_TIP),
    ),
    Mode(
        "5 Control - pose",
        Said("Control with poses", "用姿态控制"),
        partial(control_builders.control_of_clip, kind="openpose"),
        Weights("V5.1", CONTROL),
        Said(
            "People move as in your clip; the prompt says who and where they are.",
            "人物的动作与视频相同；提示词说明他们是谁、在哪里。",
        ),
        (CHOOSE_VIDEO, _annotators("openpose"), ASPECT, WRITE, LOOK),
        "An astronaut in a white suit dances on the surface of the moon, the earth in the black "
        "sky behind. Realistic, rich in detail.",
        (
            Said(
                "*dwpose* finds hands and faces, too, and is faster at that; it needs the package "
                "onnxruntime and its own weights.",
                "*dwpose* 还能找到手和脸，而且更快；需要 onnxruntime 包和它自己的权重。",
            ),
            SHORT_CLIPS,
            STRENGTH_TIP,
        ),
    ),
    Mode(
        "5 Control - two mixed",
        Said("Two controls mixed", "混合两种控制"),
        control_builders.two_controls,
        Weights("V5.1", CONTROL),
        Said(
            "Two control videos from one clip: its edges apply outside a mask, its poses inside.",
            "从一段视频得到两个控制视频：遮罩之外用边缘，之内用姿态。",
        ),
        (
            CHOOSE_VIDEO,
            _annotators("openpose"),
            Said(
                "Save a frame of it, choose that in *Mask*, right-click the node, **Open in "
                "MaskEditor**, paint where the second control should apply, save.",
                "保存其中一帧，在*遮罩*中选择它，右键点击节点，**在遮罩编辑器中打开**，画出第二个控制起作用的"
                "地方，保存。",
            ),
            WRITE,
            LOOK,
        ),
        "A knight in shining armour walks through a busy shopping street. Realistic, rich in "
        "detail.",
        (
            Said(
                "To mix **by strength** instead, bypass *Mask* (Ctrl+B): both apply everywhere and "
                "add up. Set each **strength** to about 0.5.",
                "想**按强度**混合，绕过*遮罩*（Ctrl+B）：两者处处起作用并相加。"
                "各把 **strength** 设为约 0.5。",
            ),
            Said(
                "**start_percent** and **end_percent** of each set when it applies. For more "
                "controls, chain the nodes.",
                "各自的 **start_percent** 和 **end_percent** 决定何时起作用。更多控制就串联节点。",
            ),
        ),
    ),
    Mode(
        "5 Control - start and end",
        Said("Control with start and end image", "控制加首尾帧"),
        control_builders.pinned_control,
        Weights("V5.1", CONTROL),
        Said(
            "Follows the edges of your clip, with your images as first and last frame.",
            "照着视频的边缘生成，首尾帧是你的图像。",
        ),
        (
            CHOOSE_VIDEO,
            Said(
                "Choose both images: the clip's first and last frame in the new look.",
                "选择两张图像：视频首尾两帧的新样貌。",
            ),
            ASPECT,
            WRITE,
            LOOK,
        ),
        "A tram drives through an old town in deep snow, warm light in the windows. Realistic, "
        "rich in detail.",
        (
            Said(
                "*EasyAnimate Pin Frames* keeps them fixed; the end image fills the last four "
                "frames. To use only one of them, bypass the other (Ctrl+B).",
                "“固定帧”节点使它们不变；尾帧图占最后四帧。只用其中一张时，绕过另一张（Ctrl+B）。",
            ),
            Said(
                "Images with the clip's edges work best: make them with *5 Control - any kind* and "
                "*length* 1.",
                "边缘与视频一致的图像效果最好：用 *5 Control - any kind* 和 *length* 1 生成。",
            ),
        ),
    ),
)

VIDEO_HELPER = Mode(
    "8 VHS - control",
    Said("Control with VideoHelperSuite", "用 VideoHelperSuite 控制"),
    partial(control_builders.control_of_clip, kind="canny"),
    Weights("V5.1", CONTROL),
    MOTION,
    (CHOOSE_VIDEO, CHOOSE_KIND, ASPECT, WRITE, LOOK),
    CITY,
    (
        Said(
            "Needs the node pack **VideoHelperSuite**. Do not connect *vae* of its nodes: they do "
            "not fit a video VAE.",
            "需要节点包 **VideoHelperSuite**。不要连接它的节点的 *vae*：它们不适用于视频 VAE。",
        ),
        KINDS_TIP,
        STRENGTH_TIP,
    ),
    form=Form.VIDEO_HELPER,
)


def _camera(
    name: str,
    heading: Said,
    build: Callable[[Draft], Columns],
    about: Said,
    steps: tuple[Said, ...],
    *tips: Said,
) -> Mode:
    """The workflow for one way to make a camera path."""
    return Mode(
        name,
        heading,
        build,
        Weights("V5.1", CAMERA),
        about,
        (*steps, REFERENCE, WRITE, PLAIN_LOOK),
        LAKE,
        (*tips, NO_REFERENCE),
    )


CAMERAS = (
    _camera(
        "6 Camera - one move",
        Said("Camera", "镜头"),
        builders.camera,
        Said("Controls how the camera moves.", "由你决定镜头如何移动。"),
        (
            Said(
                "Choose a *move* in step 3, and optionally a second one, which is added to it.",
                "在步骤 3 中选择 *move*，还可以再选一个，与它叠加。",
            ),
        ),
        Said(
            "**speed** scales the moves; negative values reverse them.",
            "**speed** 缩放运动；负值则反向。",
        ),
    ),
    _camera(
        "6 Camera - several moves",
        Said("Camera moves", "多个镜头运动"),
        control_builders.camera_moves,
        Said(
            "Combines camera moves, one after the other and at the same time.",
            "组合多个镜头运动，先后或同时进行。",
        ),
        (
            Said(
                "Choose the moves in step 3, how far they go (*speed*) and how they start and end.",
                "在步骤 3 中选择各个运动、走多远（*speed*）、如何开始和结束。",
            ),
        ),
        Said(
            "**mode** *join* appends a move, *combine* does it at the same time as the others.",
            "**mode** *join* 接在后面，*combine* 与其他运动同时进行。",
        ),
        Said(
            "Joined moves share the frame between them: 25 and 25 make 49, which must be *length* "
            "of *EasyAnimate Camera*.",
            "相接的运动共用中间一帧：25 加 25 为 49，必须等于“镜头运动”节点的 *length*。",
        ),
        PATH_TIP,
    ),
    _camera(
        "6 Camera - keyframes",
        Said("Camera keyframes", "镜头关键帧"),
        control_builders.camera_keyframes,
        Said(
            "Moves the camera through positions at given frames.",
            "让镜头在给定的帧经过给定的位置。",
        ),
        (
            Said(
                "Write the keyframes in step 3, one per line: frame, x, y, z, yaw, pitch, roll. +x "
                "is right, +y down, +z forward; angles are in degrees.",
                "在步骤 3 中写关键帧，每行一个：帧、x、y、z、yaw、"
                "pitch、roll。+x 向右，+y 向下，+z 向前；"
                "角度以度为单位。",
            ),
        ),
        Said(
            "A Pan of the other nodes moves by 1.5. **length** must be the same in both nodes; "
            "frames count from 0.",
            "其他节点的一次平移为 1.5。两个节点的 **length** 必须相同；帧从 0 数起。",
        ),
        PATH_TIP,
    ),
    _camera(
        "6 Camera - file",
        Said("Camera file", "镜头文件"),
        control_builders.camera_file,
        Said(
            "Moves the camera as in a CameraCtrl (RealEstate10K) file.",
            "镜头按 CameraCtrl（RealEstate10K）文件移动。",
        ),
        (
            Said(
                "Paste the text of your file into *EasyAnimate Camera File*: a header line, then a "
                "line of 19 numbers per frame. An example is included.",
                "把文件内容粘贴到“镜头路径：文件”节点：一行标题，然后每帧一行 19 个数。已附示例。",
            ),
        ),
        Said(
            "The file needs at least as many frames as *length*. Connect *EasyAnimate Camera Move* "
            "after it to append a move.",
            "文件的帧数不得少于 *length*。在后面接“镜头路径：运动”可以追加一个运动。",
        ),
        PATH_TIP,
    ),
    Mode(
        "6 Trajectory",
        Said("Trajectory", "轨迹"),
        builders.trajectory,
        Weights("V5.1", CONTROL),
        Said("Moves objects along tracks that you draw.", "让物体沿你画的轨迹移动。"),
        (
            REFERENCE,
            Said(
                "Click and drag the track's points on the canvas of *EasyAnimate Trajectory*; the "
                "plus starts another track, the slider plays them. The text above it is the same "
                "as JSON; KJNodes' *Spline Editor* outputs such text.",
                "在“运动轨迹”节点的画布上点击、拖动轨迹的点；加号开始另一条轨迹，滑块播放它们。上方的文本是"
                "同样内容的 JSON；KJNodes 的 *Spline Editor* 也输出这种文本。",
            ),
            WRITE,
            Said("Press **Run**. The preview shows the tracks.", "点击**运行**。预览会显示轨迹。"),
        ),
        "A small sailing boat glides from left to right over calm water in evening light, its "
        "reflection trembling on the surface.",
        (
            Said(
                "Points are in pixels of the result: set the size first.",
                "点以结果的像素为单位：请先设置尺寸。",
            ),
            NO_REFERENCE,
            STRENGTH_TIP,
        ),
        app=False,
    ),
)
