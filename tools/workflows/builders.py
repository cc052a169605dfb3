"""Connects and arranges the nodes of each mode."""

from __future__ import annotations

from typing import Any

from .canvas import Group
from .drafts import PROMPT, SAMPLE, SAVE, SHOWN, SIZE, Draft
from .notes import REWARD_LORA
from .words import Said

#: The first stands below the note.
Columns = list[list[Group]]
#: The original's denoise for video to video.
CHANGE = 0.7
#: 97 frames are 25 latent frames. A window has 13, as the model was trained (49 frames).
LONG = 97
WINDOW, OVERLAP, TIME_DIMENSION = 13, 4, 2
PICTURE_SIZE = 768
TRAINED_CAPTION = "A photograph of sks, sharp, in natural light."
CONTROL_VIDEO = Said("Control video: poses, edges, depth ...", "控制视频：姿态、边缘、深度……")
VIDEO, MASK = Said("Video", "视频"), Said("Mask: paint it on a frame", "遮罩：画在一帧上")
START, END = Said("Start image", "首帧图"), Said("End image", "尾帧图")
REFERENCE = Said("Reference image (optional)", "参考图（可选）")


def text_to_video(draft: Draft) -> Columns:
    """T2V and InP weights."""
    before = [draft.load(), draft.prompt()]
    size = _size(draft)
    return [[], before, [size, draft.sample()], [draft.save()]]


def text_to_image(draft: Draft) -> Columns:
    """A video of one frame."""
    before = [draft.load(), draft.prompt()]
    size = _size(draft, width=PICTURE_SIZE, height=PICTURE_SIZE, length=1)
    sample = draft.sample()
    decode = draft.add("EasyAnimateDecode", vae=draft.vae, samples=draft.latent)
    file = draft.add("SaveImage", images=decode["IMAGE"], filename_prefix=draft.prefix)
    return [[], before, [size, sample], [Group(SAVE, [[decode, file]])]]


def image_to_video(draft: Draft) -> Columns:
    """InP weights."""
    before = [draft.load(), draft.prompt()]
    start = draft.picture(START)
    shown = draft.show("EasyAnimateImageToVideo", start_image=start["IMAGE"])
    group = Group(SHOWN, [[start], [shown]])
    return below_prompt(draft, before, group)


def start_and_end_image(draft: Draft) -> Columns:
    """InP weights."""
    before = [draft.load(), draft.prompt()]
    start, end = draft.picture(START), draft.picture(END)
    shown = draft.show(
        "EasyAnimateImageToVideo", start_image=start["IMAGE"], end_image=end["IMAGE"]
    )
    group = Group(SHOWN, [[start], [end], [shown]])
    return below_prompt(draft, before, group)


def inpaint(draft: Draft) -> Columns:
    """InP weights; the mask is painted in the mask editor."""
    before = [draft.load(), draft.prompt()]
    clip = draft.video(VIDEO)
    mask = draft.picture(MASK)
    shown = draft.show("EasyAnimateInpaint", video=clip.images, mask=mask["MASK"], **clip.rate)
    preview = draft.add(
        "PreviewImage",
        title=Said("What the model sees: red is new", "模型看到的：红色为新画面"),
        images=shown["preview"],
    )
    group = Group(SHOWN, [clip.nodes, [mask, preview], [shown]])
    return below_prompt(draft, before, group)


def video_to_video(draft: Draft) -> Columns:
    """T2V and InP weights."""
    before = [draft.load(), draft.prompt()]
    clip = draft.video(VIDEO)
    start = draft.add("EasyAnimateVideoToVideo", vae=draft.vae, video=clip.images, **clip.rate)
    draft.latent = start["latent"]
    group = Group(SHOWN, [clip.nodes, [start]])
    return below_prompt(draft, before, group, denoise=CHANGE)


def control(draft: Draft) -> Columns:
    """Control weights; the reference image needs V5.1."""
    before = [draft.load(), draft.prompt()]
    clip = draft.video(CONTROL_VIDEO)
    sources = [clip.nodes]
    given = {"control_video": clip.images, **clip.rate}
    if draft.weights.version == "V5.1":
        reference = draft.picture(REFERENCE)
        given["reference_image"] = reference["IMAGE"]
        sources.append([reference])
    shown = draft.show("EasyAnimateControl", **given)
    group = Group(SHOWN, [*sources, [shown]])
    return below_prompt(draft, before, group)


def camera(draft: Draft) -> Columns:
    """Control-Camera weights."""
    before = [draft.load(), draft.prompt()]
    reference = draft.picture(REFERENCE)
    shown = draft.show("EasyAnimateCamera", reference_image=reference["IMAGE"])
    group = Group(SHOWN, [[reference], [shown]])
    return below_prompt(draft, before, group)


