"""Camera paths and tracks through the pack's nodes: equalities, shapes of pictures, refusals."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent))
from probing import Probe, clip_of, encode, gap

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
SIZE = {"width": 96, "height": 64, "length": 9}
SPLINE = (
    '[{"points": [{"x": 8, "y": 8}, {"x": 40, "y": 50, "t": 0.5, "visible": false}, '
    '{"x": 88, "y": 8, "t": 0.75}], "spline": true, "size": 2.0}]'
)
PLAIN = "[{'x': 10, 'y': 10}, {'x': 80, 'y': 40}]"


def shown(conditioning):
    """The channels that a conditioning node hands to the denoiser."""
    return conditioning[0][1]["easyanimate_shown"].channels


def move(name, **inputs):
    return probe.run("EasyAnimateCameraMove", **{"move": name, "length": 9, **inputs})[0]


with torch.inference_mode():
    loaded = probe.load("EasyAnimateV5.1-7b-zh-Control-Camera")
    texts = encode(loaded.clip, "a beach", "")
    common = {"positive": texts[0], "negative": texts[1], "vae": loaded.vae, **SIZE}

    def camera(**inputs):
        return probe.run("EasyAnimateCamera", **common, **inputs)

    found = probe.found
    named = camera(move="Pan Left")
    path = move("Pan Left", original_timing=True)
    found["same as the named move"] = gap(shown(camera(camera_path=path)[0]), shown(named[0]))
    exact = camera(camera_path=move("Pan Left"))
    timed = camera(move="Pan Left", original_timing=False)
    found["exact timing"] = gap(shown(exact[0]), shown(timed[0]))
    found["timings differ"] = gap(shown(exact[0]), shown(named[0]))
    found["camera preview"] = list(named[4].shape)
    found["preview follows"] = gap(named[4], exact[4])
    found["outputs"] = [type(value).__name__ for value in named]

    half = move("Pan Left", length=5, speed=0.5)
    both = move("Pan Left", length=5, speed=0.5, camera_path=half)
    found["joined"] = gap(shown(camera(camera_path=both)[0]), shown(exact[0]))
    at_once = move("Static", mode="combine", camera_path=move("Orbit Left"))
    found["combined"] = gap(at_once.world_to_camera, move("Orbit Left").world_to_camera)

    file = probe.run("EasyAnimateCameraFile", camera_path=move("Orbit Up"))
    again = probe.run("EasyAnimateCameraFile", poses=file[2])
    found["file"] = gap(again[0].world_to_camera, file[0].world_to_camera)
    pasted = camera(poses=file[2])
    found["poses"] = gap(shown(pasted[0]), shown(camera(camera_path=file[0])[0]))
    keyframes = probe.run("EasyAnimateCameraKeyframes")
    found["keyframes"] = [len(keyframes[0]), *keyframes[1].shape]

    found["refused"] = {
        "both": probe.error(lambda: camera(poses=file[2], camera_path=path)),
        "speed": probe.error(lambda: camera(camera_path=path, speed=2.0)),
        "timing": probe.error(lambda: camera(camera_path=path, original_timing=False)),
        "short": probe.error(lambda: camera(camera_path=half)),
        "lengths": probe.error(lambda: move("Static", mode="combine", camera_path=half)),
        "nothing": probe.error(lambda: probe.run("EasyAnimateCameraFile")),
        "two": probe.error(
            lambda: probe.run("EasyAnimateCameraFile", poses=file[2], camera_path=path)
        ),
        "keyframe": probe.error(
            lambda: probe.run("EasyAnimateCameraKeyframes", keyframes="99 0 0 0", length=9)
        ),
    }

    def trajectory(tracks, **inputs):
        return probe.run("EasyAnimateTrajectory", **common, tracks=tracks, **inputs)

    spline = trajectory(SPLINE)
    frames = spline[3].amax(dim=(1, 2, 3))
    found["visible"] = [bool(value > 0) for value in frames]
    found["track previews"] = [list(spline[3].shape), list(spline[5].shape)]
    found["track outputs"] = [type(value).__name__ for value in spline]
    over = trajectory(PLAIN, reference_image=clip_of(1, 64, 96, 1))[5]
    found["over the reference"] = gap(over, trajectory(PLAIN)[5])
    found["a bad time"] = probe.error(
        lambda: trajectory('[{"x": 1, "y": 1, "t": 0.5}, {"x": 2, "y": 2, "t": 0.5}]')
    )
probe.done()
