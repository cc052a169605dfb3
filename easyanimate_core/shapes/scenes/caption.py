"""Captions of scenes: one sentence of a fixed grammar, with one wording per meaning."""

from __future__ import annotations

from ...errors import InputError
from .scene import Body, Ground, Scene

LANGUAGES = ("en", "zh")

_MOTIONS = {
    "left": "moves left",
    "right": "moves right",
    "up": "moves up",
    "down": "moves down",
    "grow": "grows",
    "shrink": "shrinks",
    "turn": "turns clockwise",
}

_CAMERAS = {
    "Pan Left": "The camera pans left over",
    "Pan Right": "The camera pans right over",
    "Pan Up": "The camera pans up over",
    "Pan Down": "The camera pans down over",
    "Zoom In": "The camera zooms in on",
    "Zoom Out": "The camera zooms out from",
}

_SHAPES_ZH = {"circle": "圆形", "square": "方块", "triangle": "三角形", "cross": "十字"}
_SIZES_ZH = {"small": "小", "large": "大"}
_COLOURS_ZH = {
    "red": "红色",
    "green": "绿色",
    "blue": "蓝色",
    "yellow": "黄色",
    "purple": "紫色",
    "white": "白色",
    "grey": "灰色",
    "brown": "棕色",
    "teal": "青色",
}
_TEXTURES_ZH = {"plain": "平面", "stripes": "条纹", "checks": "格子", "clouds": "云纹"}

_MOTIONS_ZH = {
    "left": "向左移动",
    "right": "向右移动",
    "up": "向上移动",
    "down": "向下移动",
    "grow": "变大",
    "shrink": "变小",
    "turn": "顺时针转动",
}

_CAMERAS_ZH = {
    "Pan Left": "镜头向左平移",
    "Pan Right": "镜头向右平移",
    "Pan Up": "镜头向上平移",
    "Pan Down": "镜头向下平移",
    "Zoom In": "镜头推近",
    "Zoom Out": "镜头拉远",
}


def caption(scene: Scene, language: str = "en") -> str:
    """A sentence that describes all of `scene` but its numbers, in English or Chinese ("zh").

    Directions of bodies are in screen space; those of the camera are its own, so that its content
    moves the other way.
    """
    if language not in LANGUAGES:
        raise InputError(
            f"The caption's language is {language!r}; it must be one of {', '.join(LANGUAGES)}."
        )
    return _english(scene) if language == "en" else _chinese(scene)


def _english(scene: Scene) -> str:
    main, ground = _body(scene.main), _ground(scene.ground)
    if scene.camera != "Static":
        return f"{_CAMERAS[scene.camera]} {main} on {ground}."
    hidden = "".join(f" behind {_body(body)}" for body in scene.bodies[1:])
    return f"A{main[1:]} {_MOTIONS[scene.motion]}{hidden} on {ground}."


def _body(body: Body) -> str:
    return f"a {body.size} {body.colour} {body.shape}"


def _ground(ground: Ground) -> str:
    if ground.texture == "plain":
        return f"plain {ground.tint}"
    return f"{ground.tint} {ground.texture}"


def _chinese(scene: Scene) -> str:
    main, ground = _body_zh(scene.main), _ground_zh(scene.ground)
    if scene.camera != "Static":
        return f"{_CAMERAS_ZH[scene.camera]}，画面中是{ground}上的{main}。"
    hidden = "".join(f"从{_body_zh(body)}后面" for body in scene.bodies[1:])
    return f"{main}在{ground}上{hidden}{_MOTIONS_ZH[scene.motion]}。"


def _body_zh(body: Body) -> str:
    return f"一个{_COLOURS_ZH[body.colour]}的{_SIZES_ZH[body.size]}{_SHAPES_ZH[body.shape]}"


def _ground_zh(ground: Ground) -> str:
    return f"{_COLOURS_ZH[ground.tint]}{_TEXTURES_ZH[ground.texture]}"