def trajectory(draft: Draft) -> Columns:
    """Control weights."""
    before = [draft.load(), draft.prompt()]
    reference = draft.picture(REFERENCE)
    shown = draft.show("EasyAnimateTrajectory", reference_image=reference["IMAGE"])
    preview = draft.add(
        "PreviewImage",
        title=Said("The tracks as the model sees them", "模型看到的轨迹"),
        images=shown["preview"],
    )
    group = Group(SHOWN, [[reference, preview], [shown]])
    return beside_prompt(draft, before, group)


def train_lora(draft: Draft) -> Columns:
    """Train a LoRA on an image, and generate a video with it."""
    load = draft.load()
    picture = draft.picture(Said("Picture", "图像"))
    train = draft.add(
        "EasyAnimateTrainLora",
        checkpoint=draft.weights.folders[0],
        images=picture["IMAGE"],
        captions=TRAINED_CAPTION,
    )
    lora = draft.add("EasyAnimateLoadLora", model=draft.model, lora=train["lora"])
    draft.model = lora["MODEL"]
    curve = draft.add("PreviewImage", title=Said("Loss", "损失"), images=train["loss_curve"])
    group = Group(load.title, [[picture, curve], [train, *load.columns[0], lora]])
    return [[], [group], [draft.prompt(), _size(draft)], [draft.sample()], [draft.save()]]


def reward_lora(draft: Draft) -> Columns:
    """Text to video with a published LoRA."""
    load = draft.load()
    settings = {"lora": REWARD_LORA["name"], "strength": 0.7, "models": [REWARD_LORA]}
    before = [_with_lora(draft, load, **settings), draft.prompt()]
    return [[], before, [_size(draft), draft.sample()], [draft.save()]]


def _with_lora(draft: Draft, load: Group, **given: Any) -> Group:
    node = draft.add("EasyAnimateLoadLora", model=draft.model, **given)
    draft.model = node["MODEL"]
    return Group(load.title, [[*load.columns[0], node]])


def long_video(draft: Draft) -> Columns:
    """Text to video, longer than the model was trained for."""
    load, prompt = draft.load(), draft.prompt()
    size = _size(draft, length=LONG)
    windows = draft.add(
        "ContextWindowsManual",
        title=Said(
            "Windows, in latent frames (1 is 4 frames)", "窗口，以 latent 帧计（1 个为 4 帧）"
        ),
        model=draft.model,
        context_length=WINDOW,
        context_overlap=OVERLAP,
        context_schedule="standard_static",
        fuse_method="pyramid",
        dim=TIME_DIMENSION,
        freenoise=True,
    )
    draft.model = windows["MODEL"]
    load.columns[0].append(windows)
    return [[], [load, prompt], [size, draft.sample()], [draft.save()]]


def ksampler(draft: Draft) -> Columns:
    """ComfyUI's own nodes after the loader."""
    from easyanimate_core.settings import DEFAULT_NEGATIVE_PROMPT

    load = draft.load()
    texts = [
        draft.add("CLIPTextEncode", title=title, clip=draft.clip, text=text)
        for title, text in (
            (Said("Positive prompt", "正面提示词"), draft.text),
            (Said("Negative prompt", "负面提示词"), DEFAULT_NEGATIVE_PROMPT),
        )
    ]
    size = _size(draft)
    sampler = draft.add(
        "KSampler",
        model=draft.model,
        positive=texts[0]["CONDITIONING"],
        negative=texts[1]["CONDITIONING"],
        latent_image=draft.latent,
        seed=43,
        steps=50,
        cfg=6.0,
        sampler_name="euler",
        scheduler="normal",
    )
    decode = draft.add("VAEDecode", vae=draft.vae, samples=sampler["LATENT"])
    save = draft.save(images=decode["IMAGE"])
    save.columns[0].insert(0, decode)
    prompts = Group(PROMPT, [texts])
    return [[], [load, prompts], [size, Group(SAMPLE, [[sampler]])], [save]]


def below_prompt(draft: Draft, before: list[Group], shown: Group, **given: Any) -> Columns:
    """What the model is shown, the sampler and the result at the bottom, where nodes can grow."""
    load, prompt = before
    return [[load], [prompt, shown], [draft.sample(**given)], [draft.save()]]


def beside_prompt(draft: Draft, before: list[Group], shown: Group, **given: Any) -> Columns:
    """The same where what the model is shown takes a whole column."""
    load, prompt = before
    return [[load], [prompt, draft.sample(**given)], [shown], [draft.save()]]


def _size(draft: Draft, **given: int) -> Group:
    empty = draft.add("EasyAnimateEmptyLatentVideo", **given)
    draft.latent = empty["latent"]
    return Group(SIZE, [[empty]])
