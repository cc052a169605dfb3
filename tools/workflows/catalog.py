"""The catalog of ready-made workflows."""

from __future__ import annotations

from . import builders, control_catalog, trial_catalog
from .canvas import to_text
from .drafts import Form
from .mode import Mode
from .notes import (
    CHOOSE_VIDEO,
    CONTROL,
    DENOISE_TIP,
    INP,
    NO_REFERENCE,
    REFERENCE,
    REWARD_LORA,
    RUN,
    SET_SIZE,
    SHORT_CLIPS,
    STRENGTH_TIP,
    T2V,
    WRITE,
    Weights,
)
from .schemas import read
from .words import Said

HAPPENS = Said("Describe in the positive prompt what happens.", "在正面提示词中描述发生什么。")
START = Said(
    "Choose your image in step 3, and a size with its aspect ratio.",
    "在步骤 3 中选择图像，并按它的宽高比设置尺寸。",
)
SHARPNESS = Said(
    "**reference_noise** 0.0563 is the original's; more gives more motion, 0 stays closest to the "
    "picture.",
    "**reference_noise** 0.0563 是原版的值；越大运动越多，0 最接近原图。",
)
KEYFRAMES = Said(
    "**keyframes** and **keyframe_positions** place images at any frames.",
    "**keyframes** 和 **keyframe_positions** 把图像放在任意帧。",
)
LOOKS = Said(
    "Describe in the positive prompt what the new video shows.",
    "在正面提示词中描述新视频的画面。",
)
INP_TOO = Said("The **-InP** weights work here, too.", "**-InP** 权重也能用。")
NEEDS_SUITE = Said(
    "Needs the node pack **VideoHelperSuite**; the workflow without VHS does the same with "
    "ComfyUI's own nodes.",
    "需要节点包 **VideoHelperSuite**；名称中不带 VHS 的工作流用 ComfyUI 自己的节点做同样的事。",
)
SUITE_VAE = Said(
    "Do not connect *vae* of VHS nodes: they do not fit a video VAE.",
    "不要连接 VHS 节点的 *vae*：它们不适用于视频 VAE。",
)
I2V_PROMPT = (
    "The scene comes alive: hair and clothes move in a light breeze, light and shadow shift "
    "softly, and the camera slowly moves closer."
)
V2V_PROMPT = (
    "The scene as a watercolour painting: soft washes of colour, visible paper, delicate brush "
    "strokes."
)
TEXT = Said("Generates a video from a prompt.", "根据提示词生成视频。")
IMAGE = Said("Uses an image as the first frame of a video.", "以一张图像为视频的首帧。")
VIDEO = Said("Gives a video a new look and keeps its motion.", "给视频换一种样貌，保留它的运动。")

LONG_PROMPT = Said(
    "**Long prompts** work best. *EasyAnimate Enhance Prompt* writes one from a few words: give it "
    "the *clip*, and connect its *prompt* to the text of *Text Encode*.",
    "**长提示词**效果最好。“EasyAnimate 扩写提示词”节点能把几个词扩写成长提示词："
    "接上 *clip*，再把它的 *prompt* 接到“文本编码”的文本上。",
)

