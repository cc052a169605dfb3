"""The page's words in English and Chinese; the browser's language chooses.

What a field does is said by the help of the command line, which the command passes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Field:
    """A field's label in both languages and its meaning in Chinese.

    `help` is its meaning in English if it is not that of the command line's option `flag`.
    """

    english: str
    chinese: str
    meaning: str = ""
    flag: str = ""
    help: str = ""


FIELDS: Mapping[str, Field] = {
    "model": Field("Model", "模型", "模型文件夹；small 随程序附带，无需下载。",
                   help="A checkpoint folder; the small ones are built in and need no download."),
    "mode": Field("Mode", "模式", "这个模型会做的事。", help="What this model can do."),
    "prompt": Field("Prompt", "提示词", "画面内容；写得越详细越好。", "--prompt",
                    "What to show: the more detailed, the better."),
    "start": Field("Start image", "首帧图片", "第一帧的图片。", "--start-image"),
    "end": Field("End image", "尾帧图片", "最后一帧的图片。", "--end-image"),
    "video": Field("Video", "视频", "要重绘、局部编辑，或用作控制的视频。",
                   help="The clip to change, to edit, or to follow."),
    "strength": Field("Strength", "强度", "执行采样过程的多大部分，0 到 1。", "--strength"),
    "mask": Field("Mask", "遮罩", "图片或视频，白色 = 生成。", "--mask"),
    "preprocessor": Field("Preprocessor", "预处理", "由普通视频得到线条、姿态或深度。",
                          help="Makes lines, poses or depth from an ordinary clip."),
    "reference": Field("Reference image", "参考图片", "结果应有的样子（V5.1 控制和镜头）。",
                       "--reference"),
    "moves": Field("Camera moves", "镜头运动", "可以组合多个。", "--camera",
                   "Several are combined."),
    "speed": Field("Camera speed", "镜头速度", "镜头移动多远，默认 1。", "--camera-speed",
                   "How far the moves go, default: 1"),
    "poses": Field("Camera poses", "相机位姿文件", "CameraCtrl / RealEstate10K，代替镜头运动。",
                   "--camera-poses"),
    "original_timing": Field(
        "Original timing", "原版节奏", "开：镜头差一步到终点，与原版相同；关：到达终点。",
        "--camera-timing", "On: moves stop one step short of their end, as in the original. "
        "Off: they reach it."),
    "tracks": Field("Tracks", "轨迹", "JSON：轨迹的列表，点以像素为单位。", "--trajectory",
                    "JSON: a list of tracks, their points in pixels."),
    "height": Field("Height", "高", "像素，16 的倍数。空：由来源决定。", "--size",
                    "Pixels, a multiple of 16. Empty: as the source, or the trained size"),
    "width": Field("Width", "宽", "像素，16 的倍数。空：由来源决定。", "--size",
                   "Pixels, a multiple of 16. Empty: as the source, or the trained size"),
    "frames": Field("Frames", "帧数", "4n + 1，1 为图片。空：训练时的长度，或视频允许的长度。",
                    "--frames", "4n + 1; 1: an image. Empty: 49, or as the clip or model allows"),
    "fps": Field("Frames per second", "帧率", "默认 8。", "--fps"),
    "steps": Field("Steps", "步数", "采样步数，默认 50。", "--steps"),
    "guidance_scale": Field("Guidance", "引导强度", "默认 6；1：关闭。", "--guidance-scale"),
    "guidance_rescale": Field("Guidance rescale", "引导再缩放", "0 到 1，默认 0。",
                              "--guidance-rescale"),
    "guidance_window": Field("Guidance window", "引导区间",
                             "计算反向提示词的步数比例，从第一步起，默认 1。", "--guidance-window"),
    "step_cache": Field("Step cache", "步缓存",
                        "省去计算的步数比例，最多 0.7，默认 0；0.5 较慎重，0.65 较快。",
                        "--step-cache"),
    "negative_prompt": Field("Negative prompt", "反向提示词", "要避免的内容。",
                             "--negative-prompt"),
    "scheduler": Field("Scheduler", "采样器",
                       "Flow（V5.1）；DDIM、Euler、Euler A、DPM++、PNDM（V5）。", "--scheduler"),
    "seed": Field("Seed", "随机种子", "默认 43。", "--seed"),
    "batch": Field("Videos", "数量", "每个提示词的视频数，种子依次加一。", "--batch"),
    "reference_noise": Field("Noise on known pixels", "已知画面的噪声", "噪声幅度，默认 0.0563。",
                             "--reference-noise"),
    "keep_known": Field("Keep what is known", "保持已知画面",
                        "首帧和区域之外保持与来源一致；auto：由模型决定，原版不保持。",
                        "--keep-known"),
    "short": Field("If a clip is too short", "视频太短时", "refuse：报错；repeat：重复最后一帧。",
                   "--short"),
    "tile": Field("VAE tile", "VAE 分块", "分块边长（像素），8 的倍数，至少 128；节省显存。",
                  "--tile"),
    "quantization": Field("Quantization", "量化", "去噪网络的权重，默认 none。", "--quantization"),
    "text_quantization": Field("Text quantization", "文本编码器量化",
                               "文本编码器的权重，默认 none。", "--text-quantization"),
    "text_device": Field("Text device", "文本编码设备",
                         "文本编码器在哪里运行；空：与其他部分相同。", "--text-device"),
    "offload": Field("Offload", "卸载",
                     "resident：留在显卡上；module：各阶段才上显卡；block：逐块。", "--offload"),
    "sequential_guidance": Field("Sequential guidance", "依次引导",
                                 "两个提示词依次计算，激活减半。", "--sequential-guidance"),
    "resident_blocks": Field("Blocks that stay", "留在显卡上的块数",
                             "offload 为 block 时，去噪网络留在显卡上的块数，默认 0。",
                             "--resident-blocks"),
}  # fmt: skip

#: Everything else, by key: English, Chinese.
WORDS: Mapping[str, tuple[str, str]] = {
    "title": ("EasyAnimate", "EasyAnimate"),
    "generate": ("Generate", "生成"),
    "dice": ("Random seed", "随机"),
    "size": ("Size and length", "尺寸与长度"),
    "sampling": ("Sampling", "采样"),
    "memory": ("Memory", "内存"),
    "result": ("Result", "结果"),
    "queue": ("Queue", "队列"),
    "gallery": ("Finished videos: click one to use its settings again",
                "已完成的视频：点击可再次使用其设置"),
    "empty": ("Nothing is running.", "没有正在运行的任务。"),
    "cancel": ("Cancel", "取消"),
    "cancelling": ("Stops after this step", "本步之后停止"),
    "waiting": ("waiting, {} before it", "等待中，前面还有 {} 个"),
    "running": ("running", "运行中"),
    "done": ("done in {} s", "完成，用时 {} 秒"),
    "failed": ("failed", "失败"),
    "cancelled": ("cancelled", "已取消"),
    "again": ("Add again: {}. The video does not say where it was, or it has changed.",
              "请重新添加：{}。视频没有记录它的位置，或者它已改变。"),
    "other_model": ("Its model, {}, is not among those offered; choose one.",
                    "它的模型 {} 不在列表中，请选择一个。"),
    "text_to_video": ("Text to video", "文生视频"),
    "image_to_video": ("Image to video", "图生视频"),
    "video_to_video": ("Video to video", "视频重绘"),
    "region_edit": ("Region edit", "局部编辑"),
    "control": ("Control", "控制"),
    "camera": ("Camera", "镜头"),
    "trajectory": ("Trajectory", "轨迹"),
    "load": ("Loading", "加载"),
    "detect": ("Detecting", "检测"),
    "encode": ("Encoding", "编码"),
    "denoise": ("Denoising", "去噪"),
    "decode": ("Decoding", "解码"),
}  # fmt: skip


def language_of(accepted: str) -> str:
    """The language for an Accept-Language header."""
    return "zh" if accepted.strip().lower().startswith("zh") else "en"


def word(key: str, language: str, *values: object) -> str:
    """A word of the page; an unknown key is its own word."""
    texts = WORDS.get(key, (key, key))
    return texts[LANGUAGES.index(language)].format(*values)


def translations(helps: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The texts by language and key: `name` for a label, `name.info` for its meaning.

    `helps` are the command line's help texts by option.
    """
    english = {key: texts[0] for key, texts in WORDS.items()}
    chinese = {key: texts[1] for key, texts in WORDS.items()}
    for name, field in FIELDS.items():
        english[f"field.{name}"], chinese[f"field.{name}"] = field.english, field.chinese
        text = field.help or helps[field.flag]
        english[f"field.{name}.info"] = text[:1].upper() + text[1:]
        chinese[f"field.{name}.info"] = field.meaning
    return {"en": english, "zh": chinese, "zh-CN": chinese, "zh-TW": chinese}
