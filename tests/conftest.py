"""Tiny checkpoints of every head, made once, and small files to give to them."""

import json
import logging
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import hypothesis
import pytest
import torch

from easyanimate_core.media import write_mp4, write_png
from easyanimate_core.paths.camera import camera_path, to_cameractrl_text
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.tiny.checkpoint import make_tiny
from tests.emulation import start_method
from tests.factories import FRAMES, left_half, pixels

if os.environ.get("EASYANIMATE_EMULATE"):
    from tests.emulation.windows import install_from_environment

    install_from_environment()
start_method.use_from_environment()

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as CPUs: a thread for each
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

# A busy machine is no failure.
hypothesis.settings.register_profile("unit", deadline=None)
hypothesis.settings.load_profile("unit")

TESTS = Path(__file__).parent
#: Where large shared fixtures lie when the project is developed beside them.
SHARED = TESTS.parents[1] / "shared"


@pytest.fixture(autouse=True)
def _own_embeddings(request, monkeypatch, tmp_path_factory):
    """Embeddings kept by an earlier run would hide a change of what makes them.

    The tests with ComfyUI use the folder's other contents and keep no embeddings.
    """
    if not request.path.is_relative_to(TESTS / "comfy"):
        # Unique without a look at the thousands of folders that are there.
        cache = tmp_path_factory.getbasetemp() / "caches" / uuid.uuid4().hex
        monkeypatch.setenv("EASYANIMATE_CACHE", str(cache))


@pytest.fixture(autouse=True)
def _inference(request):
    """What does not train is tested without autograd, as generation runs."""
    trains = request.path.parent == TESTS / "training"
    with torch.inference_mode(mode=not trains):
        yield


@pytest.fixture(autouse=True)
def _levels_of_loggers():
    """The command line sets them for its process."""
    names = ("diffusers", "transformers", "easyanimate_core")
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """`checkpoint(version, head)`: a tiny folder that no test may change."""
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(version, head, *, reference=True, seed=0):
        path = root / f"{version.value}-{head.value}-{reference}-{seed}"
        if not path.exists():
            make_tiny(path, version=version, head=head, reference=reference, seed=seed)
        return path

    return folder


@pytest.fixture(scope="session")
def pipeline(checkpoint):
    """`pipeline(version, head)`: kept over the tests, because a run leaves nothing on it."""
    loaded = {}

    def load(version, head, *, reference=True):
        key = (version, head, reference)
        if key not in loaded:
            loaded[key] = Pipeline.load(checkpoint(version, head, reference=reference))
        return loaded[key]

    return load


@pytest.fixture
def checkpoint_copy(checkpoint, tmp_path):
    """A copy that a test may damage."""

    def copy(version, head, name="copy"):
        return shutil.copytree(checkpoint(version, head), tmp_path / name)

    return copy


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Small sources: pictures, clips, masks, camera poses and tracks, by name."""
    root = tmp_path_factory.mktemp("sources")
    write_png(root / "picture.png", pixels(1)[0])
    write_png(root / "other.png", pixels(2)[0])
    write_png(root / "mask.png", left_half()[0, ..., None].expand(-1, -1, 3))
    write_png(root / "black.png", left_half()[0, ..., None].expand(-1, -1, 3) * 0)
    write_mp4(root / "clip.mp4", pixels(3, frames=9), fps=8)
    write_mp4(root / "fast.mp4", pixels(4, frames=20), fps=24)
    (root / "poses.txt").write_text(to_cameractrl_text(camera_path(["Pan Up"], frames=FRAMES)))
    track = [{"x": 10 + 10 * i, "y": 20} for i in range(FRAMES)]
    (root / "tracks.json").write_text(json.dumps(track))
    (root / "broken.mp4").write_bytes(b"not a video at all" * 100)
    return root


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=3000k", "tmpfs", str(disk)]
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield disk
    subprocess.run([str(umount), str(disk)], check=True)
