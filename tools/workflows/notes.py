"""The note of every workflow: what it does, its weights, what to choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from easyanimate_core.hub import MODELS
from easyanimate_core.models.specs import Head, Version
from easyanimate_core.small_model import list_name

from .words import Said

#: Suffixes of checkpoint names.
T2V, INP, CONTROL, CAMERA = "", "-InP", "-Control", "-Control-Camera"

#: The large files of a folder.
DENOISER_AND_VAE = (
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)
QWEN_SHARDS = tuple(f"text_encoder/model-{n:05d}-of-00005.safetensors" for n in range(1, 6))
FILES = {"V5.1": (*DENOISER_AND_VAE, *QWEN_SHARDS), "V5": DENOISER_AND_VAE}

REWARD_LORA = {
    "name": "EasyAnimateV5-7b-zh-InP-HPS2.1.safetensors",
    "url": "https://huggingface.co/alibaba-pai/EasyAnimateV5-Reward-LoRAs/resolve/main/"
    "EasyAnimateV5-7b-zh-InP-HPS2.1.safetensors",
    "directory": "loras",
}

WRITE = Said(
    "Describe the video in the positive prompt; full sentences work best.",
    "在正面提示词中描述视频，完整的句子效果最好。",
)
RUN = Said("Press **Run**.", "点击**运行**。")
SET_SIZE = Said("Set size and length in step 3.", "在步骤 3 中设置尺寸和长度。")
CHOOSE_VIDEO = Said(
    "Choose your clip in step 3: as long as the result (49 frames at 8 per second, 6 seconds), or "
    "set *if_short* to repeat its last frame.",
    "在步骤 3 中选择视频：要与结果一样长（每秒 8 帧，49 帧，"
    "6 秒），否则把 *if_short* 设为重复最后一帧。",
)
REFERENCE = Said(
    "Choose a reference image: how the first frame should look.", "选择参考图：首帧应当是什么样子。"
)
NO_REFERENCE = Said(
    "To use no reference image, bypass its *Load Image* (Ctrl+B).",
    "不用参考图时，绕过它的“加载图像”节点（Ctrl+B）。",
)
STRENGTH_TIP = Said(
    "**strength**, **start_percent** and **end_percent** set how strongly and when it applies.",
    "**strength**、**start_percent** 和 **end_percent** 决定控制的强度和起作用的时段。",
)
SHORT_CLIPS = Said(
    "All frames of a clip are loaded first: cut it to the seconds you need.",
    "视频的所有帧会先载入内存：请先剪到需要的几秒。",
)
DENOISE_TIP = Said(
    "**denoise** 0.7 is the original's. Lower values keep more of your clip.",
    "**denoise** 0.7 是原版的值，越低保留的原视频越多。",
)
MORE_TIPS = {
    "V5.1": Said(
        "**Steps**: 50 is the original's default; 25 are enough for drafts.",
        "**步数**：原版默认 50；草稿用 25 就够。",
    ),
    "V5": Said(
        "**Steps**: 35 to 50, **cfg** 6 to 7. *auto* is DDIM.",
        "**步数** 35 到 50，**cfg** 6 到 7。*auto* 即 DDIM。",
    ),
}
SIZE_TIP = Said(
    "**Size**: multiples of 16, from 672 x 384 to 1344 x 768. **Length**: 4n + 1 frames, up to 49 "
    "(6 seconds).",
    "**尺寸**：16 的倍数，672 x 384 到 1344 x 768。**长度**：4n + 1 帧，最多 49 帧（6 秒）。",
)
MEMORY_TIP = Said(
    "**Memory**: *weight_dtype* scaled fp8 halves the denoiser's memory; *text_device* cpu leaves "
    "the GPU to it.",
    "**显存**：*weight_dtype* 选 scaled fp8，"
    "去噪网络的显存减半；*text_device* 选 cpu，显存都留给它。",
)
SEED_TIP = Said(
    "**Seed**: fixed, so a run repeats its video. For a new one each time, set *control after "
    "generate* to randomize.",
    "**种子**：固定，所以每次运行结果相同。想每次不同，把“生成后控制”设为随机。",
)
_WEIGHTS = Said("Weights", "权重")
_TODO = Said("What to do", "怎么做")
_TIPS = Said("Tips", "提示")


@dataclass(frozen=True)
class Weights:
    """The checkpoint folders of a workflow: one per size, the first is selected."""

    version: str
    head: str
    sizes: tuple[str, ...] = ("7b", "12b")

    @property
    def folders(self) -> list[str]:
        return [f"EasyAnimate{self.version}-{size}-zh{self.head}" for size in self.sizes]

    @property
    def models(self) -> list[dict[str, str]]:
        """The files of the selected folder, in the format of `properties.models`.

        The name is the path inside the folder `EasyAnimate`, as ComfyUI lists it.
        """
        folder = self.folders[0]
        address = f"https://huggingface.co/alibaba-pai/{folder}/resolve/main"
        return [
            {"name": f"{folder}/{file}", "url": f"{address}/{file}", "directory": "EasyAnimate"}
            for file in FILES[self.version]
        ]

    def said(self) -> Said:
        """How to get them."""
        name, *others = self.folders
        sizes = [MODELS[folder].gigabytes for folder in self.folders]
        code = f"\n\n```\npython install.py {name}\n```\n\n"
        pages = (
            f"[Hugging Face](https://huggingface.co/alibaba-pai/{name}), "
            f"[ModelScope](https://modelscope.cn/models/PAI/{name})"
        )
        larger = Said("", "")
        if others:
            larger = Said(
                f" Larger: {others[0]}, {sizes[1]} GB.", f"更大的：{others[0]}，{sizes[1]} GB。"
            )
        return Said(
            "In *custom_nodes/ComfyUI-EasyAnimate*, with ComfyUI's Python:" + code + "or add the "
            f"node **EasyAnimate Download Model** and choose it there: {sizes[0]} GB into "
            f"**models/EasyAnimate/{name}**. Then press **R**. Pages: {pages}." + larger.en,
            "在 *custom_nodes/ComfyUI-EasyAnimate* 中，用 ComfyUI 的 Python 运行：" + code + "或者"
            f"添加节点**EasyAnimate 下载模型**，在其中选择它：{sizes[0]} GB，放到 "
            f"**models/EasyAnimate/{name}**。然后按 **R**。页面：{pages}。" + larger.zh,
        )


@dataclass(frozen=True)
class BuiltIn:
    """The small model with a head, in place of `Weights`."""

    head: Head
    version: Version = Version.V5_1

    @property
    def folders(self) -> list[str]:
        return [list_name(self.head, self.version)]

    @property
    def models(self) -> list[dict[str, str]]:
        """Nothing to download."""
        return []

    def said(self) -> Said:
        """Say that there is nothing to download."""
        return Said(
            "Nothing to download: the small model comes with this pack.",
            "无需下载任何文件：小模型随本节点包附带。",
        )


def note(
    heading: Said, about: Said, weights: Said, todo: Sequence[Said], tips: Sequence[Said]
) -> Said:
    """The note as Markdown."""
    texts = []
    for language in range(2):
        steps = [f"{number}. {line[language]}" for number, line in enumerate(todo, start=1)]
        parts = [
            f"# {heading[language]}",
            about[language],
            f"## {_WEIGHTS[language]}",
            weights[language],
            f"## {_TODO[language]}",
            "\n".join(steps),
            f"## {_TIPS[language]}",
            "\n".join(f"- {tip[language]}" for tip in tips),
        ]
        texts.append("\n\n".join(parts))
    return Said(*texts)
