"""Clips of the synthetic world as records."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from ...errors import InputError
from ...shapes.scenes.caption import caption
from ...shapes.scenes.render import camera_of, control_video, render
from ...shapes.scenes.scene import Scene, make_scene
from ..config import SyntheticConfig
from .records import Record, Sample, Shape, generator_of


def synthetic_records(config: SyntheticConfig, *, seed: int | None = None) -> list[Record]:
    """`config.count` scenes; a `seed` other than the config's gives held-out ones.

    Scenes with a shape listed in `config.repeat` occur several times.
    """
    seed = config.seed if seed is None else seed
    scenes = [_scene(config, seed, index) for index in range(config.count)]
    return [
        _record(config, scene)
        for scene in scenes
        for _ in range(config.repeat.get(scene.main.shape, 1))
    ]


def _scene(config: SyntheticConfig, seed: int, index: int) -> Scene:
    return make_scene(
        seed,
        index,
        kind=config.kind,
        look=_one_of(config.looks, seed, index, "look"),
        height=config.height,
        width=config.width,
        frames=config.frames,
    )


def _one_of(values: Sequence[str], seed: int, index: int, what: str) -> str:
    """The value for scene `index`, drawn uniformly."""
    return values[int(generator_of(seed, index, what).integers(len(values)))]


def _record(config: SyntheticConfig, scene: Scene) -> Record:
    control = _one_of(config.control, scene.seed, scene.index, "control")
    return Record(
        identity=f"synthetic {scene} {control}",
        captions=tuple(caption(scene, language) for language in config.languages),
        frames=scene.frames,
        height=scene.height,
        width=scene.width,
        load=partial(_load, scene, control),
    )


def _load(scene: Scene, control: str, shape: Shape, start: int = 0) -> Sample:
    whole = (scene.frames, scene.height, scene.width)
    if shape[1:] != whole[1:] or start + shape.frames > scene.frames:
        raise InputError(
            f"A synthetic clip has {scene.frames} frames of {scene.height} x {scene.width}; "
            f"{shape.frames} of {shape.height} x {shape.width} were requested. Set data.tokens and "
            "data.frames to its size; with fewer frames, parts of it are used."
        )
    rendered, part = render(scene), slice(start, start + shape.frames)
    return Sample(
        frames=torch.from_numpy(rendered.frames[part]).float() / 255,
        control=torch.from_numpy(control_video(scene, control)[part]).float(),
        camera=camera_of(scene).part(start, shape.frames),
        masks=torch.from_numpy(rendered.masks[part]).float(),
    )
