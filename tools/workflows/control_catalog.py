"""The workflows that make the control video, from any clip, or the camera path themselves."""

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
    "Set a size with your clip's aspect ratio, the same in *EasyAnimate Control Video* and in "
    "*EasyAnimate Control*."
)
LOOK = "Press **Run**. The preview shows the control video before sampling starts."
RATE_TIP = (
    "**Clips**: every loaded frame is processed, so cut them to the seconds you need. Results are "
    "cached while ComfyUI runs."
)
RESOLUTION_TIP = (
    "**resolution** 0 detects lines at the size of the result, and people and depth at 512. "
    "Higher values find finer details."
)
FOUND_TIP = (
    "**Detectors' weights** are also found in the Hugging Face cache and in the folder of the pack "
    "comfyui_controlnet_aux."
)
NO_WEIGHTS_TIP = "This detector needs no weights."
V5_TIP = "The **V5** Control weights (12b) take the same control video: choose them in step 1."
PATH_TIP = "With a path, *EasyAnimate Camera* ignores *move* and *second_move*; leave *speed* at 1."
PLAIN_LOOK = "The preview shows the path from above and from the side before sampling starts."


def _control(name: str, kinds: tuple[str, ...], about: str, prompt: str, *tips: str) -> Mode:
    """The workflow of a control kind: the first of `kinds` is selected, the others mentioned."""
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
    """The workflow for one way to make a camera path."""
    return Mode(
        "V5.1",
        f"Camera {name}",
        build,
        Weights("V5.1", CAMERA),
        about,
        (
            *steps,
            "Choose a reference image: how the first frame should look.",
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
        "**kind.hand** and **kind.face** need hand_pose_model.pth and facenet.pth from the same "
        "repository; hands take many times as long. *Control DWPose* is faster with hands.",
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
        "Keeps the rough shapes of your clip, drawn as a scribble; the prompt provides the look.",
        "A fox made of folded paper walks through a forest of paper trees. Soft light, shallow "
        "depth of field.",
        "**kind** *scribble_pidi* uses PiDiNet instead, a much smaller network.",
    ),
    _control(
        "Scribble XDoG",
        ("scribble_xdog",),
        "Keeps the lines of your clip, drawn as with a pen; the prompt provides the look.",
        "A street of an old town as a pencil drawing that comes alive, coloured with soft "
        "watercolours.",
        "**kind.threshold**: lower values give more lines.",
    ),
    _control(
        "Canny",
        ("canny",),
        "Keeps the edges of your clip; the prompt provides the look.",
        "Cyclists ride through a city of the future at night, neon lights in violet and blue on "
        "the wet street. Realistic, rich in detail.",
        "**kind.low_threshold** and **kind.high_threshold**: lower values give more edges.",
    ),
    _control(
        "Anime lineart",
        ("lineart_anime",),
        "Turns your clip into anime line art, which the prompt colours.",
        "An anime girl with silver hair looks over the sea, her scarf in the wind, clouds in the "
        "evening sky. Clean lines, bright colours.",
        "Works with filmed and with drawn clips.",
    ),
    _control(
        "M-LSD",
        ("mlsd",),
        "Keeps the straight lines of your clip: for rooms, houses and streets.",
        "A living room in the style of the sixties, wooden furniture, an orange carpet, warm lamp "
        "light. The camera moves slowly through it.",
        "**kind.score_threshold** and **kind.length_threshold**: lower values give more lines.",
    ),
    _control(
        "HED",
        ("hed",),
        "Keeps the soft edges of your clip and its large forms; the prompt provides the look.",
        "An owl of porcelain with golden cracks turns its head and blinks. Studio light, dark "
        "background, rich in detail.",
        "Soft edges vary in strength; Canny's are either there or not.",
    ),
    _control(
        "Depth",
        ("depth_anything_v2", "depth_zoe", "depth_midas"),
        "Keeps the depth of your clip, what is near and far; the prompt provides the look.",
        "A path through a jungle at dawn, mist between the giant trees, rays of light. The camera "
        "moves forward. Realistic, rich in detail.",
        "**kind**: *depth_anything_v2* is the newest; *depth_zoe* and *depth_midas* are older "
        "ones. Each needs its own weights.",
        "Split the clip at its scene changes: depth is normalised over the whole clip.",
    ),
)

