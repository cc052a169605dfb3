"""The workflows that run on a fresh install, with the pack's small model and no other files."""

from __future__ import annotations

from easyanimate_core.models.specs import Head, Version
from easyanimate_core.small_model import EXAMPLE_PROMPT

from . import trial_builders
from .mode import Mode
from .notes import RUN, BuiltIn
from .words import Said

WORDS = Said(
    "**Words it knows**: *small*, *large*; *red*, *green*, *blue*, *yellow*, *purple*, "
    "*white*; *circle*, *square*, *triangle*, *cross*; *moves left* (*right*, *up*, *down*), "
    "*grows*, *shrinks*, *turns clockwise*; on *plain grey* (*brown*, *teal*) or on grey "
    "*stripes*, *checks*, *clouds*. One sentence, in English or Chinese.",
    "**它认识的词**：小、大；红色、绿色、蓝色、黄色、紫色、白色；圆形、方块、三角形、十字；"
    "向左（右、上、下）移动、变大、变小、顺时针转动；灰色（棕色、青色）的平面、条纹、格子、云纹。"
    "只写一句话，中英文均可，例如：一个红色的大圆形在灰色条纹上向左移动。",
)
SIZE = Said(
    "**Size**: it was trained on 17 frames of 96 x 96 pixels. It is for trying out the nodes; "
    "real videos need the published weights, as described in the other workflows.",
    "**尺寸**：训练时是 17 帧、96 x 96 像素。它用来试用节点；真正的视频需要已发布的权重，"
    "见其他工作流。",
)
#: What of V5 differs from V5.1.
SCHEDULERS = Said(
    "**Scheduler**: V5 has five, V5.1 one. *auto* is DDIM. Euler A adds noise in every step, so it "
    "makes another clip of the same prompt.",
    "**调度器**：V5 有五种，V5.1 只有一种。*auto* 即 DDIM。Euler A 每一步都加噪声，"
    "所以同一提示词会得到另一段短片。",
)
OF_V5 = Said(
    "**V5** has other text encoders (Bert and mT5) and another VAE. It takes no reference image "
    "and no camera path.",
    "**V5** 使用另外的文本编码器（Bert 和 mT5）和 VAE，不支持参考图和镜头路径。",
)
CHOOSE_SCHEDULER = Said(
    "Choose another *scheduler* in step 4 and compare: DDIM, Euler, Euler A, DPM++, PNDM.",
    "在步骤 4 中换一种 *scheduler* 比较：DDIM、Euler、Euler A、DPM++、PNDM。",
)

FEW_STEPS = Said(
    "**LoRA**: *small (built in): InP four steps* was distilled from the model with guidance. "
    "KSampler with *euler*, 4 steps and *cfg* 1 works as well. Control, Control-Camera and V5 have "
    "LoRAs of their own.",
    "**LoRA**：*small (built in): InP four steps* 由带引导的模型蒸馏而来。也可以用 KSampler："
    "*euler*、4 步、*cfg* 1。Control、Control-Camera 和 V5 各有自己的 LoRA。",
)

