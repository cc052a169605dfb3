"""What the Comfy Registry's own tool says of the pack, and what it packs."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pytest

from tests.nodes.test_package import ROOT, listed, needs_weights, shipped

#: Bytes of the zip; the README says about how large it is.
LARGEST = 39_000_000
#: The kind of a file in a zip's attributes, as opposed to a link.
REGULAR = 0o10


def comfy(folder, *words):
    """Run comfy-cli in a folder, with a home of its own and without telemetry."""
    if find_spec("comfy_cli") is None:
        pytest.skip("comfy-cli is not installed here: pip install -r requirements-dev.txt")
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    command = [str(Path(sys.executable).with_name("comfy")), "--skip-prompt", "node", *words]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "DO_NOT_TRACK": "1", "HOME": str(home), "NO_COLOR": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )


def cloned(folder):
    """The files of the repository, in a git repository of their own."""
    for name in listed("--exclude-standard"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    for words in (("init", "-q"), ("add", "-A")):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def pack(folder):
    """The zip that the registry publishes, made in `folder`, which is created."""
    done = comfy(cloned(folder), "pack")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "node.zip"


def unpack(archive, folder):
    """Unpack it as ComfyUI-Manager does."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("registry") / "clone")


@pytest.mark.slow
def test_the_registrys_checks_pass(tmp_path):
    done = comfy(cloned(tmp_path / "clone"), "validate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All validation checks passed" in done.stderr + done.stdout


@pytest.mark.slow
def test_the_checks_can_fail(tmp_path):
    clone = cloned(tmp_path / "clone")
    (clone / "nodes" / "evil.py").write_text("def f(text):\n    return eval(text)\n")
    done = comfy(clone, "validate")
    assert "S307" in done.stdout + done.stderr
    assert "All validation checks passed" not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_zip_holds_what_is_published(archive):
    with zipfile.ZipFile(archive) as opened:
        names = {PurePosixPath(name) for name in opened.namelist() if not name.endswith("/")}
        assert len(names) == len(opened.namelist())
        assert {entry.external_attr >> 28 for entry in opened.infolist()} <= {0, REGULAR}
        assert opened.testzip() is None
        for name in names:
            assert opened.read(str(name)) == (ROOT / name).read_bytes()
    assert names == shipped()
    assert not any(name.is_absolute() or ".." in name.parts for name in names)


@needs_weights
@pytest.mark.slow
def test_the_size_of_the_zip(archive):
    assert archive.stat().st_size < LARGEST


@pytest.mark.slow
def test_the_zip_alone_explains_itself(archive, tmp_path):
    """It runs where the repository never was: its command line, and its templates are whole."""
    folder = unpack(archive, tmp_path / "custom_nodes" / "easyanimate-nodes")
    done = subprocess.run(
        [sys.executable, "install.py"],
        cwd=folder,
        env={key: text for key, text in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0
    assert "could not be checked" not in done.stdout
    workflows = list((folder / "workflows").glob("*.json"))
    assert workflows
    for file in workflows:
        json.loads(file.read_text(encoding="utf-8"))
