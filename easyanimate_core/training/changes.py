"""What may change when a run is resumed, and how a change is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import TrainConfig

#: Settings that change nothing of what is learned at a step.
_AROUND = (
    ("run", "steps"),
    ("run", "save_every"),
    ("run", "keep"),
    ("run", "keep_loras"),
    ("run", "log_every"),
    ("run", "tensorboard"),
    ("run", "validate_every"),
    ("data", "cache"),
    ("data", "workers"),
    ("validation",),
    ("sample",),
)
#: Settings that may change: none makes the finished steps worthless.
_FREE = (
    ("run", "precision"),
    ("run", "gradient_checkpointing"),
    ("optimizer", "learning_rate"),
    ("optimizer", "betas"),
    ("optimizer", "weight_decay"),
    ("optimizer", "eps"),
    ("optimizer", "schedule"),
    ("optimizer", "warmup"),
    ("optimizer", "clip"),
    ("data",),
    ("reward",),
)
#: Paths of weights: these are compared by what lies there.
_WEIGHTS = (
    ("model", "checkpoint"),
    ("model", "vae"),
    ("model", "text"),
    ("model", "weights"),
    ("model", "lora", "start"),
    ("vae_objective", "lpips_weights"),
)


@dataclass(frozen=True)
class Changes:
    """Changed settings as sentences without an end: `refused`, `moved` weights, and `said` ones."""

    refused: tuple[str, ...]
    moved: tuple[str, ...]
    said: tuple[str, ...]


def changes_of(before: TrainConfig, now: TrainConfig) -> Changes:
    """How the settings of a run have changed; paths spelt otherwise are the same.

    The output is not compared: the run is where its config lies.
    """
    refused, moved, said = [], [], []
    for place, old, new in _differing(_plain(before), _plain(now), ()):
        sentence = f"{'.'.join(place)} was {old!r} and is {new!r}"
        if _is_in(place, _AROUND):
            continue
        if place in _WEIGHTS:
            moved.append(sentence)
        elif _is_in(place, _FREE):
            said.append(sentence)
        else:
            refused.append(sentence)
    if now.optimizer.schedule != "constant" and before.run.steps != now.run.steps:
        said.append(
            f"the {now.optimizer.schedule} schedule falls to zero at step {now.run.steps}, not at "
            f"{before.run.steps}"
        )
    return Changes(tuple(refused), tuple(moved), tuple(said))


def _is_in(place: tuple[str, ...], sections: Iterable[tuple[str, ...]]) -> bool:
    return any(place[: len(section)] == section for section in sections)


def _plain(config: TrainConfig) -> dict[str, Any]:
    content = config.model_dump(mode="json")
    del content["output"]
    return content


def _differing(
    before: dict[str, Any], now: dict[str, Any], place: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    for name in dict.fromkeys([*before, *now]):
        here, old, new = (*place, name), before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differing(old, new, here)
        elif old != new and not _is_same_file(old, new):
            yield here, old, new


def _is_same_file(old: Any, new: Any) -> bool:
    if not isinstance(old, str) or not isinstance(new, str):
        return False
    try:
        return Path(old).samefile(new)
    except (OSError, ValueError):
        return False
