"""The workflows that run on a fresh install, with the pack's small model and no other files."""

from __future__ import annotations

from dataclasses import dataclass

from easyanimate_core.models.specs import Head
from easyanimate_core.small_model import EXAMPLE_PROMPT

from . import trial_builders
from .drafts import Form
from .mode import Mode
from .notes import BuiltIn

WORDS = (
    "**Words it knows**: *small*, *large*; *red*, *green*, *blue*, *yellow*, *purple*, "
    "*white*; *circle*, *square*, *triangle*, *cross*; *moves left* (*right*, *up*, *down*), "
    "*grows*, *shrinks*, *turns clockwise*; on *plain grey* (*brown*, *teal*) or on grey "
    "*stripes*, *checks*, *clouds*. One sentence, in English or Chinese."
)
SIZE = (
    "**Size**: it was trained on 17 frames of 96 x 96 pixels. It is for trying out the nodes; "
    "real videos need the published weights, as described in the other workflows."
)
WORDS_ZH = (
    "**它认识的词**：小、大；红色、绿色、蓝色、黄色、紫色、白色；圆形、方块、三角形、十字；"
    "向左（右、上、下）移动、变大、变小、顺时针转动；灰色（棕色、青色）的平面、条纹、格子、云纹。"
    "只写一句话，中英文均可，例如：一个红色的大圆形在灰色条纹上向左移动。"
)
SIZE_ZH = (
    "**尺寸**：训练时是 17 帧、96 x 96 像素。它用来试用节点；真正的视频需要已发布的权重，"
    "见其他工作流。"
)
NO_DOWNLOAD_ZH = "无需下载任何文件：小模型随本节点包附带。"


@dataclass(frozen=True)
class Trial(Mode):
    """A workflow with the small model, and its note in Chinese: heading, about and to-do list."""

    chinese: tuple[str, str, tuple[str, ...]] = ("", "", ())

    def text(self, form: Form) -> str:  # noqa: ARG002  (there is one form)
        """The note on the canvas, in two languages."""
        heading, about, todo = self.chinese
        parts = (
            (self.name, self.about, *self.weights.lines(), "What to do", self.todo, (WORDS, SIZE)),
            (heading, about, NO_DOWNLOAD_ZH, "怎么做", todo, (WORDS_ZH, SIZE_ZH)),
        )
        return "\n\n".join(_part(*part) for part in parts)


def _part(
    heading: str,
    about: str,
    download: str,
    title: str,
    todo: tuple[str, ...],
    tips: tuple[str, ...],
) -> str:
    steps = "\n".join(f"{number}. {line}" for number, line in enumerate(todo, start=1))
    notes = "\n".join(f"- {tip}" for tip in tips)
    return f"# {heading}\n\n{about} {download}\n\n## {title}\n\n{steps}\n\n{notes}"


V5_1 = (
    Trial(
        "V5.1",
        "Try it with text",
        trial_builders.text,
        BuiltIn(Head.INPAINT),
        "Generates a clip from a prompt.",
        ("Press **Run**.", "Change words of the positive prompt in step 2 and run again."),
        EXAMPLE_PROMPT,
        forms=(Form.CORE,),
        chinese=(
            "用文字试一试",
            "根据文字生成短片。",
            ("点击**运行**。", "修改步骤 2 中正向提示词的词语，再次运行。"),
        ),
    ),
    Trial(
        "V5.1",
        "Try it with a start image",
        trial_builders.start_image,
        BuiltIn(Head.INPAINT),
        "Uses an image, here composed of two plain ones, as the first frame of a clip.",
        (
            "Press **Run**.",
            "Move the square with *x* and *y* in step 3, or change its direction: *moves up*.",
            "Change its colour: *color* of the square, and the same in the prompt.",
        ),
        "A large red square moves left on plain grey.",
        forms=(Form.CORE,),
        chinese=(
            "用首帧图试一试",
            "图像成为短片的第一帧。这里由两张纯色图像组成。",
            (
                "点击**运行**。",
                "移动方块：步骤 3 中的 *x* 和 *y*。或者让它向别处移动，例如 *moves up*。",
                "换颜色：修改方块的 *color*，并在提示词中写同样的颜色。",
            ),
        ),
    ),
    Trial(
        "V5.1",
        "Try it with a control video",
        trial_builders.control,
        BuiltIn(Head.INPAINT),
        "Generates a clip from a prompt, detects its edges, and generates another clip from them.",
        (
            "Press **Run**.",
            "Change the second prompt in step 2: the edges stay, colour and background change.",
            "Change the first prompt to copy another shape or motion.",
        ),
        "A large blue circle moves right on brown stripes.",
        forms=(Form.CORE,),
        chinese=(
            "用控制视频试一试",
            "先根据文字生成短片，画出它的边缘，再按这些边缘生成另一段短片。",
            (
                "点击**运行**。",
                "修改步骤 2 中的第二个提示词：边缘不变，颜色和背景改变。",
                "修改第一个提示词：复制另一种形状或运动。",
            ),
        ),
    ),
    Trial(
        "V5.1",
        "Try it with a camera",
        trial_builders.camera,
        BuiltIn(Head.CAMERA),
        "Controls how the camera moves over a scene.",
        (
            "Press **Run**.",
            "Choose another *move* in step 3: a pan, or a zoom with *speed* 0.5. Repeat it in "
            "the prompt: *The camera zooms in on ...*, *zooms out from ...*.",
        ),
        "The camera pans left over a large red circle on grey checks.",
        forms=(Form.CORE,),
        chinese=(
            "用镜头试一试",
            "由你决定镜头如何移动。",
            (
                "点击**运行**。",
                "在步骤 3 中选择另一个 *move*：平移，或 *speed* 为 0.5 的推拉。提示词也要相应修改："
                "*The camera zooms in on ...*、*zooms out from ...*。",
            ),
        ),
    ),
)
