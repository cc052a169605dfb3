"""The catalog of ready-made workflows."""

from __future__ import annotations

from . import builders, control_catalog, trial_catalog
from .canvas import to_text
from .drafts import Form
from .mode import Mode
from .notes import (
    CAMERA,
    CHOOSE_CONTROL,
    CHOOSE_VIDEO,
    CONTROL,
    DENOISE_TIP,
    FROM_A_CLIP,
    INP,
    LENGTH_TIP,
    NO_REFERENCE,
    REWARD_LORA,
    RUN,
    SHARPNESS_TIP,
    SHORT_CLIPS,
    STRENGTH_TIP,
    T2V,
    WRITE,
    Weights,
)
from .schemas import read

V5_1 = (
    Mode(
        "V5.1",
        "Text to video",
        builders.text_to_video,
        Weights("V5.1", T2V),
        "Generates a video from a prompt.",
        (WRITE, "Set size and length in step 3.", RUN),
        "A corgi runs along a sunny beach, its paws splashing through the shallow waves. Golden "
        "light of late afternoon, drops of water in the air. The camera follows at its side. "
        "Realistic, rich in detail.",
        (LENGTH_TIP, "The **-InP** weights work for text to video too."),
    ),
    Mode(
        "V5.1",
        "Text to image",
        builders.text_to_image,
        Weights("V5.1", T2V),
        "Generates an image from a prompt: a video of one frame.",
        (WRITE, "Set the size in step 3; leave *length* at 1.", RUN),
        "A lighthouse on a cliff above a stormy sea, waves breaking against the rocks, dark "
        "clouds with a gap of golden light at the horizon. A photograph, sharp, rich in detail.",
        ("Such an image makes a good start image for *Image to video*.",),
        forms=(Form.CORE,),
        size_tip="**Size**: multiples of 16, areas from 512 x 512 to 1024 x 1024.",
    ),
    Mode(
        "V5.1",
        "Image to video",
        builders.image_to_video,
        Weights("V5.1", INP),
        "Uses an image as the first frame of a video.",
        (
            "Choose your image in step 3. It is scaled and cropped to the size.",
            "Set a size with the aspect ratio of your image.",
            "Describe in the positive prompt what happens.",
            RUN,
        ),
        "The scene comes alive: hair and clothes move in a light breeze, light and shadow shift "
        "softly, and the camera slowly moves closer.",
        (
            LENGTH_TIP,
            SHARPNESS_TIP,
            "**keyframes** and **keyframe_positions** place images at any frames.",
        ),
    ),
    Mode(
        "V5.1",
        "Start and end image",
        builders.start_and_end_image,
        Weights("V5.1", INP),
        "Generates a video that starts with one image and ends with another.",
        (
            "Choose both images in step 3. They are scaled and cropped to the size.",
            "Describe in the positive prompt how one becomes the other.",
            RUN,
        ),
        "The camera glides smoothly from the first view to the last. Things move naturally, the "
        "light changes gradually, without a cut.",
        (
            LENGTH_TIP,
            "Images of the same place or person work best.",
            "Without the start image, only the end of the video is fixed.",
            SHARPNESS_TIP,
        ),
    ),
    Mode(
        "V5.1",
        "Video inpaint",
        builders.inpaint,
        Weights("V5.1", INP),
        "Regenerates a region of a video and keeps the rest.",
        (
            CHOOSE_VIDEO,
            "Save a frame of it as an image, choose that in *Mask*, right-click the node, **Open "
            "in MaskEditor**, paint what should be new, save.",
            "Describe in the positive prompt what the whole result should show.",
            "Press **Run**. The preview shows in red what is new.",
        ),
        "A fluffy white cat sits there and looks around, its tail moving slowly. Realistic, in "
        "the light of the scene.",
        (
            SHORT_CLIPS,
            "**grow_mask** enlarges the region, **blur_mask** softens its edge.",
            "One mask per frame works too: use any node that outputs as many masks as frames.",
        ),
    ),
    Mode(
        "V5.1",
        "Video to video",
        builders.video_to_video,
        Weights("V5.1", INP),
        "Gives a video a new look and keeps its motion.",
        (CHOOSE_VIDEO, "Describe in the positive prompt what the new video shows.", RUN),
        "The scene as a watercolour painting: soft washes of colour, visible paper, delicate "
        "brush strokes.",
        (DENOISE_TIP, SHORT_CLIPS, "The weights without **-InP** work too."),
    ),
    Mode(
        "V5.1",
        "Control",
        builders.control,
        Weights("V5.1", CONTROL),
        "A control video provides the motion, the prompt the look.",
        (CHOOSE_CONTROL, WRITE, RUN),
        "A young woman in a red dress dances in a garden full of flowers, her long hair flying. "
        "Bright morning light, realistic, rich in detail.",
        (FROM_A_CLIP, STRENGTH_TIP),
    ),
    Mode(
        "V5.1",
        "Control with reference",
        builders.control_with_reference,
        Weights("V5.1", CONTROL),
        "A control video provides the motion, a reference image and the prompt the look.",
        (
            CHOOSE_CONTROL,
            "Choose the reference image: how the first frame should look.",
            WRITE,
            RUN,
        ),
        "A cyclist rides through a snowy forest at dusk, warm light from a lantern, flakes in the "
        "air. Realistic, rich in detail.",
        (FROM_A_CLIP, STRENGTH_TIP),
    ),
    Mode(
        "V5.1",
        "Camera",
        builders.camera,
        Weights("V5.1", CAMERA),
        "Controls how the camera moves.",
        (
            "Choose a *move* in step 3, and optionally a second one, which is added to it.",
            "Choose a reference image: how the first frame should look.",
            WRITE,
            RUN,
        ),
        "A quiet mountain lake at dawn, mist over the water, pine trees on the shore, the first "
        "sun on the peaks. Realistic, rich in detail.",
        (
            "**speed** scales the moves; negative values reverse them.",
            "**poses** takes a path in CameraCtrl's text format instead of the moves.",
            NO_REFERENCE,
            LENGTH_TIP,
        ),
    ),
    Mode(
        "V5.1",
        "Trajectory",
        builders.trajectory,
        Weights("V5.1", CONTROL),
        "Moves objects along tracks that you draw.",
        (
            "Choose a reference image: how the first frame should look.",
            "Click and drag the track's points on the canvas of *EasyAnimate Trajectory*; the "
            "plus starts another track, the slider plays them. The text above it is the same as "
            "JSON; KJNodes' *Spline Editor* outputs such text.",
            WRITE,
            "Press **Run**. The preview shows the tracks.",
        ),
        "A small sailing boat glides from left to right over calm water in evening light, its "
        "reflection trembling on the surface.",
        (
            "Points are in pixels of the result: set the size first.",
            NO_REFERENCE,
            STRENGTH_TIP,
            LENGTH_TIP,
        ),
        app=False,
    ),
    Mode(
        "V5.1",
        "LoRA",
        builders.lora,
        Weights("V5.1", T2V),
        "Text to video with a LoRA: a small file that adds a style, a character or a motion.",
        (
            "Put the LoRA file into **ComfyUI/models/loras**, press **R**, choose it in step 1.",
            "Write the prompt, with the LoRA's trigger words if it has any.",
            RUN,
        ),
        "A corgi runs along a sunny beach, its paws splashing through the shallow waves. Golden "
        "light of late afternoon.",
        (
            "A LoRA fits one version and size: one for V5.1 7b fits the 7b folders.",
            "Formats: EasyAnimate's own, kohya's, peft's and diffusers'. The report says how many "
            "keys matched; a file that does not fit is an error.",
            "For several LoRAs, chain the loaders.",
        ),
    ),
    Mode(
        "V5.1",
        "Train LoRA",
        builders.train_lora,
        Weights("V5.1", T2V),
        "Trains a LoRA on your images and generates a video with it.",
        (
            "Install the training packages: run ComfyUI's Python with *-m pip install accelerate "
            "pydantic pyyaml matplotlib*.",
            "Choose your image in step 1. Add more with *Batch Images*: 10 to 30 work far better "
            "than one.",
            "Describe in *captions* what they show: one line for all, or one line per clip. A "
            "made-up word, such as sks, serves as the trigger word.",
            "Use that word in the prompt.",
            RUN,
        ),
        "A photograph of sks on a wooden table by a window. The camera slowly moves closer.",
        (
            "The file is saved in **ComfyUI/models/loras** and never replaced. *Cancel* keeps the "
            "state: the same images and settings resume from it, and so do more *steps*.",
            "To train on **clips**, connect their frames and set *frames_per_clip*.",
        ),
        forms=(Form.CORE,),
        app=False,
    ),
    Mode(
        "V5.1",
        "Long video with context windows",
        builders.long_video,
        Weights("V5.1", T2V),
        "97 frames, 12 seconds: twice what the model was trained on, in overlapping windows.",
        (WRITE, "Set size and length in step 3.", RUN),
        "A drone flies over a green valley with a winding river, forests and small villages. "
        "Morning mist, soft light, smooth and steady flight.",
        (
            "A window is 13 latent frames (49 frames), the overlap 4 (16 frames). *dim* 2 is time.",
            "**Length**: 4n + 1. Longer videos take more time, but hardly more denoiser memory.",
            "Scenes that change little work best: all windows share the prompt.",
        ),
    ),
    Mode(
        "V5.1",
        "KSampler text to video",
        builders.ksampler,
        Weights("V5.1", T2V),
        "Text to video with ComfyUI's own nodes: whatever works with them works here.",
        (WRITE, "Set size and length in step 3.", RUN),
        "A hummingbird hovers in front of a red flower, its wings a blur, drops of dew on the "
        "petals. Macro shot, soft background.",
        (
            "*euler* with scheduler *normal* is the original's Flow.",
            LENGTH_TIP,
            "If memory runs out while decoding, use *VAE Decode (Tiled)*.",
        ),
    ),
)

