"""What the language model is asked for: a caption like those that the models were trained on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InputError

#: Choices of the language; "auto" is the prompt's own.
LANGUAGES = ("auto", "en", "zh")
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}

_CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_LATIN = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class Instruction:
    """The system message, and the user's message around the prompt."""

    system: str
    before: str
    picture: str
    nothing: str


_ENGLISH = Instruction(
    system="You write captions of short videos. From a few words you write one paragraph in "
    "English, of 80 to 120 words, as if you had watched the finished video. Say who or what is "
    "seen and how it looks, what it does and how it moves, where it is, what the light is like, "
    "how the camera is placed and how it moves, and the style of the picture. Keep everything "
    "that the words say and add only what fits them. Describe one shot of a few seconds. Write "
    "the caption alone: no title, no list, no remark.",
    before="Write the caption of the video that these words describe: ",
    picture="The picture is the first frame of the video: describe it as it is and say what "
    "happens next. ",
    nothing="whatever naturally happens next",
)
_CHINESE_WORDS = Instruction(
    system="你为短视频撰写描述。请根据几个词写一段120到180字的中文，就像你已经看过成片一样。"
    "写清画面中是谁或是什么、外观如何、在做什么、怎样运动、身处何处、光线如何、"
    "镜头的位置和运动，以及画面的风格。保留原话的全部内容，只补充与之相符的细节。"
    "只描述几秒钟的一个镜头。只写描述本身，不要标题、列表或说明。",
    before="请为下面这句话所描述的视频撰写描述：",
    picture="图片是视频的第一帧：如实描述它，并写出接下来发生的事。",
    nothing="接下来自然发生的事",
)
_INSTRUCTIONS = {"en": _ENGLISH, "zh": _CHINESE_WORDS}


def language_of(prompt: str, asked: str = "auto") -> str:
    """The language that is asked for, or the prompt's own: "en" or "zh"."""
    if asked not in LANGUAGES:
        raise InputError(f"The language is {asked!r}; it must be {', '.join(LANGUAGES)}.")
    if asked != "auto":
        return asked
    return "zh" if len(_CHINESE.findall(prompt)) > len(_LATIN.findall(prompt)) else "en"


def conversation(prompt: str, language: str, *, picture: str = "") -> str:
    """The chat up to the answer's start; `picture` has the tokens of a picture, or is empty."""
    words = _INSTRUCTIONS[language]
    shown = f"{picture}{words.picture}" if picture else ""
    return (
        f"<|im_start|>system\n{words.system}<|im_end|>\n"
        f"<|im_start|>user\n{shown}{words.before}{prompt or words.nothing}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
