"""Connects the nodes that make control videos and camera paths."""

from __future__ import annotations

from easyanimate_core.settings import DEFAULT_SIZE

from .builders import END, REFERENCE, START, Columns, below_prompt, beside_prompt
from .canvas import Group, Node, Output
from .drafts import LENGTH, SHOWN, Clip, Draft
from .words import Said

ANY_CLIP = Said("Video: any clip", "视频：任意视频")
DRAWN = Said("The control video", "控制视频")
PATH = Said("The path: green is the start, red the end", "路径：绿色为起点，红色为终点")
FIRST, SECOND = Said("First: ", "第一个："), Said("Second: ", "第二个：")
VIDEO = Said("control video", "控制视频")
#: Length of two joined moves, which share a frame and make 49.
HALF = 25
_KEYFRAMES = """\
# frame, x, y, z, yaw, pitch, roll
0, 0, 0, 0, 0, 0, 0
20, 0.6, -0.2, 0.8, -15, 0, 0
36, 1.2, -0.4, 1.4, -30, -4, 0
48, 1.5, -0.4, 1.8, -40, -4, 3
"""


def control_of_clip(draft: Draft, *, kind: str) -> Columns:
    """Control weights and any clip; `kind` is the name of a detector."""
    before = [draft.load(), draft.prompt()]
    clip = draft.video(ANY_CLIP)
    drawn = _drawn(draft, clip, kind)
    shown = draft.show("EasyAnimateControl", control_video=drawn[0]["control_video"], **clip.rate)
    group = Group(SHOWN, [clip.nodes, drawn, [shown]])
    return below_prompt(draft, before, group)


def two_controls(draft: Draft) -> Columns:
    """Control weights and two detectors on one clip; a mask sets where the second applies."""
    before = [draft.load(), draft.prompt()]
    clip = draft.video(ANY_CLIP)
    mask = draft.picture(
        Said("Mask: paint where the second applies", "遮罩：画出第二个起作用的地方")
    )
    edges = _drawn(draft, clip, "canny", FIRST)
    poses = _drawn(draft, clip, "openpose", SECOND)
    first, second = (
        draft.show(
            "EasyAnimateControl",
            title=title,
            control_video=drawn[0]["control_video"],
            **extra,
            **clip.rate,
        )
        for title, drawn, extra in (
            (Said("First control", "第一个控制"), edges, {}),
            (Said("Second control", "第二个控制"), poses, {"mask": mask["MASK"]}),
        )
    )
    group = Group(SHOWN, [[mask, *clip.nodes], [*edges, first], [*poses, second]])
    return beside_prompt(draft, before, group)


def pinned_control(draft: Draft) -> Columns:
    """Control weights, any clip, and images for the first and last frame."""
    before = [draft.load(), draft.prompt()]
    clip = draft.video(ANY_CLIP)
    start, end = draft.picture(START), draft.picture(END)
    drawn = _drawn(draft, clip, "canny")
    shown = draft.show("EasyAnimateControl", control_video=drawn[0]["control_video"], **clip.rate)
    pinned = draft.add(
        "EasyAnimatePinFrames",
        vae=draft.vae,
        latent=draft.latent,
        start_image=start["IMAGE"],
        end_image=end["IMAGE"],
    )
    draft.latent = pinned["latent"]
    detector, preview = drawn
    group = Group(SHOWN, [[preview, *clip.nodes], [start, end], [detector, shown, pinned]])
    return beside_prompt(draft, before, group)


def camera_moves(draft: Draft) -> Columns:
    """Control-Camera weights; two moves one after the other, combined with a third."""
    before = [draft.load(), draft.prompt()]
    moves: list[Node] = []
    for title, given in (
        (Said("First", "首先"), {"move": "Dolly In", "length": HALF, "easing": "ease in-out"}),
        (Said("Then", "然后"), {"move": "Orbit Left", "length": HALF, "easing": "ease in-out"}),
        (
            Said("Combined with both", "与两者同时"),
            {"move": "Tilt Up", "speed": 0.3, "mode": "combine"},
        ),
    ):
        path = {"camera_path": moves[-1]["camera_path"]} if moves else {}
        moves.append(draft.add("EasyAnimateCameraMove", title=title, **given, **path))
    return _camera_of(draft, before, moves)


def camera_keyframes(draft: Draft) -> Columns:
    """Control-Camera weights; the camera moves through keyframes that the user writes."""
    before = [draft.load(), draft.prompt()]
    return _camera_of(
        draft, before, [draft.add("EasyAnimateCameraKeyframes", keyframes=_KEYFRAMES)]
    )


def camera_file(draft: Draft) -> Columns:
    """Control-Camera weights and a CameraCtrl file, with an example."""
    before = [draft.load(), draft.prompt()]
    return _camera_of(draft, before, [draft.add("EasyAnimateCameraFile", poses=example_poses())])


def example_poses() -> str:
    """The text of a CameraCtrl file."""
    from easyanimate_core.paths.camera import to_cameractrl_text
    from easyanimate_core.paths.moves import preset_path

    moves = ("Orbit Right", "Dolly In")
    return to_cameractrl_text(preset_path(moves, frames=LENGTH, easing="ease in-out"))


def _drawn(draft: Draft, clip: Clip, kind: str, which: Said | None = None) -> list[Node]:
    """A detector and a preview of its output."""
    title = which + VIDEO if which else None
    height, width = DEFAULT_SIZE  # that of EasyAnimate Control
    detector = draft.add(
        "EasyAnimatePreprocess",
        title=title,
        image=clip.images,
        kind=kind,
        width=width,
        height=height,
    )
    preview = _preview(draft, title or DRAWN, detector["control_video"])
    return [detector, preview]


def _camera_of(draft: Draft, before: list[Group], path: list[Node]) -> Columns:
    """The nodes after those of a camera path."""
    preview = _preview(draft, PATH, path[-1]["preview"])
    reference = draft.picture(REFERENCE)
    shown = draft.show(
        "EasyAnimateCamera",
        reference_image=reference["IMAGE"],
        camera_path=path[-1]["camera_path"],
    )
    group = Group(SHOWN, [path, [preview, reference, shown]])
    return beside_prompt(draft, before, group)


def _preview(draft: Draft, title: Said, images: Output) -> Node:
    return draft.add("PreviewImage", title=title, images=images)
