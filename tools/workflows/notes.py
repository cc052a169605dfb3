"""The note of every workflow: what it does, its weights, what to choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from easyanimate_core.models.specs import Head
from easyanimate_core.preprocess import KINDS
from easyanimate_core.small_model import NAMES

#: Suffixes of checkpoint names.
T2V, INP, CONTROL, CAMERA = "", "-InP", "-Control", "-Control-Camera"

#: Gigabytes of a checkpoint folder, by version and size.
GIGABYTES = {("V5.1", "7b"): 30, ("V5.1", "12b"): 39, ("V5", "7b"): 22, ("V5", "12b"): 34}
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

STEPS_TIPS = {
    "V5.1": "**Steps**: 50 is the original's default; 25 to 30 are enough for drafts. **cfg**: 6.",
    "V5": "**Steps**: 35 to 50. **cfg**: 6 to 7. The scheduler *auto* is DDIM; Euler, Euler A, "
    "DPM++ and PNDM work too.",
}
SIZE_TIP = (
    "**Size**: multiples of 16. 672 x 384 is the fastest; 1008 x 576 and 1344 x 768 are sharper "
    "but need more memory."
)
WRITE = "Describe the video in the positive prompt; full sentences work best."
RUN = "Press **Run**."
CHOOSE_VIDEO = (
    "Choose your clip in step 3. It must be as long as the result (49 frames at 8 per second, "
    "6 seconds), or set *if_short* to repeat its last frame."
)
CHOOSE_CONTROL = (
    "Choose the control video in step 3: poses (OpenPose), edges (Canny, HED, MLSD, scribble, "
    "anime lines) or depth. It must be as long as the result (49 frames at 8 per second, 6 "
    "seconds), or set *if_short* to repeat its last frame."
)
FROM_A_CLIP = (
    "To start from a normal clip, use the workflows *Control Canny*, *Control OpenPose* and so "
    "on: they make the control video with *EasyAnimate Control Video*."
)
STRENGTH_TIP = (
    "**strength**, **start_percent** and **end_percent** set how strongly and when it applies."
)
SHORT_CLIPS = (
    "**Clips**: all frames are loaded first, so cut them to the seconds you need. Any frame rate "
    "works; the frames nearest in time are used."
)
NO_REFERENCE = "To use no reference image, bypass its *Load Image* (Ctrl+B)."
DENOISE_TIP = "**denoise**: 0.7 is the original's. Lower values keep more of your clip."
SHARPNESS_TIP = (
    "**reference_noise**: 0.0563 is the original's. More gives more motion, 0 stays closest to "
    "the picture."
)
LENGTH_TIP = "**Length**: 4n + 1 frames at 8 per second, up to 49, about 6 seconds."
MEMORY_TIP = (
    "**Memory**: *weight_dtype* scaled fp8 halves the denoiser's memory; *text_device* cpu "
    "leaves the GPU to it."
)
SEED_TIP = (
    "**Seed**: fixed, so the same settings give the same video. Set *control after generate* to "
    "randomize for a new one each time."
)


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

    def lines(self) -> list[str]:
        """Where to get them and where to put them."""
        rows = []
        for size, name in zip(self.sizes, self.folders, strict=True):
            page = f"https://huggingface.co/alibaba-pai/{name}"
            mirror = f"https://modelscope.cn/models/PAI/{name}"
            gigabytes = GIGABYTES[self.version, size]
            rows.append(f"- {name}, {gigabytes} GB: [Hugging Face]({page}), [ModelScope]({mirror})")
        name = self.folders[0]
        return [
            *rows,
            "",
            "Put the whole folder into **ComfyUI/models/EasyAnimate**, for example from ComfyUI's "
            "folder with",
            "",
            "```",
            f"hf download alibaba-pai/{name} --local-dir models/EasyAnimate/{name}",
            "```",
            "",
            "then press **R** and choose it in step 1.",
        ]


@dataclass(frozen=True)
class BuiltIn:
    """The small model with a head, in place of `Weights`."""

    head: Head

    @property
    def folders(self) -> list[str]:
        return [name for name, head in NAMES.items() if head is self.head]

    @property
    def models(self) -> list[dict[str, str]]:
        """Nothing to download."""
        return []

    def lines(self) -> list[str]:
        """Say that there is nothing to download."""
        return ["Nothing to download: the small model comes with this pack."]


def detector_lines(kinds: Sequence[str]) -> list[str]:
    """Where to get the weights of detectors that need some."""
    lines = []
    for kind in (KINDS[name] for name in kinds):
        files = kind.needed_files(kind.complete({}))
        downloads = [
            f"hf download {repo} {' '.join(file.name for file in found)} "
            f"--local-dir models/controlnet_aux/{repo}"
            for repo, found in groupby(files, key=lambda file: file.repo)
        ]
        downloads += [f"python -m pip install {package}" for package in kind.packages]
        if downloads:
            lines += ["", f"The detector *{kind.name}* needs", "", "```", *downloads, "```"]
    return lines


def note(
    heading: str,
    about: str,
    weights: Sequence[str],
    todo: Sequence[str],
    tips: Sequence[str],
) -> str:
    """The note as Markdown."""
    steps = [f"{number}. {line}" for number, line in enumerate(todo, start=1)]
    return "\n".join(
        [
            f"# {heading}",
            "",
            about,
            "",
            "## Weights",
            "",
            *weights,
            "",
            "## What to do",
            "",
            *steps,
            "",
            "## Tips",
            "",
            *(f"- {tip}" for tip in tips),
        ]
    )
