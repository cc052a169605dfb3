"""Finds or clones a ComfyUI, and sets up a Python environment for it.

The environment is layered over the development environment: a `.pth` file adds the latter's
packages, so that PyTorch is installed once. What ComfyUI pins (frontend, kernels) is on top.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import dev
from easyanimate_core.files import remove_tree, rename

#: The versions that the pack is tested with, newest first, and their git tags.
TAGS = {"0.33": "v0.33.0", "0.8": "v0.8.0"}
COMFYUI_SOURCE = "https://github.com/Comfy-Org/ComfyUI"
VIDEO_HELPER_SUITE_SOURCE = "https://github.com/Kosinkadink/ComfyUI-VideoHelperSuite"
#: The newest frontend that the pack is tested with, in addition to each ComfyUI's own.
NEWEST_FRONTEND = "1.58.1"
#: Packages of the development environment that ComfyUI's requirements must not replace.
KEPT = ("torch", "torchvision")
_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9._-]+")


def version_of(comfyui: Path) -> str:
    """The version of a ComfyUI folder, such as 0.33.0."""
    text = (comfyui / "comfyui_version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "(.+)"', text)[1]


def found() -> list[Path]:
    """The ComfyUI folders of this machine: those in COMFYUI_PATH, or else in the cache."""
    chosen = os.environ.get("COMFYUI_PATH")
    if not chosen:
        cached = [dev.cache_folder() / f"comfyui-{version}" for version in TAGS]
        return [folder for folder in cached if (folder / "main.py").is_file()]
    folders = [Path(part).expanduser().resolve() for part in chosen.split(os.pathsep) if part]
    for folder in folders:
        if not (folder / "comfyui_version.py").is_file():
            sys.exit(
                f"COMFYUI_PATH contains {folder}, which is not a ComfyUI folder (it has no "
                "comfyui_version.py). Use the folder with ComfyUI's main.py."
            )
    return folders


def ready_comfyui(version: str | None = None) -> Path:
    """The ComfyUI to start, cloned into the cache if there is none."""
    chosen = bool(os.environ.get("COMFYUI_PATH"))
    for folder in found():
        if version is None or f"{version_of(folder)}.".startswith(f"{version}."):
            return folder
    if chosen:
        sys.exit(
            f"COMFYUI_PATH ({os.environ['COMFYUI_PATH']}) has no ComfyUI {version}. Omit "
            "--version, or unset COMFYUI_PATH to use one from the cache."
        )
    version = version or next(iter(TAGS))
    if version not in TAGS:
        sys.exit(
            f"ComfyUI {version} is not in {dev.cache_folder()}, and only {' and '.join(TAGS)} are "
            "cloned there. Choose one of these, or set COMFYUI_PATH to a folder that you have."
        )
    return _clone(COMFYUI_SOURCE, dev.cache_folder() / f"comfyui-{version}", TAGS[version])


def ready_video_helper_suite() -> Path:
    """The third-party pack that the workflows read and write videos with."""
    folder = dev.cache_folder() / "VideoHelperSuite"
    if (folder / "__init__.py").is_file():
        return folder
    return _clone(VIDEO_HELPER_SUITE_SOURCE, folder)


def _clone(source: str, folder: Path, tag: str | None = None) -> Path:
    """Clone atomically."""
    git = shutil.which("git")
    remedy = (
        "Set COMFYUI_PATH to a ComfyUI folder that you have."
        if tag
        else f"Put a copy of {source} at {folder}."
    )
    if git is None:
        sys.exit(f"git is not installed, so {source} cannot be cloned. {remedy}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    dev.say(f"Cloning {source} {tag or ''} into {folder}")
    branch = ["--branch", tag] if tag else []
    command = [git, "clone", "--quiet", "--depth", "1", *branch, source, str(scratch)]
    try:
        status = dev.wait_for(
            subprocess.Popen(command, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"})
        )
        if status:
            sys.exit(f"Cloning {source} failed (see git's message above). {remedy}")
        rename(scratch, folder)
    finally:
        with suppress(OSError):
            remove_tree(scratch)  # including git's read-only files
    return folder


def requirements(comfyui: Path, packs: Sequence[Path]) -> list[str]:
    """The packages to install on top of the development environment.

    torchaudio is unpinned in ComfyUI's list, but only the release that matches torch loads.
    Headless OpenCV is the same module and needs no system libraries.
    """
    lines: list[str] = []
    for folder in (comfyui, *packs):
        text = (folder / "requirements.txt").read_text(encoding="utf-8")
        lines += [line.split("#")[0].strip() for line in text.splitlines()]
    wanted = []
    for line in filter(None, lines):
        name = _REQUIREMENT_NAME.match(line)[0].lower()
        if name in KEPT:
            continue
        if name == "torchaudio":
            line = f"torchaudio=={_installed('torch')}"  # noqa: PLW2901
        wanted.append(line.replace("opencv-python", "opencv-python-headless"))
    return list(dict.fromkeys(wanted))


def _installed(package: str) -> str:
    """The version of an installed package without its local part (2.11.0+cpu is 2.11.0)."""
    return importlib.metadata.version(package).split("+")[0]


def environment_folder(comfyui: Path, packs: Sequence[Path]) -> Path:
    """The environment for these requirements on top of this development environment."""
    base = dev.environment_folder().name
    digest = hashlib.sha256("\n".join([base, *requirements(comfyui, packs)]).encode())
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return dev.cache_folder() / f"venv-comfyui-{python}-{digest.hexdigest()[:12]}"


def ready_python(comfyui: Path, packs: Sequence[Path]) -> str:
    """The Python to run a ComfyUI with; sets up its environment if missing.

    Must be called with the Python of the development environment, whose versions it keeps.
    """
    folder = environment_folder(comfyui, packs)

    def install(folder: Path, lock: IO[str]) -> None:
        dev.say(f"Setting up the environment for ComfyUI {version_of(comfyui)}: {folder}")
        dev.say("This happens once per version of ComfyUI and takes a minute or two.")
        pip = dev.make_environment(folder, lock)
        site = _site_packages(dev.environment_python(folder))
        base = _site_packages(dev.environment_python(dev.environment_folder()))
        (site / "easyanimate-development.pth").write_text(f"{base}\n", encoding="locale")
        wanted = folder / "requirements.txt"
        wanted.write_text("\n".join([*requirements(comfyui, packs), ""]), encoding="utf-8")
        kept = folder / "constraints.txt"
        pins = [f"{name}=={_installed(name)}" for name in KEPT]
        kept.write_text("\n".join([*pins, ""]), encoding="utf-8")
        try:
            dev.run_step([*pip, "-r", str(wanted), "-c", str(kept)], lock)
        except SystemExit:
            dev.say(
                f"These packages are required by ComfyUI {version_of(comfyui)} itself. If one has "
                "no build for this machine (comfy-aimdo and comfy-kitchen have few), this ComfyUI "
                "cannot run here; try another version with --version or COMFYUI_PATH."
            )
            raise

    return dev.ready_environment(folder, install)


def ready_frontend() -> Path:
    """The folder with the newest frontend, for ComfyUI's `--front-end-root`."""
    wanted = f"comfyui-frontend-package=={NEWEST_FRONTEND}"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:12]

    def install(folder: Path, lock: IO[str]) -> None:
        dev.say(f"Downloading {wanted} to {folder}")
        dev.run_step([*dev.make_environment(folder, lock), "--no-deps", wanted], lock)

    made = dev.ready_environment(dev.cache_folder() / f"venv-comfyui-{python}-{digest}", install)
    return _site_packages(Path(made)) / "comfyui_frontend_package" / "static"


def _site_packages(python: Path) -> Path:
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    command = [str(python), "-X", "utf8", "-c", script]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return Path(done.stdout.strip())