TEXTS = (
    Mode(
        "2 Text to video",
        Said("Text to video", "文生视频"),
        builders.text_to_video,
        Weights("V5.1", T2V),
        TEXT,
        (WRITE, SET_SIZE, RUN),
        "A corgi runs along a sunny beach, its paws splashing through the shallow waves. Golden "
        "light of late afternoon, drops of water in the air. The camera follows at its side. "
        "Realistic, rich in detail.",
        (INP_TOO, LONG_PROMPT),
    ),
    Mode(
        "2 Text to video - long",
        Said("Long video", "长视频"),
        builders.long_video,
        Weights("V5.1", T2V),
        Said(
            "97 frames, 12 seconds: twice what the model was trained on, in overlapping windows.",
            "97 帧，12 秒：训练长度的两倍，用重叠的窗口生成。",
        ),
        (WRITE, SET_SIZE, RUN),
        "A drone flies over a green valley with a winding river, forests and small villages. "
        "Morning mist, soft light, smooth and steady flight.",
        (
            Said(
                "A window is 13 latent frames (49 frames), the overlap 4 (16 frames). *dim* 2 is "
                "time.",
                "窗口为 13 个 latent 帧（49 帧），重叠 4 个（16 帧）。*dim* 2 是时间。",
            ),
            Said(
                "Scenes that change little work best: all windows share the prompt.",
                "变化不大的场景效果最好：所有窗口共用一个提示词。",
            ),
        ),
        size_tip=Said(
            "**Length**: 4n + 1 frames, as many as you like.", "**长度**：4n + 1 帧，不限。"
        ),
    ),
    Mode(
        "2 Text to video - KSampler",
        Said("Text to video with KSampler", "用 KSampler 文生视频"),
        builders.ksampler,
        Weights("V5.1", T2V),
        Said(
            "Text to video with ComfyUI's own nodes: what works with them works here.",
            "用 ComfyUI 自己的节点文生视频：它们能用的，这里都能用。",
        ),
        (WRITE, SET_SIZE, RUN),
        "A hummingbird hovers in front of a red flower, its wings a blur, drops of dew on the "
        "petals. Macro shot, soft background.",
        (
            Said(
                "*euler* with scheduler *normal* is the original's Flow.",
                "*euler* 加调度器 *normal* 就是原版的 Flow。",
            ),
            Said(
                "**Preview** while KSampler works: *Settings*, *Comfy*, *Execution*, *Live preview "
                "method*: latent2rgb.",
                "KSampler 运行时的**预览**：*设置*、*Comfy*、*执行*中，实时预览方法选 latent2rgb。",
            ),
            Said(
                "If memory runs out while decoding, use *VAE Decode (Tiled)*.",
                "解码时显存不足，请用“VAE解码（分块）”。",
            ),
        ),
    ),
    Mode(
        "2 Text to image",
        Said("Text to image", "文生图"),
        builders.text_to_image,
        Weights("V5.1", T2V),
        Said(
            "Generates an image from a prompt: a video of one frame.",
            "根据提示词生成图像：只有一帧的视频。",
        ),
        (
            WRITE,
            Said(
                "Set the size in step 3; leave *length* at 1.",
                "在步骤 3 中设置尺寸；*length* 保持 1。",
            ),
            RUN,
        ),
        "A lighthouse on a cliff above a stormy sea, waves breaking against the rocks, dark "
        "clouds with a gap of golden light at the horizon. A photograph, sharp, rich in detail.",
        (
            Said(
                "Such an image makes a good start image for *Image to video*.",
                "这样的图像很适合作为*图生视频*的首帧图。",
            ),
        ),
        size_tip=Said(
            "**Size**: multiples of 16, areas from 512 x 512 to 1024 x 1024.",
            "**尺寸**：16 的倍数，面积从 512 x 512 到 1024 x 1024。",
        ),
    ),
)

IMAGES = (
    Mode(
        "3 Image to video",
        Said("Image to video", "图生视频"),
        builders.image_to_video,
        Weights("V5.1", INP),
        IMAGE,
        (START, HAPPENS, RUN),
        I2V_PROMPT,
        (SHARPNESS, KEYFRAMES),
    ),
    Mode(
        "3 Start and end image",
        Said("Start and end image", "首尾帧"),
        builders.start_and_end_image,
        Weights("V5.1", INP),
        Said(
            "Generates a video that starts with one image and ends with another.",
            "生成以一张图像开始、以另一张结束的视频。",
        ),
        (
            Said(
                "Choose both images in step 3. They are scaled and cropped to the size.",
                "在步骤 3 中选择两张图像。它们会缩放并裁剪到所设尺寸。",
            ),
            Said(
                "Describe in the positive prompt how one becomes the other.",
                "在正面提示词中描述一张怎样变成另一张。",
            ),
            RUN,
        ),
        "The camera glides smoothly from the first view to the last. Things move naturally, the "
        "light changes gradually, without a cut.",
        (
            Said(
                "Images of the same place or person work best.",
                "同一地点或人物的图像效果最好。",
            ),
            SHARPNESS,
        ),
    ),
)