MIXES = (
    Mode(
        "V5.1",
        "Control mixed",
        control_builders.two_controls,
        Weights("V5.1", CONTROL),
        "Two control videos from one clip: its edges apply outside a mask, its poses inside.",
        (
            CHOOSE_VIDEO,
            "Save a frame of it as an image, choose that in *Mask*, right-click the node, **Open "
            "in MaskEditor**, paint where the second control should apply, save.",
            "Set the same size in both controls, with your clip's aspect ratio.",
            WRITE,
            "Press **Run**. The previews show both control videos before sampling starts.",
        ),
        "A knight in shining armour walks through a busy shopping street. Realistic, rich in "
        "detail.",
        (
            "To mix **by strength** instead, bypass *Mask* (Ctrl+B). Then both apply everywhere "
            "and add up; set each **strength** to about 0.5.",
            "**start_percent** and **end_percent** of each set when it applies, for example edges "
            "up to 0.4 and poses all the time.",
            FOUND_TIP,
            RATE_TIP,
            "For more controls, chain *EasyAnimate Control* nodes.",
        ),
        detectors=("openpose",),
    ),
    Mode(
        "V5.1",
        "Control with start and end image",
        control_builders.pinned_control,
        Weights("V5.1", CONTROL),
        "Follows the edges of your clip, with your images as first and last frame.",
        (
            CHOOSE_VIDEO,
            "Choose both images: the clip's first and last frame in the new look.",
            ASPECT,
            "Describe in the positive prompt what the images show.",
            LOOK,
        ),
        "A tram drives through an old town in deep snow, warm light in the windows. Realistic, "
        "rich in detail.",
        (
            "*EasyAnimate Pin Frames* keeps them fixed while the rest is sampled; the end image "
            "fills the last four frames. To use only one of them, bypass the other (Ctrl+B).",
            "Images with the clip's edges work best: make them with *Control Canny* and *length* "
            "1, or with an image model and the same edges.",
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
        "Combines camera moves, one after the other and at the same time.",
        ("Choose the moves in step 3, how far they go (*speed*) and how they start and end.",),
        "**mode** *join* appends a move, *combine* does it at the same time as the others.",
        "**Lengths**: joined moves share the frame between them, so 25 and 25 make 49; combined "
        "ones have the same length. The total must be *length* of *EasyAnimate Camera*.",
        "A negative **speed** goes the opposite way.",
    ),
    _camera(
        "keyframes",
        control_builders.camera_keyframes,
        "Moves the camera through positions at given frames.",
        (
            "Write the keyframes in step 3, one per line: frame, x, y, z, yaw, pitch, roll. +x is "
            "right, +y down, +z forward; angles are in degrees.",
        ),
        "The camera stands still before the first keyframe and after the last.",
        "A Pan of the other nodes moves by 1.5. Without angles the camera looks straight ahead.",
        "**length** must be the same in both nodes; frames count from 0.",
    ),
    _camera(
        "file",
        control_builders.camera_file,
        "Moves the camera as in a CameraCtrl (RealEstate10K) file.",
        (
            "Paste the text of your file into *EasyAnimate Camera File*: a header line, then a "
            "line of 19 numbers per frame. An example is included.",
        ),
        "The file needs at least as many frames as *length*; of a longer one, the first are used.",
        "The output **poses** is the path as text: connect a node that saves text files.",
        "Connect *EasyAnimate Camera Move* after it to append a move to the file's path.",
    ),
)

V5_1 = (*CONTROLS, *MIXES, *CAMERAS)
