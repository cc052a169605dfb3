"""Every ready-made workflow."""

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
        "Makes a video from a text.",
        (WRITE, "Set size and length in step 3.", RUN),
        "A corgi runs along a sunny beach, its paws splashing through the shallow waves. Golden "
        "light of late afternoon, drops of water in the air. The camera follows at its side. "
        "Realistic, rich in detail.",
        (LENGTH_TIP, "The **-InP** weights do text to video too."),
    ),
    Mode(
        "V5.1",
        "Text to image",
        builders.text_to_image,
        Weights("V5.1", T2V),
        "Makes a picture from a text: a video of one frame.",
        (WRITE, "Set the size in step 3; *length* stays 1.", RUN),
        "A lighthouse on a cliff above a stormy sea, waves breaking against the rocks, dark "
        "clouds with a gap of golden light at the horizon. A photograph, sharp, rich in detail.",
        ("Such a picture makes a good start image for *Image to video*.",),
        forms=(Form.CORE,),
        size_tip="**Size**: multiples of 16, areas from 512 x 512 to 1024 x 1024.",
    ),
    Mode(
        "V5.1",
        "Image to video",
        builders.image_to_video,
        Weights("V5.1", INP),
        "A picture becomes the first frame of a video.",
        (
            "Choose your picture in step 3. It is scaled and cropped to the size.",
            "Set a size with the aspect of your picture.",
            "Say in the positive prompt what happens.",
            RUN,
        ),
        "The scene comes alive: hair and clothes move in a light breeze, light and shadow shift "
        "softly, and the camera slowly moves closer.",
        (
            LENGTH_TIP,
            SHARPNESS_TIP,
            "**keyframes** with **keyframe_positions** put pictures at any frames.",
        ),
    ),
    Mode(
        "V5.1",
        "Start and end image",
        builders.start_and_end_image,
        Weights("V5.1", INP),
        "A video that begins with one picture and ends with another.",
        (
            "Choose both pictures in step 3. They are scaled and cropped to the size.",
            "Say in the positive prompt how the one becomes the other.",
            RUN,
        ),
        "The camera glides smoothly from the first view to the last. Things move naturally, the "
        "light changes gradually, without a cut.",
        (
            LENGTH_TIP,
            "Pictures of the same place or person work best.",
            "Without the start image the video only ends as you say.",
            SHARPNESS_TIP,
        ),
    ),
    Mode(
        "V5.1",
        "Video inpaint",
        builders.inpaint,
        Weights("V5.1", INP),
        "Generates a region of a video anew and keeps the rest.",
        (
            CHOOSE_VIDEO,
            "Save a frame of it as a picture, choose that in *Mask*, right-click the node, **Open "
            "in MaskEditor**, paint what shall be new, save.",
            "Say in the positive prompt what the whole picture shows then.",
            "Press **Run**. The preview shows in red what is new.",
        ),
        "A fluffy white cat sits there and looks around, its tail moving slowly. Realistic, in "
        "the light of the scene.",
        (
            SHORT_CLIPS,
            "**grow_mask** widens the region, **blur_mask** softens its edge.",
            "A mask per frame works too: any node with as many masks as frames.",
        ),
    ),
    Mode(
        "V5.1",
        "Video to video",
        builders.video_to_video,
        Weights("V5.1", INP),
        "Gives a video another look and keeps its motion.",
        (CHOOSE_VIDEO, "Say in the positive prompt what the new video shows.", RUN),
        "The scene as a watercolour painting: soft washes of colour, visible paper, delicate "
        "brush strokes.",
        (DENOISE_TIP, SHORT_CLIPS, "The weights without **-InP** do it too."),
    ),
    Mode(
        "V5.1",
        "Control",
        builders.control,
        Weights("V5.1", CONTROL),
        "A control video gives the motion, the prompt the look.",
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
        "A control video gives the motion, a reference image and the prompt the look.",
        (
            CHOOSE_CONTROL,
            "Choose the reference image: the first frame as it shall look.",
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
        "You say how the camera moves.",
        (
            "Choose a *move* in step 3, and a second one if you like; their strengths add.",
            "Choose a reference image: how the first frame looks.",
            WRITE,
            RUN,
        ),
        "A quiet mountain lake at dawn, mist over the water, pine trees on the shore, the first "
        "sun on the peaks. Realistic, rich in detail.",
        (
            "**speed** scales the way; a negative one reverses it.",
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
        "Things move along tracks that you give.",
        (
            "Choose a reference image: how the first frame looks.",
            "Click and drag the track's points in the picture of *EasyAnimate Trajectory*; the "
            "plus begins another track, the slider plays them. The text above it says the same; "
            "KJNodes' *Spline Editor* gives such a text.",
            WRITE,
            "Press **Run**. The preview shows the tracks.",
        ),
        "A small sailing boat glides from left to right over calm water in evening light, its "
        "reflection trembling on the surface.",
        (
            "Points are pixels of the result: set the size first.",
            NO_REFERENCE,
            STRENGTH_TIP,
            LENGTH_TIP,
        ),
    ),
    Mode(
        "V5.1",
        "LoRA",
        builders.lora,
        Weights("V5.1", T2V),
        "Text to video with a LoRA: a small file that adds a style, a character or a motion.",
        (
            "Put the LoRA's file into **ComfyUI/models/loras**, press **R**, choose it in step 1.",
            "Write the prompt, with the LoRA's trigger words if it has some.",
            RUN,
        ),
        "A corgi runs along a sunny beach, its paws splashing through the shallow waves. Golden "
        "light of late afternoon.",
        (
            "A LoRA fits one version and size: one of V5.1 7b fits the 7b folders.",
            "Formats: EasyAnimate's own, kohya's, peft's and diffusers'. The report says how many "
            "keys matched; a file that does not fit is refused.",
            "Several LoRAs: one loader after the other.",
        ),
    ),
    Mode(
        "V5.1",
        "Train LoRA",
        builders.train_lora,
        Weights("V5.1", T2V),
        "Trains a LoRA on your pictures and makes a video with it.",
        (
            "Install the packages of training: ComfyUI's Python, *-m pip install accelerate "
            "pydantic pyyaml matplotlib*.",
            "Choose your picture in step 1. Put *Batch Images* behind it for more: 10 to 30 learn "
            "far better than one.",
            "Say in *captions* what they show: one line for all, or one line for each. A word "
            "without a meaning, such as sks, stands for what is learnt.",
            "Use that word in the prompt.",
            RUN,
        ),
        "A photograph of sks on a wooden table by a window. The camera slowly moves closer.",
        (
            "The file goes to **ComfyUI/models/loras** and is never replaced. *Cancel* keeps the "
            "state: the same pictures and settings go on from it, and more *steps* too.",
            "**Clips** in place of pictures: connect their frames and set *frames_per_clip*.",
        ),
        forms=(Form.CORE,),
    ),
    Mode(
        "V5.1",
        "Long video with context windows",
        builders.long_video,
        Weights("V5.1", T2V),
        "97 frames, 12 seconds: twice what the model was trained with, in windows that overlap.",
        (WRITE, "Set size and length in step 3.", RUN),
        "A drone flies over a green valley with a winding river, forests and small villages. "
        "Morning mist, soft light, smooth and steady flight.",
        (
            "A window is 13 latent frames (49 frames), the overlap 4 (16 frames). *dim* 2 is time.",
            "**Length**: 4n + 1. The time grows with it, the denoiser's memory hardly.",
            "Scenes that stay alike work best: all windows share the prompt.",
        ),
    ),
    Mode(
        "V5.1",
        "KSampler text to video",
        builders.ksampler,
        Weights("V5.1", T2V),
        "Text to video with ComfyUI's own nodes: what works with them works here.",
        (WRITE, "Set size and length in step 3.", RUN),
        "A hummingbird hovers in front of a red flower, its wings a blur, drops of dew on the "
        "petals. Macro shot, soft background.",
        (
            "*euler* with the scheduler *normal* is the original's Flow.",
            LENGTH_TIP,
            "When memory runs out while decoding: *VAE Decode (Tiled)*.",
        ),
    ),
)

V5 = (
    Mode(
        "V5",
        "Text to video",
        builders.text_to_video,
        Weights("V5", T2V),
        "Makes a video from a text.",
        (WRITE, "Set size and length in step 3.", RUN),
        "A campfire burns on the shore of a lake at night, sparks rise into the starry sky, the "
        "flames are mirrored in the water. Realistic, rich in detail.",
        (LENGTH_TIP, "The **-InP** weights do text to video too."),
    ),
    Mode(
        "V5",
        "Image to video",
        builders.image_to_video,
        Weights("V5", INP),
        "A picture becomes the first frame of a video.",
        (
            "Choose your picture in step 3. It is scaled and cropped to the size.",
            "Set a size with the aspect of your picture.",
            "Say in the positive prompt what happens.",
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
        "Gives a video another look and keeps its motion.",
        (CHOOSE_VIDEO, "Say in the positive prompt what the new video shows.", RUN),
        "The scene as an oil painting with thick strokes of the brush and warm colours.",
        (DENOISE_TIP, SHORT_CLIPS),
    ),
    Mode(
        "V5",
        "Control",
        builders.control,
        Weights("V5", CONTROL, sizes=("12b",)),
        "A control video gives the motion, the prompt the look.",
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
        "Text to video with a reward LoRA, which was trained to make videos that people prefer.",
        (
            "Put the LoRA, 1.12 GB, into **ComfyUI/models/loras**: "
            f"[{REWARD_LORA['name']}]({REWARD_LORA['url']}).",
            WRITE,
            RUN,
        ),
        "A red fox walks through fresh snow in a birch forest and looks into the camera. Soft "
        "winter light, realistic, rich in detail.",
        (
            "**strength** 0.7 is the original's for these LoRAs.",
            "There are more in the same place: MPS in place of HPS2.1, and both for the 12b "
            "folder (1.83 GB each).",
            "The report says how many keys matched; a file that does not fit is refused.",
        ),
    ),
)

MODES = (*V5_1, *control_catalog.V5_1, *V5, *trial_catalog.V5_1)


def files() -> dict[str, str]:
    """The text of every workflow by the name of its file."""
    schemas = read()
    return {
        f"{mode.title(form)}.json": to_text(mode.workflow(form, schemas))
        for mode in MODES
        for form in mode.forms
    }
