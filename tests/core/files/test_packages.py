"""Packages that only some parts need: who says that one is missing, and with which command."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from easyanimate_core.errors import InputError
from easyanimate_core.files import packages
from easyanimate_core.files.commands import joined
from easyanimate_core.preprocess import KINDS, Detection, preprocess
from easyanimate_core.weights.stored import quantize

ROOT = Path(__file__).parents[3]
FRAMES = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))


def without(monkeypatch, *modules):
    """As where the packages were never installed."""
    release = packages._release
    gone = {name for module in modules for name in packages._PACKAGES[module]}
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(packages, "_release", lambda n: None if n in gone else release(n))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", ["cv2", "controlnet_aux"])
def test_a_kind_says_which_of_its_packages_is_missing(monkeypatch, kind, module):
    without(monkeypatch, module)
    if module not in KINDS[kind].modules:
        packages.require(kind, KINDS[kind].modules)
        return
    with pytest.raises(InputError) as caught:
        preprocess(FRAMES, Detection(kind))
    name = packages._PACKAGES[module][0]
    assert f"{KINDS[kind].display_name} needs {name}, which is not installed." in str(caught.value)
    assert str(caught.value).endswith(f"{sys.executable} -m pip install --no-deps {name}")


def test_all_that_is_missing_is_added_by_one_command(monkeypatch):
    without(monkeypatch, "cv2", "controlnet_aux", "skimage")
    with pytest.raises(InputError) as caught:
        preprocess(FRAMES, Detection("openpose"))
    assert "needs opencv-python-headless and controlnet-aux and scikit-image" in str(caught.value)
    for name in ("controlnet-aux", "opencv-python-headless", "scikit-image", "lazy-loader"):
        assert name in str(caught.value).partition("--no-deps")[2].split()


def test_opencv_is_one_for_the_numpy_that_is_there(monkeypatch):
    without(monkeypatch, "cv2")
    release = packages._release
    monkeypatch.setattr(packages, "_release", lambda n: "1.26.4" if n == "numpy" else release(n))
    assert packages.command_for(["cv2"]).endswith(
        joined("--no-deps", "opencv-python-headless<4.12")
    )


def test_a_module_that_was_removed_with_another_package_comes_back(monkeypatch):
    """OpenCV's packages share their files: pip counts one as installed that has none left."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(packages, "_release", lambda _: "5.0.0.93")
    with pytest.raises(InputError, match=r"--no-deps --force-reinstall opencv-python-headless$"):
        preprocess(FRAMES, Detection("canny"))


def test_another_opencv_does(monkeypatch):
    """What counts is the module, whichever of the four packages brought it."""
    monkeypatch.setattr(packages, "_release", lambda _: None)
    assert preprocess(FRAMES, Detection("canny")).shape == FRAMES.shape


def test_weights_in_fewer_bits_say_what_they_need(monkeypatch):
    without(monkeypatch, "optimum.quanto")
    with pytest.raises(InputError, match=r"needs optimum-quanto.*--no-deps optimum-quanto$"):
        quantize(torch.rand(64, 64), "qint8")


def test_the_command_is_one_that_pip_takes(monkeypatch):
    """Nothing is fetched: pip reads the words and looks for the release that is named."""
    without(monkeypatch, "cv2")
    command = packages.command_for(["cv2"]).split()
    done = subprocess.run(
        [*command[:4], "--dry-run", "--no-index", *command[4:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no such option" not in done.stderr
    assert "Usage" not in done.stderr


def test_generating_imports_nothing_that_is_optional():
    """Neither diffusers nor OpenCV nor controlnet-aux nor optimum-quanto, even where they are."""
    script = (
        "import sys\n"
        "for name in ('cv2', 'diffusers', 'controlnet_aux', 'optimum', 'gguf', 'timm'):\n"
        "    sys.modules[name] = None\n"
        "import easyanimate_core.pipeline, easyanimate_core.training.objective\n"
        "import easyanimate_core.preprocess, easyanimate_core.cli.main\n"
        "from easyanimate_core.sampling import PUBLISHED_CONFIG, make_schedule\n"
        "from easyanimate_core.models.specs import Version\n"
        "for version, name in ((Version.V5, 'DDIM'), (Version.V5_1, 'Flow')):\n"
        "    make_schedule(name, PUBLISHED_CONFIG[version], steps=5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_training_says_all_that_is_missing_in_one_command(monkeypatch):
    for module in ("accelerate", "yaml"):
        monkeypatch.setitem(sys.modules, module, None)
    said = "needs accelerate and pyyaml, which are not installed. This adds what is missing: "
    with pytest.raises(InputError, match=said) as caught:
        packages.require("Training", packages.TRAINING)
    assert str(caught.value).endswith(joined("install", "accelerate>=1.10,<2", "pyyaml>=6"))


def test_what_is_asked_of_pip_is_what_the_requirements_ask():
    """OCR, ONNX and 8-bit optimisers are chosen for the machine and required nowhere."""
    files = [ROOT / f"requirements-{name}.txt" for name in ("training", "app")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    chosen = {"bitsandbytes", "onnxruntime", "rapidocr"}
    assert set(packages._WITH_NEEDS.values()) - chosen <= set(lines)


def test_naming_a_command_leaves_setuptools_usable():
    """Looking for pip's module makes setuptools' import hook give way to pip for good."""
    code = (
        "from easyanimate_core.files.packages import pip_command\n"
        "print(pip_command('gguf'))\n"
        "import setuptools"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "gguf" in done.stdout
