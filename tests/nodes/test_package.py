"""What the Comfy Registry and ComfyUI-Manager read, and what they install."""

import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from easyanimate_core import small_model
from easyanimate_core.doctor.recordings import RECORDINGS
from easyanimate_core.version import __version__
from tests.factories import V5_1, needs_small_model
from tools.small_model.assemble import MOST_BYTES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
#: What an installed pack is made of. A new entry of the root has to be put here or in .comfyignore.
SHIPPED = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "README_zh-CN.md",
    "SECURITY.md",
    "__init__.py",
    "configs",
    "easyanimate.py",
    "easyanimate_core",
    "install.py",
    "locales",
    "nodes",
    "pyproject.toml",
    "requirements-training.txt",
    "requirements.txt",
    "web",
    "workflows",
}
OPTIONAL = {"subgraphs"}
DATA = {".avi", ".gguf", ".mp4", ".npy", ".npz", ".pt", ".pth", ".safetensors", ".webm", ".zip"}
WEIGHTS = PurePosixPath(small_model.FOLDER.relative_to(ROOT).as_posix())
RECORDED = PurePosixPath(RECORDINGS.relative_to(ROOT).as_posix())

needs_weights = needs_small_model(V5_1)


def weight_files():
    return [path for path in small_model.FOLDER.rglob("*") if path.is_file()]


def project():
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def listed(*options):
    """Files that git tracks or would track, those of .comfyignore alone with the right options."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "-c", "-o", *options]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a git clone: which files belong to the project is not known")
    names = done.stdout.rstrip("\0").split("\0")
    return {PurePosixPath(name) for name in names if (ROOT / name).is_file()}


def shipped():
    """What comfy-cli packs: the files of git without those that .comfyignore matches."""
    return listed("--exclude-standard") - listed("-i", "--exclude-from=.comfyignore")


def publish(folder):
    """Copy what comfy-cli packs into `folder`, which is created."""
    for name in shipped():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder


def test_metadata_of_the_registry():
    described, comfy = project()["project"], project()["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", described["name"])
    assert "comfyui" not in described["name"]
    assert described["version"] == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", described["version"])
    assert (ROOT / described["license"]["file"]).is_file()
    assert (ROOT / described["readme"]).is_file()
    for address in described["urls"].values():
        assert address.startswith(f"https://github.com/{comfy['PublisherId']}/ComfyUI-EasyAnimate")
    assert "Repository" in described["urls"]
    assert comfy["requires-comfyui"] == ">=0.8.0"
    for picture in ("Icon", "banner_url"):
        address = comfy.get(picture, "")
        assert address.startswith("https://") or address == ""


@pytest.mark.parametrize(
    "file", ["requirements.txt", "requirements-training.txt", "requirements-app.txt"]
)
def test_requirements_can_be_installed_line_by_line(file):
    """ComfyUI-Manager gives every line to pip, and must not replace what ComfyUI brings."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    for line in filter(None, (line.split("#")[0].strip() for line in lines)):
        name = re.match(r"[A-Za-z0-9._-]+", line)
        assert name, f"{line}: options such as -r are not known there"
        assert name[0] not in {"torch", "torchvision", "torchaudio", "numpy", "transformers"}
        assert "==" not in line


def test_extras_are_their_requirement_files():
    extras = project()["project"]["optional-dependencies"]
    assert set(extras) == {"app", "training"}
    for name, declared in extras.items():
        lines = (ROOT / f"requirements-{name}.txt").read_text(encoding="utf-8").splitlines()
        assert declared == [line for line in lines if line and not line.startswith("#")]


def test_what_is_installed():
    files = shipped()
    assert {file.parts[0] for file in files} - OPTIONAL == SHIPPED
    whole = {file for file in listed("--exclude-standard") if file.parts[0] in SHIPPED}
    left_out = {file for file in whole - files if file.suffix != ".py"}
    of_shapes = {
        file
        for file in whole
        if file.parts[0] == "configs" and "synthetic:" in (ROOT / file).read_text(encoding="utf-8")
    }
    assert left_out == of_shapes, "a pattern of .comfyignore reaches into a folder that is needed"


def test_no_test_data_is_installed():
    files = {file for file in shipped() if not {WEIGHTS, RECORDED} & {*file.parents}}
    found = {file for file in files if file.suffix in DATA or "tests" in file.parts}
    assert found == set()
    large = {file for file in files if (ROOT / file).stat().st_size > 400_000}
    assert large == set()


@needs_weights
def test_the_small_model_is_installed_with_the_pack():
    files = {file for file in shipped() if WEIGHTS in file.parents}
    assert files == {PurePosixPath(path.relative_to(ROOT).as_posix()) for path in weight_files()}
    assert sum((ROOT / file).stat().st_size for file in files) <= MOST_BYTES


def test_the_doctors_recordings_are_installed_with_the_pack():
    files = {file for file in shipped() if RECORDED in file.parents}
    there = {path for path in RECORDINGS.rglob("*") if path.is_file()}
    assert files == {PurePosixPath(path.relative_to(ROOT).as_posix()) for path in there}
    assert sum((ROOT / file).stat().st_size for file in files) < 3_500_000


@needs_weights
def test_the_small_model_is_installed_by_pip(tmp_path):
    """What setuptools itself makes of pyproject.toml."""
    built = tmp_path / "lib"
    code = (
        "import sys; from setuptools import setup\n"
        "setup(script_name='setup.py', script_args=sys.argv[1:])"
    )
    steps = ["egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", built]
    subprocess.run([sys.executable, "-c", code, *steps], cwd=ROOT, capture_output=True, check=True)
    for file in (*weight_files(), *(path for path in RECORDINGS.rglob("*") if path.is_file())):
        copy = built / file.relative_to(ROOT)
        assert copy.stat().st_size == file.stat().st_size


def test_the_pack_imports_nothing_that_is_left_out():
    names = "benchmarks|dev|tests|tools"
    left_out = re.compile(rf"^\s*(from|import) \.*({names})\b", re.MULTILINE)
    for file in shipped():
        if file.suffix == ".py":
            assert not left_out.search((ROOT / file).read_text(encoding="utf-8")), file
