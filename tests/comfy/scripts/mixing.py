"""Controls one after the other, pinned frames and strict mode."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent))
from probing import Probe, clip_of, encode, gap, ksampler

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
KEY = probe.module("nodes.bridge.shown").KEY


def control(texts, video, **more):
    """Outputs of a Control node after `texts`."""
    return probe.run(
        "EasyAnimateControl",
        positive=texts[0],
        negative=texts[1],
        control_video=video,
        **SIZE,
        **more,
    )


def channels(conditioning):
    """What every entry shows."""
    return [entry[1][KEY].channels for entry in conditioning]


with torch.inference_mode():
    loaded = probe.load("EasyAnimateV5.1-7b-zh-Control")
    texts = encode(loaded.clip, "a fox", "bad")
    SIZE = {"width": 64, "height": 64, "length": 9, "vae": loaded.vae}
    video, other = clip_of(9, 64, 64, 1), clip_of(9, 64, 64, 2)
    picture, last = clip_of(1, 64, 64, 5), clip_of(1, 64, 64, 6)

    one, two = control(texts, video, strength=0.5), control(texts, other, strength=0.5)
    late = control(one, other, strength=0.5, start_percent=0.5)
    found["parts"] = [[e[1]["start_percent"], e[1]["end_percent"]] for e in late[0]]
    early, both = channels(late[0])
    found["early"] = gap(early, channels(one[0])[0])
    found["sum"] = gap(both, channels(one[0])[0] + channels(two[0])[0])
    alone = control(texts, video, end_percent=0.5)
    shown, hidden = channels(alone[0])
    found["hidden"] = [hidden.abs().max().item(), shown.abs().max().item()]

    mask = torch.zeros(1, 64, 64)
    mask[..., 32:] = 1
    masked = channels(control(one, other, strength=0.5, mask=mask)[0])[0]
    found["left"] = gap(masked[..., :3], channels(one[0])[0][..., :3])
    found["right"] = gap(masked[..., 5:], channels(two[0])[0][..., 5:])

    referenced = control(control(texts, video, reference_image=picture), other, start_percent=0.3)
    found["reference kept"] = [e[1][KEY].reference is not None for e in referenced[0]]
    found["error two references"] = probe.error(
        lambda: control(referenced, video, reference_image=picture)
    )
    wide = {**SIZE, "width": 96}
    found["error sizes"] = probe.error(
        lambda: probe.run(
            "EasyAnimateControl", positive=one[0], negative=one[1], control_video=video, **wide
        )
    )
    image = probe.run(
        "EasyAnimateImageToVideo", positive=texts[0], negative=texts[1], start_image=picture, **SIZE
    )
    found["error kinds"] = probe.error(lambda: control(image, video))
    found["error strict"] = probe.error(lambda: control(texts, clip_of(9, 64, 96, 1), strict=True))
    found["strict fits"] = control(texts, video, strict=True)[3]

    pinned = probe.run(
        "EasyAnimatePinFrames", vae=loaded.vae, latent=one[2], start_image=picture, end_image=last
    )[0]
    found["pin start"] = gap(pinned["samples"][:, :, :1], loaded.vae.encode(picture))
    for name, out in (
        ("own", probe.sample(loaded.model, one[:2], pinned)),
        ("KSampler", ksampler(loaded.model, one[:2], pinned)),
    ):
        gaps = [gap(out[:, :, frame], pinned["samples"][:, :, frame]) for frame in (0, 1, -1)]
        found[f"pinned {name}"] = gaps
probe.done()
