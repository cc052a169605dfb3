"""Every mode through the pack's nodes, beside the core's pipeline with the same seed."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent))
from probing import Probe, clip_of, empty, encode, gap, ksampler

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
core = probe.core
PROMPT, NEGATIVE, SEED = "a red fox runs", "blurred", 43
SIZE = {"width": 96, "height": 64, "length": 9}
SETTINGS = {"height": 64, "width": 96, "frames": 9, "seed": SEED, "negative_prompt": NEGATIVE}
MOVES = ["Zoom In", "Pan Left"]
#: ComfyUI's names of V5's schedulers.
KSAMPLER = {"Euler": "euler", "DPM++": "dpmpp_2m", "DDIM": "ddim"}
TRACKS = '[{"x": 10, "y": 10}, {"x": 80, "y": 40}]'


def core_latents(checkpoint, task, **settings):
    """Unscaled latents and frames of the core's pipeline."""
    folder = probe.paths.find_checkpoint(checkpoint)
    pipeline = core.Pipeline.load(folder, device="cpu", dtype="float32", embedding_cache=False)
    run = pipeline.generate(PROMPT, task, core.Settings(**SETTINGS, **settings))
    return run.latents / 0.7125, run.frames


def compare(name, checkpoint, task, conditioning=None, **settings):
    """The largest difference of latents between the pack's sampler and the core."""
    loaded = probe.load(checkpoint)
    texts = encode(loaded.clip, PROMPT, NEGATIVE)
    latent = empty(9, 64, 96)
    if conditioning is not None:
        node, inputs = conditioning
        out = probe.run(
            node, positive=texts[0], negative=texts[1], vae=loaded.vae, **SIZE, **inputs
        )
        texts, latent = out[:2], out[2]
    sampled = {key: value for key, value in settings.items() if key != "denoise"}
    settings.pop("keep_known", None)  # the node's, not the sampler's
    ours = probe.sample(loaded.model, texts, latent, **settings)
    theirs, _ = core_latents(checkpoint, task, **sampled)
    probe.found[name] = gap(ours, theirs)
    return loaded, texts, latent, ours


with torch.inference_mode():
    picture, last = clip_of(1, 64, 96, 1), clip_of(1, 64, 96, 2)
    video, mask = clip_of(9, 64, 96, 3), torch.zeros(1, 64, 96)
    mask[:, 16:48, 24:72] = 1
    v51, v5 = "EasyAnimateV5.1-7b-zh", "EasyAnimateV5-7b-zh"

    loaded, texts, latent, ours = compare("text", v51, core.TextToVideo(), steps=6)
    probe.found["ksampler"] = gap(ksampler(loaded.model, texts, latent), ours)
    compare("text rescale", v51, core.TextToVideo(), steps=6, guidance_rescale=0.7)
    compare("text InP", f"{v51}-InP", core.TextToVideo(), steps=6)
    start_end = {"start_image": picture, "end_image": last, "noise_seed": SEED}
    node = "EasyAnimateImageToVideo"
    compare("start", f"{v51}-InP", core.ImageToVideo(picture),
            (node, {"start_image": picture, "noise_seed": SEED}), steps=6)  # fmt: skip
    loaded, texts, latent, ours = compare(
        "start end", f"{v51}-InP", core.ImageToVideo(picture, last), (node, start_end), steps=6
    )
    probe.found["start end ksampler"] = gap(ksampler(loaded.model, texts, latent), ours)
    keyframes = torch.cat([picture, last])
    compare("keyframes", f"{v51}-InP", core.ImageToVideo(keyframes={2: picture, -1: last}),
            (node, {"keyframes": keyframes, "keyframe_positions": "2, -1", "noise_seed": SEED}),
            steps=6)  # fmt: skip
    compare("region", f"{v51}-InP", core.RegionEdit(video, mask),
            ("EasyAnimateInpaint", {"video": video, "mask": mask, "noise_seed": SEED}),
            steps=6)  # fmt: skip
    beside = mask.roll((3, 5), (1, 2))  # borders within latents
    compare("region beside", f"{v51}-InP", core.RegionEdit(video, beside),
            ("EasyAnimateInpaint", {"video": video, "mask": beside, "noise_seed": SEED}),
            steps=6)  # fmt: skip
    compare("region drifting", f"{v51}-InP", core.RegionEdit(video, mask),
            ("EasyAnimateInpaint", {"video": video, "mask": mask, "noise_seed": SEED,
                                    "keep_known": False}),
            steps=6, keep_known=False)  # fmt: skip
    reference = {"control_video": video, "reference_image": picture}
    compare("control", f"{v51}-Control", core.Control(video),
            ("EasyAnimateControl", {"control_video": video}), steps=6)  # fmt: skip
    compare("control reference", f"{v51}-Control", core.Control(video, picture),
            ("EasyAnimateControl", reference), steps=6)  # fmt: skip
    compare("camera", f"{v51}-Control-Camera", core.Camera(MOVES, 0.5, None, picture),
            ("EasyAnimateCamera", {"move": "Zoom In", "second_move": "Pan Left", "speed": 0.5,
                                   "reference_image": picture}), steps=6)  # fmt: skip
    compare("trajectory", f"{v51}-Control", core.Trajectory(TRACKS, picture),
            ("EasyAnimateTrajectory", {"tracks": TRACKS, "reference_image": picture}),
            steps=6)  # fmt: skip

    loaded = probe.load(v51)
    texts = encode(loaded.clip, PROMPT, NEGATIVE)
    latent = probe.run("EasyAnimateVideoToVideo", vae=loaded.vae, video=video, **SIZE)[0]
    ours = probe.sample(loaded.model, texts, latent, steps=10, denoise=0.7)
    theirs, _ = core_latents(v51, core.VideoToVideo(video, 0.7), steps=10)
    probe.found["video"] = gap(ours, theirs)

    for scheduler in ("Euler", "Euler A", "DPM++", "PNDM", "DDIM"):
        loaded, texts, latent, ours = compare(
            f"V5 {scheduler}", v5, core.TextToVideo(), steps=8, scheduler=scheduler
        )
        if scheduler in KSAMPLER:
            theirs = ksampler(loaded.model, texts, latent, steps=8, sampler=KSAMPLER[scheduler],
                              scheduler="simple")  # fmt: skip
            probe.found[f"V5 {scheduler} ksampler"] = gap(theirs, ours)
    compare("V5 start", f"{v5}-InP", core.ImageToVideo(picture),
            (node, {"start_image": picture, "noise_seed": SEED}), steps=6)  # fmt: skip
    compare("V5 start DPM++", f"{v5}-InP", core.ImageToVideo(picture),
            (node, {"start_image": picture, "noise_seed": SEED}),
            steps=8, scheduler="DPM++")  # fmt: skip
    compare("V5 control", "EasyAnimateV5-12b-zh-Control", core.Control(video),
            ("EasyAnimateControl", {"control_video": video}), steps=6)  # fmt: skip
    loaded = probe.load(v5)
    texts = encode(loaded.clip, PROMPT, NEGATIVE)
    latent = probe.run("EasyAnimateVideoToVideo", vae=loaded.vae, video=video, **SIZE)[0]
    ours = probe.sample(loaded.model, texts, latent, steps=10, denoise=0.7)
    theirs, _ = core_latents(v5, core.VideoToVideo(video, 0.7), steps=10)
    probe.found["V5 video"] = gap(ours, theirs)
probe.done()
