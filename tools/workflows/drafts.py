"""The steps that workflows are built from, in both forms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from .canvas import Canvas, Group, Node, Output
from .notes import BuiltIn, Weights
from .words import Said

FPS = 8.0
LENGTH = 49
#: An image that every ComfyUI has in its input folder. There is no such video.
EXAMPLE_IMAGE = "example.png"
NO_FILE = ""

ABOUT, READ_ME = Said("About", "关于"), Said("Read me", "说明")
LOAD, PROMPT = Said("1  Load", "1  加载"), Said("2  Prompt", "2  提示词")
SHOWN = Said("3  What the model is shown", "3  给模型看的画面")
SIZE = Said("3  Size and length", "3  尺寸和长度")
SAMPLE, SAVE = Said("4  Sample", "4  采样"), Said("5  Decode and save", "5  解码和保存")
TEXTS = Said("Prompts: positive above, negative below", "提示词：上为正面，下为负面")


class Form(Enum):
    """The pack whose nodes read and write videos."""

    CORE = "ComfyUI"
    VIDEO_HELPER = "VideoHelperSuite"


@dataclass(frozen=True)
class Clip:
    """A source clip: frames, their rate if a node outputs it, and its nodes, the loader last."""

    images: Output
    rate: dict[str, Output]
    nodes: list[Node]


class Draft:
    """A workflow under construction; every step stores its outputs for the next."""

    model: Output
    clip: Output
    vae: Output
    positive: Output
    negative: Output
    latent: Output

    def __init__(
        self, canvas: Canvas, form: Form, *, weights: Weights | BuiltIn, text: str, prefix: str
    ) -> None:
        """`text` is the positive prompt, `prefix` the prefix of output files."""
        self.add = canvas.add
        self.form = form
        self.weights = weights
        self.text = text
        self.prefix = prefix

    def load(self) -> Group:
        """Step 1: denoiser, text encoder and VAE."""
        loader = self.add(
            "EasyAnimateLoadCheckpoint",
            checkpoint=self.weights.folders[0],
            models=self.weights.models,
        )
        self.model, self.clip, self.vae = loader["MODEL"], loader["CLIP"], loader["VAE"]
        return Group(LOAD, [[loader]])

    def prompt(self) -> Group:
        """Step 2: both prompts; the negative one is the node's default."""
        encode = self.add("EasyAnimateTextEncode", title=TEXTS, clip=self.clip, positive=self.text)
        self.positive, self.negative = encode["positive"], encode["negative"]
        return Group(PROMPT, [[encode]])

    def show(self, type_name: str, **given: Any) -> Node:
        """Add a node of step 3, which adds conditions to the prompts."""
        node = self.add(
            type_name, positive=self.positive, negative=self.negative, vae=self.vae, **given
        )
        self.positive, self.negative = node["positive"], node["negative"]
        self.latent = node["latent"]
        return node

    def sample(self, **given: Any) -> Group:
        """Step 4."""
        sampler = self.add(
            "EasyAnimateSampler",
            model=self.model,
            positive=self.positive,
            negative=self.negative,
            latent_image=self.latent,
            **given,
        )
        self.latent = sampler["latent"]
        return Group(SAMPLE, [[sampler]])

    def save(self, *, images: Output | None = None) -> Group:
        """Step 5: a video; `images` are the frames if they are already decoded."""
        decode = []
        if images is None:
            decode = [self.add("EasyAnimateDecode", vae=self.vae, samples=self.latent)]
            images = decode[0]["IMAGE"]
        if self.form is Form.VIDEO_HELPER:
            combine = self.add(
                "VHS_VideoCombine",
                images=images,
                frame_rate=FPS,
                filename_prefix=self.prefix,
                format="video/h264-mp4",
            )
            return Group(SAVE, [[*decode, combine]])
        video = self.add("CreateVideo", images=images, fps=FPS)
        file = self.add("SaveVideo", video=video["VIDEO"], filename_prefix=self.prefix)
        return Group(SAVE, [[*decode, video, file]])

    def picture(self, title: Said) -> Node:
        """An image that the user chooses."""
        return self.add("LoadImage", title=title, image=EXAMPLE_IMAGE)

    def video(self, title: Said, *, length: int = LENGTH) -> Clip:
        """A clip that the user chooses."""
        if self.form is Form.VIDEO_HELPER:
            load = self.add(
                "VHS_LoadVideo",
                title=title,
                video=NO_FILE,
                force_rate=FPS,
                frame_load_cap=length,
                format="None",
            )
            return Clip(load["IMAGE"], {}, [load])
        load = self.add("LoadVideo", title=title, file=NO_FILE)
        parts = self.add("GetVideoComponents", video=load["VIDEO"])
        return Clip(parts["images"], {"source_fps": parts["fps"]}, [parts, load])
