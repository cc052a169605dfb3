"""The commands that train the small model again: every config is read, and its inputs are made."""

import re
from pathlib import Path

from easyanimate_core.small_model import HEADS
from easyanimate_core.training.config import read_config
from tools.small_model.assemble import RUNS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "small"
#: What `tools.small_model.text` and `tools.small_model.assemble` make, and what a run makes itself.
OTHERWISE = {"text", "cache", *(f"checkpoint-{head.value}" for head in HEADS)}


def test_every_run_starts_from_what_is_there_before_it():
    told = (ROOT / "docs" / "small-model.md").read_text(encoding="utf-8")
    order = re.findall(r"^python .* train configs/small/(\w+)\.yaml$", told, re.MULTILINE)
    assert sorted(order) == sorted(file.stem for file in CONFIGS.glob("*.yaml"))
    there = set(OTHERWISE)
    for name in order:
        file = CONFIGS / f"{name}.yaml"
        assert read_config(file).output == Path("runs/small") / name
        used = set(re.findall(r"runs/small/([\w-]+)", file.read_text(encoding="utf-8"))) - {name}
        assert used <= there, name
        there.add(name)
    assert set(RUNS) <= there