TRIALS = (
    Mode(
        "1 Try it - text",
        Said("Try it with text", "用文字试一试"),
        trial_builders.text,
        BuiltIn(Head.INPAINT),
        Said("Generates a clip from a prompt.", "根据文字生成短片。"),
        (
            RUN,
            Said(
                "Change words of the positive prompt in step 2 and run again.",
                "修改步骤 2 中正面提示词的词语，再次运行。",
            ),
        ),
        EXAMPLE_PROMPT,
        (WORDS, SIZE),
    ),
    Mode(
        "1 Try it in four steps",
        Said("Try it in four steps", "用四步试一试"),
        trial_builders.four_steps,
        BuiltIn(Head.INPAINT),
        Said(
            "Generates a clip from a prompt in 4 steps instead of 20, and without guidance: a "
            "tenth of the work.",
            "根据文字用 4 步而不是 20 步生成短片，且不用引导：只需十分之一的计算。",
        ),
        (
            RUN,
            Said(
                "Change words of the positive prompt in step 2 and run again. The negative prompt "
                "has no effect at *cfg* 1.",
                "修改步骤 2 中正面提示词的词语，再次运行。*cfg* 为 1 时，负面提示词不起作用。",
            ),
            Said(
                "Try 8 steps, or 2 for a draft. Compare without the LoRA: bypass it (Ctrl+B), then "
                "20 *steps* and *cfg* 4.",
                "试试 8 步，或用 2 步出草稿。与不用 LoRA 比较：绕过它（Ctrl+B），"
                "*steps* 设为 20，*cfg* 设为 4。",
            ),
        ),
        EXAMPLE_PROMPT,
        (FEW_STEPS, WORDS, SIZE),
    ),
    Mode(
        "1 Try it - start image",
        Said("Try it with a start image", "用首帧图试一试"),
        trial_builders.start_image,
        BuiltIn(Head.INPAINT),
        Said(
            "Uses an image, here composed of two plain ones, as the first frame of a clip.",
            "图像成为短片的第一帧。这里由两张纯色图像组成。",
        ),
        (
            RUN,
            Said(
                "Move the square with *x* and *y* in step 3, or change its direction: *moves up*.",
                "移动方块：步骤 3 中的 *x* 和 *y*。或者让它向别处移动，例如 *moves up*。",
            ),
            Said(
                "Change its colour: *color* of the square, and the same in the prompt.",
                "换颜色：修改方块的 *color*，并在提示词中写同样的颜色。",
            ),
        ),
        "A large red square moves left on plain grey.",
        (WORDS, SIZE),
    ),
    Mode(
        "1 Try it - control video",
        Said("Try it with a control video", "用控制视频试一试"),
        trial_builders.control,
        BuiltIn(Head.INPAINT),
        Said(
            "Generates a clip from a prompt, detects its edges, and generates another clip from "
            "them.",
            "先根据文字生成短片，画出它的边缘，再按这些边缘生成另一段短片。",
        ),
        (
            RUN,
            Said(
                "Change the second prompt in step 2: the edges stay, colour and background change.",
                "修改步骤 2 中的第二个提示词：边缘不变，颜色和背景改变。",
            ),
            Said(
                "Change the first prompt to copy another shape or motion.",
                "修改第一个提示词：复制另一种形状或运动。",
            ),
        ),
        "A large blue circle moves right on brown stripes.",
        (WORDS, SIZE),
    ),
    Mode(
        "1 Try it - camera",
        Said("Try it with a camera", "用镜头试一试"),
        trial_builders.camera,
        BuiltIn(Head.CAMERA),
        Said("Controls how the camera moves over a scene.", "由你决定镜头如何移动。"),
        (
            RUN,
            Said(
                "Choose another *move* in step 3: a pan, or a zoom with *speed* 0.5. Repeat it in "
                "the prompt: *The camera zooms in on ...*, *zooms out from ...*.",
                "在步骤 3 中选择另一个 *move*：平移，或 *speed* 为 0.5 的推拉。提示词也要相应修改："
                "*The camera zooms in on ...*、*zooms out from ...*。",
            ),
        ),
        "The camera pans left over a large red circle on grey checks.",
        (WORDS, SIZE),
    ),
    Mode(
        "1 Try it with V5 - text",
        Said("Try V5 with text", "用文字试一试 V5"),
        trial_builders.text,
        BuiltIn(Head.INPAINT, Version.V5),
        Said("Generates a clip from a prompt with V5.", "用 V5 根据文字生成短片。"),
        (
            RUN,
            CHOOSE_SCHEDULER,
            Said(
                "Change words of the positive prompt in step 2 and run again.",
                "修改步骤 2 中正面提示词的词语，再次运行。",
            ),
        ),
        EXAMPLE_PROMPT,
        (SCHEDULERS, OF_V5, WORDS, SIZE),
    ),
    Mode(
        "1 Try it with V5 - control",
        Said("Try V5 with a control video", "用控制视频试一试 V5"),
        trial_builders.control,
        BuiltIn(Head.INPAINT, Version.V5),
        Said(
            "Generates a clip from a prompt with V5, detects its edges, and generates another clip "
            "from them.",
            "先用 V5 根据文字生成短片，画出它的边缘，再按这些边缘生成另一段短片。",
        ),
        (
            RUN,
            Said(
                "Change the second prompt in step 2: the edges stay, colour and background change.",
                "修改步骤 2 中的第二个提示词：边缘不变，颜色和背景改变。",
            ),
            CHOOSE_SCHEDULER,
        ),
        "A large blue circle moves right on brown stripes.",
        (SCHEDULERS, OF_V5, WORDS, SIZE),
    ),
)