VIDEOS = (
    Mode(
        "4 Video to video",
        Said("Video to video", "视频生视频"),
        builders.video_to_video,
        Weights("V5.1", INP),
        VIDEO,
        (CHOOSE_VIDEO, LOOKS, RUN),
        V2V_PROMPT,
        (
            DENOISE_TIP,
            SHORT_CLIPS,
            Said(
                "The weights without **-InP** and those of V5 work, too.",
                "不带 **-InP** 的权重和 V5 的权重也能用。",
            ),
        ),
    ),
    Mode(
        "4 Video inpaint",
        Said("Video inpaint", "视频局部重绘"),
        builders.inpaint,
        Weights("V5.1", INP),
        Said(
            "Regenerates a region of a video and keeps the rest.",
            "重新生成视频的一个区域，保留其余部分。",
        ),
        (
            CHOOSE_VIDEO,
            Said(
                "Save a frame of it, choose that in *Mask*, right-click the node, **Open in "
                "MaskEditor**, paint what should be new, save.",
                "保存其中一帧，在*遮罩*中选择它，右键点击节点，**在遮罩编辑器中打开**，画出要重新生成的部分，"
                "保存。",
            ),
            Said(
                "Describe in the positive prompt what the whole result should show.",
                "在正面提示词中描述整个结果的画面。",
            ),
            Said(
                "Press **Run**. The preview shows in red what is new.",
                "点击**运行**。预览中红色为新画面。",
            ),
        ),
        "A fluffy white cat sits there and looks around, its tail moving slowly. Realistic, in "
        "the light of the scene.",
        (
            SHORT_CLIPS,
            Said(
                "**grow_mask** enlarges the region, **blur_mask** softens its edge. One mask per "
                "frame works, too.",
                "**grow_mask** 扩大区域，**blur_mask** 柔化边缘。也可以每帧一张遮罩。",
            ),
        ),
    ),
)

LORAS = (
    Mode(
        "7 LoRA",
        Said("LoRA", "LoRA"),
        builders.reward_lora,
        Weights("V5", INP),
        Said(
            "Text to video with a LoRA: here a published one, trained towards videos that people "
            "prefer.",
            "用 LoRA 文生视频：这里是一个已发布的，朝着人们偏爱的视频训练而成。",
        ),
        (
            Said(
                "Put the LoRA, 1.12 GB, into **models/loras**: "
                f"[{REWARD_LORA['name']}]({REWARD_LORA['url']}).",
                "把 LoRA（1.12 GB）放到 **models/loras**："
                f"[{REWARD_LORA['name']}]({REWARD_LORA['url']})。",
            ),
            Said(
                "For your own LoRA, choose it in step 1, and the checkpoint that it was trained "
                "for: version and size must match.",
                "用自己的 LoRA 时，在步骤 1 中选择它，以及训练它的模型文件夹：版本和大小必须一致。",
            ),
            WRITE,
            RUN,
        ),
        "A red fox walks through fresh snow in a birch forest and looks into the camera. Soft "
        "winter light, realistic, rich in detail.",
        (
            Said(
                "**strength** 0.7 is the original's value for these LoRAs; others often want 1.",
                "**strength** 0.7 是原版用于这些 LoRA 的值；其他的常用 1。",
            ),
            Said(
                "For several LoRAs, chain the loaders. The report says how many keys matched; a "
                "file that does not fit is an error.",
                "多个 LoRA 就串联加载节点。报告会说明有多少键匹配；不匹配的文件会报错。",
            ),
        ),
    ),
    Mode(
        "7 Train a LoRA",
        Said("Train a LoRA", "训练 LoRA"),
        builders.train_lora,
        Weights("V5.1", T2V),
        Said(
            "Trains a LoRA on your images and generates a video with it.",
            "用你的图像训练 LoRA，再用它生成视频。",
        ),
        (
            Said(
                "Install the training packages: ComfyUI's Python with *-m pip install accelerate "
                "pydantic pyyaml matplotlib*.",
                "安装训练所需的包："
                "用 ComfyUI 的 Python 运行 *-m pip install accelerate pydantic pyyaml "
                "matplotlib*。",
            ),
            Said(
                "Choose your image in step 1. Add more with *Batch Images*: 10 to 30 work far "
                "better than one.",
                "在步骤 1 中选择图像。用“图像组合”添加更多：10 到 30 张远好于一张。",
            ),
            Said(
                "Describe them in *captions*: one line for all, or one per clip. A made-up word, "
                "such as sks, serves as the trigger word; use it in the prompt.",
                "在 *captions* 中描述它们：一行用于全部，"
                "或每段一行。用一个生造的词（如 sks）作触发词，"
                "并写进提示词。",
            ),
            RUN,
        ),
        "A photograph of sks on a wooden table by a window. The camera slowly moves closer.",
        (
            Said(
                "The file is saved in **models/loras** and never replaced. *Cancel* saves the LoRA "
                "so far; the same settings resume from it, and so do more *steps*.",
                "文件保存在 **models/loras**，从不覆盖。*取消*会保存此时的 LoRA；"
                "相同的设置或更多的 *steps* 从中继续。",
            ),
            Said(
                "To train on clips, connect their frames and set *frames_per_clip*.",
                "用视频训练时，连接其各帧并设置 *frames_per_clip*。",
            ),
        ),
        app=False,
    ),
)