V5 = (
    Mode(
        "V5",
        "Text to video",
        builders.text_to_video,
        Weights("V5", T2V),
        "Generates a video from a prompt.",
        (WRITE, "Set size and length in step 3.", RUN),
        "A campfire burns on the shore of a lake at night, sparks rise into the starry sky, the "
        "flames are mirrored in the water. Realistic, rich in detail.",
        (LENGTH_TIP, "The **-InP** weights work for text to video too."),
    ),
    Mode(
        "V5",
        "Image to video",
        builders.image_to_video,
        Weights("V5", INP),
        "Uses an image as the first frame of a video.",
        (
            "Choose your image in step 3. It is scaled and cropped to the size.",
            "Set a size with the aspect ratio of your image.",
            "Describe in the positive prompt what happens.",
            RUN,
        ),
        "The scene comes alive: leaves and clothes move in the wind, clouds drift, and the "
        "camera slowly moves closer.",
        (LENGTH_TIP, "An **end image** works as in V5.1: connect it to *end_image*."),
    ),
    Mode(
        "V5",
        "Video to video",
        builders.video_to_video,
        Weights("V5", INP),
        "Gives a video a new look and keeps its motion.",
        (CHOOSE_VIDEO, "Describe in the positive prompt what the new video shows.", RUN),
        "The scene as an oil painting with thick strokes of the brush and warm colours.",
        (DENOISE_TIP, SHORT_CLIPS),
    ),
    Mode(
        "V5",
        "Control",
        builders.control,
        Weights("V5", CONTROL, sizes=("12b",)),
        "A control video provides the motion, the prompt the look.",
        (CHOOSE_CONTROL, WRITE, RUN),
        "A man in a grey suit walks through a busy street in the rain, neon lights on the wet "
        "ground. Realistic, rich in detail.",
        (FROM_A_CLIP, STRENGTH_TIP, "Reference images need V5.1."),
    ),
    Mode(
        "V5",
        "LoRA",
        builders.reward_lora,
        Weights("V5", INP),
        "Text to video with a reward LoRA, trained towards videos that people prefer.",
        (
            "Put the LoRA, 1.12 GB, into **ComfyUI/models/loras**: "
            f"[{REWARD_LORA['name']}]({REWARD_LORA['url']}).",
            WRITE,
            RUN,
        ),
        "A red fox walks through fresh snow in a birch forest and looks into the camera. Soft "
        "winter light, realistic, rich in detail.",
        (
            "**strength** 0.7 is the original's value for these LoRAs.",
            "There are more in the same place: MPS instead of HPS2.1, and both for the 12b "
            "folder (1.83 GB each).",
            "The report says how many keys matched; a file that does not fit is an error.",
        ),
    ),
)

MODES = (*V5_1, *control_catalog.V5_1, *V5, *trial_catalog.V5_1)


def files() -> dict[str, str]:
    """The content of every workflow, by file name."""
    schemas = read()
    return {
        f"{mode.title(form)}.json": to_text(mode.workflow(form, schemas))
        for mode in MODES
        for form in mode.forms
    }
