"""Which ComfyUI there is, and a Python environment for it.

The environment is layered over the development environment: a `.pth` file adds that one's packages,
so that PyTorch is there once. What ComfyUI pins itself (its frontend, its kernels) is on top.
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

#: The versions that the pack is tested with, newest first, and what `git clone` calls them.
TAGS = {"0.33": "v0.33.0", "0.8": "v0.8.0"}
COMFYUI_SOURCE = "https://github.com/Comfy-Org/ComfyUI"
VIDEO_HELPER_SUITE_SOURCE = "https://github.com/Kosinkadink/ComfyUI-VideoHelperSuite"
#: The newest frontend that the pack is tested with, beside the one that each ComfyUI brings.
NEWEST_FRONTEND = "1.58.1"
#: Packages of the development environment that ComfyUI's requirements must not replace.
KEPT = ("torch", "torchvision")
_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9._-]+")


def version_of(comfyui: Path) -> str:
    """The version that a ComfyUI folder says it is, such as 0.33.0."""
    text = (comfyui / "comfyui_version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "(.+)"', text)[1]


def found() -> list[Path]:
    """The ComfyUI folders of this machine: those of COMFYUI_PATH, or else those in the cache."""
    chosen = os.environ.get("COMFYUI_PATH")
    if not chosen:
        cached = [dev.cache_folder() / f"comfyui-{version}" for version in TAGS]
        return [folder for folder in cached if (folder / "main.py").is_file()]
    folders = [Path(part).expanduser().resolve() for part in chosen.split(os.pathsep) if part]
    for folder in folders:
        if not (folder / "comfyui_version.py").is_file():
            sys.exit(
                f"COMFYUI_PATH names {folder}, which is no ComfyUI folder (it has no "
                "comfyui_version.py). Name the folder with ComfyUI's main.py."
            )
    return folders


def ready_comfyui(version: str | None = None) -> Path:
    """The ComfyUI to start; it is cloned into the cache where there is none."""
    chosen = bool(os.environ.get("COMFYUI_PATH"))
    for folder in found():
        if version is None or f"{version_of(folder)}.".startswith(f"{version}."):
            return folder
    if chosen:
        sys.exit(
            f"COMFYUI_PATH ({os.environ['COMFYUI_PATH']}) has no ComfyUI {version}. Leave out "
            "--version, or unset COMFYUI_PATH to use one in the cache."
        )
    version = version or next(iter(TAGS))
    if version not in TAGS:
        sys.exit(
            f"ComfyUI {version} is not in {dev.cache_folder()}, and only {' and '.join(TAGS)} are "
            "cloned there. Choose one of these, or set COMFYUI_PATH to a folder that you have."
        )
    return _clone(COMFYUI_SOURCE, dev.cache_folder() / f"comfyui-{version}", TAGS[version])


def ready_video_helper_suite() -> Path:
    """The pack of other people's nodes that the workflows read and write videos with."""
    folder = dev.cache_folder() / "VideoHelperSuite"
    if (folder / "__init__.py").is_file():
        return folder
    return _clone(VIDEO_HELPER_SUITE_SOURCE, folder)


def _clone(source: str, folder: Path, tag: str | None = None) -> Path:
    """Clone completely or not at all."""
    git = shutil.which("git")
    remedy = (
        "Set COMFYUI_PATH to a ComfyUI folder that you have."
        if tag
        else f"Put a copy of {source} at {folder}."
    )
    if git is None:
        sys.exit(f"git is not installed, so that {source} cannot be cloned. {remedy}")
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
            sys.exit(f"Cloning {source} failed (git's reason stands above). {remedy}")
        rename(scratch, folder)
    finally:
        with suppress(OSError):
            remove_tree(scratch)  # with git's files, which are read-only
    return folder


def requirements(comfyui: Path, packs: Sequence[Path]) -> list[str]:
    """What goes on top of the development environment.

    torchaudio has no lower bound in ComfyUI's list, and only the release of torch's own number
    loads. OpenCV without windows is the same module and needs no system libraries.
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
    """The release of a package of this Python, without the build (2.11.0+cpu is 2.11.0)."""
    return importlib.metadata.version(package).split("+")[0]


def environment_folder(comfyui: Path, packs: Sequence[Path]) -> Path:
    """The environment of these requirements over this development environment."""
    base = dev.environment_folder().name
    digest = hashlib.sha256("\n".join([base, *requirements(comfyui, packs)]).encode())
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return dev.cache_folder() / f"venv-comfyui-{python}-{digest.hexdigest()[:12]}"


def ready_python(comfyui: Path, packs: Sequence[Path]) -> str:
    """The Python to run a ComfyUI with; its environment is set up where it is missing.

    Runs with the Python of the development environment, whose versions it keeps.
    """
    folder = environment_folder(comfyui, packs)

    def install(folder: Path, lock: IO[str]) -> None:
        dev.say(f"Setting up the environment of ComfyUI {version_of(comfyui)}: {folder}")
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
                f"These are the packages that ComfyUI {version_of(comfyui)} itself asks for. One "
                "that has no build for this machine (comfy-aimdo and comfy-kitchen have few) means "
                "that this ComfyUI cannot run here; another version may: --version, COMFYUI_PATH."
            )
            raise

    return dev.ready_environment(folder, install)


def ready_frontend() -> Path:
    """The folder for ComfyUI's `--front-end-root` with the newest frontend."""
    wanted = f"comfyui-frontend-package=={NEWEST_FRONTEND}"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:12]

    def install(folder: Path, lock: IO[str]) -> None:
        dev.say(f"Fetching {wanted} into {folder}")
        dev.run_step([*dev.make_environment(folder, lock), "--no-deps", wanted], lock)

    made = dev.ready_environment(dev.cache_folder() / f"venv-comfyui-{python}-{digest}", install)
    return _site_packages(Path(made)) / "comfyui_frontend_package" / "static"


def _site_packages(python: Path) -> Path:
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    command = [str(python), "-X", "utf8", "-c", script]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return Path(done.stdout.strip())
