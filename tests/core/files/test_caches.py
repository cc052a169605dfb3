"""A cache that cannot be written costs speed and a note, never the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from easyanimate_core import small_model
from easyanimate_core.errors import CheckpointError
from easyanimate_core.files import cache_folder, temporary_cache
from easyanimate_core.models.specs import Head
from easyanimate_core.small_model import lies_in_cache, small_checkpoint
from easyanimate_core.training.data.cache import LatentCache

ROOT = Path(__file__).parents[3]
installed = pytest.mark.skipif(
    not small_model.is_installed(), reason="the small model's weights are not there"
)


def generate(output, *, setup="", **variables):
    """`generate` without --model in a process of its own, after `setup` among its own mounts."""
    kept = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HOME": str(output.parent / "home")}
    words = [sys.executable, "-m", "easyanimate_core", "generate", "--steps", "1", "--frames", "5"]
    words += ["--guidance-scale", "1", "--output", str(output)]
    words += ["--prompt", "A large red circle moves left on grey stripes."]
    if setup:
        words = ["unshare", "-m", "bash", "-c", f'{setup} && exec "$@"', "bash", *words]
    values = {name: value for name, value in {**kept, **variables}.items() if value is not None}
    return subprocess.run(words, cwd=ROOT, env=values, capture_output=True, text=True, check=False)


def can_mount():
    tried = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def check_made(done, output):
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "EASYANIMATE_CACHE to another folder" in done.stdout
    assert output.is_file()


@installed
@pytest.mark.skipif(sys.platform == "win32", reason="mounts are Linux's")
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["read-only", "full", "a file"])
def test_a_cache_that_cannot_be_written(tmp_path, fault):
    cache, output = tmp_path / "cache", tmp_path / "a.mp4"
    if fault == "a file":
        cache.write_text("x")
        setup = ""
    elif not can_mount():
        pytest.skip("only root can make a disk that is full or read-only")
    else:
        cache.mkdir()
        how = "-o size=1m" if fault == "full" else "-o ro"
        setup = f"mount -t tmpfs {how} none {cache}"
    done = generate(output, setup=setup, EASYANIMATE_CACHE=str(cache))
    check_made(done, output)
    kept = "note: An embedding was not cached" not in done.stdout
    assert kept == (fault == "full")  # a megabyte is too little for a model and enough for a prompt


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows the home otherwise")
def test_no_home_is_no_fault(monkeypatch):
    import pwd

    def nobody(_):
        raise KeyError("no such user")

    monkeypatch.delenv("EASYANIMATE_CACHE")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert cache_folder("x") == temporary_cache() / "x"
    assert temporary_cache().is_dir()


@installed
def test_no_place_at_all_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EASYANIMATE_CACHE", str(tmp_path / "file"))
    folder = small_checkpoint(Head.CONTROL)
    assert not lies_in_cache(folder)
    assert folder.is_relative_to(temporary_cache())
    monkeypatch.setattr(small_model, "temporary_cache", lambda: tmp_path / "file")
    with pytest.raises(CheckpointError, match="environment variable EASYANIMATE_CACHE"):
        small_checkpoint(Head.CONTROL)


def test_training_goes_on_without_its_cache(tmp_path, caplog):
    import torch

    (tmp_path / "file").touch()
    cache = LatentCache(tmp_path / "file", "encoder")
    for number in range(3):
        cache.write(torch.zeros(3), number)
        assert cache.read(number) is None
    said = [
        record.message for record in caplog.records if "Nothing can be cached" in record.message
    ]
    assert len(said) == 1
    assert "encoded again in every epoch" in said[0]
