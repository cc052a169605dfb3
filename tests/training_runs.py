"""Tiny training runs: synthetic clips of 5 frames of 32 x 32, eight tokens each."""

import json
from copy import deepcopy

from easyanimate_core.training.clips import Clips, find_clips
from easyanimate_core.training.config import parse_config
from easyanimate_core.training.data.records import Shape
from easyanimate_core.training.data.synthetic import synthetic_records
from easyanimate_core.training.run import make_strategy, run_training

SHAPE = Shape(frames=5, height=32, width=32)
TINY = {
    "task": "text_to_video",
    "seed": 3,
    "data": {
        "synthetic": {"count": 4, "height": 32, "width": 32, "frames": 5},
        "tokens": [8],
        "frames": [5],
        "tokens_per_batch": 16,
    },
    "optimizer": {"learning_rate": 0.01, "warmup": 0},
    "run": {"steps": 2, "log_every": 1, "tensorboard": False},
    "validation": {"clips": 1, "videos": 1, "steps": 2},
}


def settings(output, checkpoint=None, **changes):
    """A run's plain settings; changes are given as `run__steps=4`."""
    content = deepcopy(TINY)
    content["output"] = str(output)
    content["model"] = {} if checkpoint is None else {"checkpoint": str(checkpoint)}
    for name, value in changes.items():
        *sections, last = name.split("__")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return content


def config(output, checkpoint=None, **changes):
    """The same, checked."""
    return parse_config(settings(output, checkpoint, **changes))


def clips(**changes):
    """The records of tiny synthetic clips."""
    content = {**TINY["data"]["synthetic"], **changes}
    return synthetic_records(config("unused", "unused", data__synthetic=content).data.synthetic)


def strategy_of(wanted, records=None):
    """The strategy of a run with the clips of its config, or with `records`."""
    clips = find_clips(wanted) if records is None else Clips.in_memory(wanted, records)
    return make_strategy(wanted, clips)


def train(output, checkpoint=None, *, restart=False, **changes):
    """Run; returns the files of the result."""
    wanted = config(output, checkpoint, **changes)
    return run_training(wanted, restart=restart, report=lambda _: None)


def losses(output):
    """The loss of every logged step."""
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}