SUITE = (
    Mode(
        "8 VHS - image to video",
        Said("Image to video with VideoHelperSuite", "用 VideoHelperSuite 图生视频"),
        builders.image_to_video,
        Weights("V5.1", INP),
        IMAGE,
        (START, HAPPENS, RUN),
        I2V_PROMPT,
        (NEEDS_SUITE, SUITE_VAE, SHARPNESS),
        form=Form.VIDEO_HELPER,
    ),
    Mode(
        "8 VHS - video to video",
        Said("Video to video with VideoHelperSuite", "用 VideoHelperSuite 视频生视频"),
        builders.video_to_video,
        Weights("V5.1", INP),
        VIDEO,
        (CHOOSE_VIDEO, LOOKS, RUN),
        V2V_PROMPT,
        (NEEDS_SUITE, SUITE_VAE, DENOISE_TIP),
        form=Form.VIDEO_HELPER,
    ),
    control_catalog.VIDEO_HELPER,
)

V5 = (
    Mode(
        "9 V5 - text to video",
        Said("Text to video with V5", "用 V5 文生视频"),
        builders.text_to_video,
        Weights("V5", T2V),
        TEXT,
        (WRITE, SET_SIZE, RUN),
        "A campfire burns on the shore of a lake at night, sparks rise into the starry sky, the "
        "flames are mirrored in the water. Realistic, rich in detail.",
        (INP_TOO,),
    ),
    Mode(
        "9 V5 - image to video",
        Said("Image to video with V5", "用 V5 图生视频"),
        builders.image_to_video,
        Weights("V5", INP),
        IMAGE,
        (START, HAPPENS, RUN),
        "The scene comes alive: leaves and clothes move in the wind, clouds drift, and the "
        "camera slowly moves closer.",
        (
            Said(
                "An end image works as in V5.1: connect it to *end_image*.",
                "尾帧图与 V5.1 相同：接到 *end_image*。",
            ),
        ),
    ),
    Mode(
        "9 V5 - control",
        Said("Control with V5", "用 V5 控制"),
        builders.control,
        Weights("V5", CONTROL, sizes=("12b",)),
        control_catalog.MOTION,
        (control_catalog.CHOOSE_CONTROL, WRITE, RUN),
        "A man in a grey suit walks through a busy street in the rain, neon lights on the wet "
        "ground. Realistic, rich in detail.",
        (
            control_catalog.FROM_A_CLIP,
            STRENGTH_TIP,
            Said("Reference images need V5.1.", "参考图需要 V5.1。"),
        ),
    ),
)

READY = Mode(
    "5 Control - ready video",
    Said("Control with a ready video", "用现成的控制视频"),
    builders.control,
    Weights("V5.1", CONTROL),
    Said(
        "A control video provides the motion, the prompt and a reference image the look.",
        "控制视频决定运动，提示词和参考图决定样貌。",
    ),
    (control_catalog.CHOOSE_CONTROL, REFERENCE, WRITE, RUN),
    "A cyclist rides through a snowy forest at dusk, warm light from a lantern, flakes in the "
    "air. Realistic, rich in detail.",
    (NO_REFERENCE, control_catalog.FROM_A_CLIP, STRENGTH_TIP),
)

MODES = (
    *trial_catalog.TRIALS,
    *TEXTS,
    *IMAGES,
    *VIDEOS,
    *control_catalog.CONTROLS,
    READY,
    *control_catalog.CAMERAS,
    *LORAS,
    *SUITE,
    *V5,
)


def files() -> dict[str, str]:
    """The content of every workflow, by file name."""
    schemas = read()
    return {f"{mode.name}.json": to_text(mode.workflow(schemas)) for mode in MODES}
