"""Too little memory, and a disk that is full, for real: one line, and what was saved is kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from easyanimate_core.errors import MediaError
from easyanimate_core.models.specs import Head
from easyanimate_core.training.run import run_training
from tests.factories import V5_1
from tests.training_runs import config

ROOT = Path(__file__).parents[2]
LORA = {"model__lora": {"rank": 2, "alpha": 2}}
LIMITED = """
import resource, sys
from easyanimate_core.errors import InputError
from easyanimate_core.training.run import run_training
from tests.training_runs import config

def limit(stage, done, total):
    if (stage, done) == ("train", 2):  # a clip takes 13 MB
        taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + 4_000_000, -1))

wanted = config(
    sys.argv[1], sys.argv[2], run__steps=9, run__save_every=1,
    data__synthetic={"count": 4, "height": 256, "width": 256, "frames": 17},
    data__tokens=[1280], data__frames=[17], data__tokens_per_batch=1280,
    model__lora={"rank": 2, "alpha": 2},
)
try:
    run_training(wanted, progress=limit, report=lambda _: None)
except InputError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited otherwise")
def test_a_lack_of_memory_is_one_line(checkpoint, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "run"), str(checkpoint(V5_1, Head.T2V))],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    (said,) = done.stdout.splitlines()
    assert said.startswith("The memory is not enough for this run (")
    assert "choose smaller data.tokens (1280)" in said
    assert said.endswith("The run resumes after step 2.")


def filling(disk, left):
    """A progress that leaves little of a disk after the third step."""

    def fill(stage, done, _total):
        if (stage, done) == ("train", 3):
            free = os.statvfs(disk)
            (disk / "other").write_bytes(b"x" * (free.f_bavail * free.f_bsize - left))

    return fill


@pytest.mark.parametrize("left", [20_000, 140_000])  # in the state, in the LoRA after it
def test_a_full_disk_keeps_the_state_before(checkpoint, tmp_path, small_disk, left):
    changes = {
        "run__steps": 6,
        "run__save_every": 2,
        "data__cache": str(tmp_path / "cache"),
        **LORA,
    }
    wanted = config(small_disk / "run", checkpoint(V5_1, Head.T2V), **changes)
    with pytest.raises(MediaError, match=r"does not fit: No space left on device") as error:
        run_training(wanted, progress=filling(small_disk, left), report=lambda _: None)
    assert "\n" not in str(error.value)
    resumes = 2 if "step-00000004 does not" in str(error.value) else 4
    assert (left < 50_000) == (resumes == 2)
    states = [path.name for path in (small_disk / "run" / "checkpoints").iterdir()]
    assert f"step-{resumes:08d}" in states
    assert all("step-" in name and not name.startswith(".") for name in states)
    (small_disk / "other").unlink()
    said = []
    run_training(wanted, report=said.append)
    assert any(line.startswith(f"Resuming after step {resumes}.") for line in said)


def test_a_full_cache_costs_time_not_the_run(checkpoint, tmp_path, small_disk):
    changes = {
        "run__steps": 8, "data__synthetic__count": 40, "data__cache": str(small_disk), **LORA,
    }  # fmt: skip
    wanted = config(tmp_path / "run", checkpoint(V5_1, Head.T2V), **changes)
    (result,) = run_training(wanted, progress=filling(small_disk, 9000), report=lambda _: None)
    assert result.is_file()
