"""The workflows that make what a model is shown themselves: of any clip, or of a camera path."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from . import control_builders
from .builders import Columns
from .drafts import Draft
from .mode import Mode
from .notes import (
    CAMERA,
    CHOOSE_VIDEO,
    CONTROL,
    LENGTH_TIP,
    NO_REFERENCE,
    RUN,
    STRENGTH_TIP,
    WRITE,
    Weights,
)

ASPECT = (
    "Set a size with the aspect of your clip, the same in *EasyAnimate Control Video* and in "
    "*EasyAnimate Control*."
)
LOOK = "Press **Run**. The preview shows the control video before the sampler begins."
RATE_TIP = (
    "**Clips**: every frame that is loaded is drawn, so cut them to the seconds you need. What was "
    "drawn once is kept while ComfyUI runs."
)
RESOLUTION_TIP = (
    "**resolution** 0 looks for lines at the size of the result, and for people and depth at 512. "
    "A larger one finds finer things."
)
FOUND_TIP = (
    "**Detectors' weights** are also found in the Hugging Face cache and in the folder of the pack "
    "comfyui_controlnet_aux."
)
NO_WEIGHTS_TIP = "This detector needs no weights."
V5_TIP = "The **V5** Control weights (12b) take the same control video: choose them in step 1."
PATH_TIP = "With a path *EasyAnimate Camera* uses no *move* and *second_move*; leave *speed* at 1."
PLAIN_LOOK = "The preview shows the path from above and from the side before the sampler begins."


def _control(name: str, kinds: tuple[str, ...], about: str, prompt: str, *tips: str) -> Mode:
    """The workflow of a control kind: the first of `kinds` is chosen, the others are named."""
    has_weights = kinds[0] not in ("canny", "scribble_xdog")
    return Mode(
        "V5.1",
        f"Control {name}",
        partial(control_builders.control_of_clip, kind=kinds[0]),
        Weights("V5.1", CONTROL),
        about,
        (CHOOSE_VIDEO, ASPECT, WRITE, LOOK),
        prompt,
        (
            *tips,
            RESOLUTION_TIP,
            FOUND_TIP if has_weights else NO_WEIGHTS_TIP,
            RATE_TIP,
            STRENGTH_TIP,
            V5_TIP,
        ),
        detectors=kinds,
    )


def _camera(
    name: str, build: Callable[[Draft], Columns], about: str, steps: tuple[str, ...], *tips: str
) -> Mode:
    """The workflow of one way to make a camera path."""
    return Mode(
        "V5.1",
        f"Camera {name}",
        build,
        Weights("V5.1", CAMERA),
        about,
        (
            *steps,
            "Choose a reference image: how the first frame looks.",
            WRITE,
            f"{RUN} {PLAIN_LOOK}",
        ),
        "A quiet mountain lake at dawn, mist over the water, pine trees on the shore, the first "
        "sun on the peaks. Realistic, rich in detail.",
        (*tips, PATH_TIP, NO_REFERENCE, LENGTH_TIP),
    )


CONTROLS = (
    _control(
        "OpenPose",
        ("openpose",),
        "People move as in your clip; the prompt says who and where they are.",
        "An astronaut in a white suit dances on the surface of the moon, the earth in the black "
        "sky behind. Realistic, rich in detail.",
        "**kind.hand** and **kind.face** need hand_pose_model.pth and facenet.pth of the same "
        "repository; hands take many times as long. *Control DWPose* is quicker with them.",
    ),
    _control(
        "DWPose",
        ("dwpose",),
        "People move as in your clip, with hands and faces; the prompt says who and where they "
        "are.",
        "A young woman in a blue dress plays the piano in a bright hall, sun through tall windows. "
        "Realistic, rich in detail.",
        "Install the package with ComfyUI's Python; onnxruntime-gpu instead runs it on the "
        "graphics card.",
    ),
    _control(
        "Scribble HED",
        ("scribble_hed", "scribble_pidi"),
        "The rough shapes of your clip stay, drawn like a scribble; the prompt gives the look.",
        "A fox made of folded paper walks through a forest of paper trees. Soft light, shallow "
        "depth of field.",
        "**kind** *scribble_pidi* draws with PiDiNet instead, a much smaller network.",
    ),
    _control(
        "Scribble XDoG",
        ("scribble_xdog",),
        "The lines of your clip stay, drawn like with a pen; the prompt gives the look.",
        "A street of an old town as a pencil drawing that comes alive, coloured with soft "
        "watercolours.",
        "**kind.threshold**: the lower, the more lines.",
    ),
    _control(
        "Canny",
        ("canny",),
        "The edges of your clip stay; the prompt gives the look.",
        "Cyclists ride through a city of the future at night, neon lights in violet and blue on "
        "the wet street. Realistic, rich in detail.",
        "**kind.low_threshold** and **kind.high_threshold**: the lower, the more edges.",
    ),
    _control(
        "Anime lineart",
        ("lineart_anime",),
        "Your clip as the line art of an anime; the prompt colours it.",
        "An anime girl with silver hair looks over the sea, her scarf in the wind, clouds in the "
        "evening sky. Clean lines, bright colours.",
        "Works with filmed clips and with drawn ones.",
    ),
    _control(
        "M-LSD",
        ("mlsd",),
        "The straight lines of your clip stay: for rooms, houses and streets.",
        "A living room in the style of the sixties, wooden furniture, an orange carpet, warm lamp "
        "light. The camera moves slowly through it.",
        "**kind.score_threshold** and **kind.length_threshold**: the lower, the more lines.",
    ),
    _control(
        "HED",
        ("hed",),
        "The soft edges of your clip stay, with its large forms; the prompt gives the look.",
        "An owl of porcelain with golden cracks turns its head and blinks. Studio light, dark "
        "background, rich in detail.",
        "Soft edges say how strong each one is; Canny's are there or not.",
    ),
    _control(
        "Depth",
        ("depth_anything_v2", "depth_zoe", "depth_midas"),
        "The room of your clip stays: what is near and what is far; the prompt gives the look.",
        "A path through a jungle at dawn, mist between the giant trees, rays of light. The camera "
        "moves forward. Realistic, rich in detail.",
        "**kind**: *depth_anything_v2* is the newest; *depth_zoe* and *depth_midas* are older "
        "ones. Each needs its own weights.",
        "Cut the clip at its scene changes: depth is spread over the whole of it.",
    ),
)

MIXES = (
    Mode(
        "V5.1",
        "Control mixed",
        control_builders.two_controls,
        Weights("V5.1", CONTROL),
        "Two control videos of one clip: its edges lead outside of a mask, its poses inside.",
        (
            CHOOSE_VIDEO,
            "Save a frame of it as a picture, choose that in *Mask*, right-click the node, **Open "
            "in MaskEditor**, paint where the second control leads, save.",
            "Set the same size in both controls, with the aspect of your clip.",
            WRITE,
            "Press **Run**. The previews show both control videos before the sampler begins.",
        ),
        "A knight in shining armour walks through a busy shopping street. Realistic, rich in "
        "detail.",
        (
            "**By strength** instead: bypass *Mask* (Ctrl+B). Then both act everywhere and add up; "
            "set each **strength** to about 0.5.",
            "**start_percent** and **end_percent** of each say when it acts, for example edges "
            "up to 0.4 and poses all the time.",
            FOUND_TIP,
            RATE_TIP,
            "More controls: one *EasyAnimate Control* after the other.",
        ),
        detectors=("openpose",),
    ),
    Mode(
        "V5.1",
        "Control with start and end image",
        control_builders.pinned_control,
        Weights("V5.1", CONTROL),
        "The edges of your clip lead, and the first and the last frame are pictures of yours.",
        (
            CHOOSE_VIDEO,
            "Choose both pictures: the clip's first and last frame in the new look.",
            ASPECT,
            "Say in the positive prompt what the pictures show.",
            LOOK,
        ),
        "A tram drives through an old town in deep snow, warm light in the windows. Realistic, "
        "rich in detail.",
        (
            "*EasyAnimate Pin Frames* holds them while the rest is sampled; the end image stands "
            "still for the last four frames. Only one of them: bypass the other (Ctrl+B).",
            "Pictures whose edges are the clip's work best: make them with *Control Canny* and "
            "*length* 1, or with an image model and the same edges.",
            NO_WEIGHTS_TIP,
            RATE_TIP,
            STRENGTH_TIP,
        ),
    ),
)

CAMERAS = (
    _camera(
        "moves",
        control_builders.camera_moves,
        "Camera moves after each other and at once.",
        ("Choose the moves in step 3, how far they go (*speed*) and how they begin and end.",),
        "**mode** *join* lets a move follow, *combine* does it at once with the others.",
        "**Lengths**: joined moves share the frame between them, 25 and 25 make 49; combined ones "
        "are equally long. In the end there are as many as *length* of *EasyAnimate Camera*.",
        "A negative **speed** goes the other way.",
    ),
    _camera(
        "keyframes",
        control_builders.camera_keyframes,
        "The camera is at places of yours at given frames.",
        (
            "Write the keyframes in step 3, a line for each: frame, x, y, z, yaw, pitch, roll. +x "
            "is right, +y down, +z forward; the angles are degrees.",
        ),
        "The camera stands still before the first keyframe and after the last.",
        "A Pan of the other nodes goes 1.5. Without the angles the camera looks straight ahead.",
        "**length** of both nodes is the same; frames count from 0.",
    ),
    _camera(
        "file",
        control_builders.camera_file,
        "The camera moves as in a CameraCtrl (RealEstate10K) file.",
        (
            "Paste the text of your file into *EasyAnimate Camera File*: a header line, then a "
            "line of 19 numbers per frame. An example is there.",
        ),
        "The file has at least as many frames as *length*; of a longer one the first are used.",
        "The output **poses** gives the text of any path: connect a node that writes text files.",
        "*EasyAnimate Camera Move* behind it lets a move follow the file's path.",
    ),
)

V5_1 = (*CONTROLS, *MIXES, *CAMERAS)
