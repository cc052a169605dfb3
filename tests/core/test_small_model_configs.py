"""The commands that train the small model again: every config is read, and its inputs are made."""

import re
from pathlib import Path

import pytest

from easyanimate_core.models.specs import Version
from easyanimate_core.small_model import NAMES
from easyanimate_core.training.config import read_config
from tests.factories import SMALL_VERSIONS
from tools.small_model.assemble import RUNS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "small"
TOLD = (ROOT / "docs" / "small-model.md").read_text(encoding="utf-8")
#: The runs in the order of the documentation.
ORDER = re.findall(r"^python .* train configs/small/(\w+)\.yaml$", TOLD, re.MULTILINE)
#: What the tools make, and what a run makes itself.
OTHERWISE = {
    "cache",
    *(RUNS[version].text for version in Version),
    *(f"checkpoint-{model.folder_name}" for model in NAMES.values()),
}


def test_every_run_starts_from_what_is_there_before_it():
    assert sorted(ORDER) == sorted(file.stem for file in CONFIGS.glob("*.yaml"))
    there = set(OTHERWISE)
    for name in ORDER:
        file = CONFIGS / f"{name}.yaml"
        assert read_config(file).output == Path("runs/small") / name
        used = set(re.findall(r"runs/small/([\w-]+)", file.read_text(encoding="utf-8"))) - {name}
        assert used <= there, name
        there.add(name)


@pytest.mark.parametrize("version", SMALL_VERSIONS)
def test_the_commands_make_what_is_assembled(version):
    of = RUNS[version]
    assert f"runs/small/{of.text} " in TOLD
    assert {of.vae_folder.parts[0], *of.heads.values()} <= {*ORDER, of.text}
