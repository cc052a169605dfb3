"""The installed packages and programs, against those that the tests ran with."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path

from ..errors import InputError
from ..files import read_text
from ..files.packages import command_for, pip_command
from ..version import __version__
from .finding import Finding, State, fine, note, wrong
from .imports import failed_imports

#: What the tests run with, as the requirement files and the tools state it; a test compares.
TESTED: Mapping[str, str] = {
    "torch": "==2.11.0",
    "torchvision": "==0.26.0",
    "transformers": ">=4.50,<5.24",
    "tokenizers": "",
    "safetensors": ">=0.6",
    "einops": ">=0.8",
    "sentencepiece": "",
    "numpy": ">=2.0,<2.5",
    "pillow": ">=11",
    "av": ">=17.1,<19",
    "psutil": ">=6",
    "tqdm": ">=4.66",
    "optimum-quanto": ">=0.2.6",
    "gguf": ">=0.17",
}
#: ComfyUI's versions, and those of its frontend, with which the pack was run.
TESTED_COMFYUI, TESTED_FRONTEND = ">=0.8.0,<0.34", ">=1.35,<1.59"
_FRONTEND = "comfyui-frontend-package"
#: The pack's own requirements: an older one does not have what the pack calls.
REQUIRED = ("optimum-quanto", "gguf")
_MODULES = {"pillow": "PIL", "optimum-quanto": "optimum.quanto"}


@dataclass(frozen=True)
class Optional:
    """A package that only some features need. `module` is its name in imports."""

    name: str
    module: str
    need: str
    distributions: tuple[str, ...]


OPTIONAL = (
    Optional(
        "OpenCV",
        "cv2",
        "control videos",
        ("opencv-python", "opencv-python-headless", "opencv-contrib-python",
         "opencv-contrib-python-headless"),
    ),
    Optional("controlnet-aux", "controlnet_aux", "control videos of lines and poses",
             ("controlnet-aux",)),
    Optional("onnxruntime", "onnxruntime", "DWPose", ("onnxruntime", "onnxruntime-gpu")),
)  # fmt: skip


def findings(comfyui: str | None, *, imports: bool) -> Iterator[Finding]:
    """ComfyUI, if its version is given, and every package; with `imports`, also imports each."""
    yield fine(
        f"easyanimate_core {__version__}, Python {platform.python_version()} "
        f"({platform.python_implementation()}, {platform.machine()}), "
        f"{platform.system()} {platform.release()}"
    )
    if comfyui is not None:
        yield _tested("ComfyUI", comfyui, TESTED_COMFYUI)
    frontend = installed(_FRONTEND)
    if frontend is not None:
        yield _tested(_FRONTEND, frontend, TESTED_FRONTEND)
    optional = {package: installed(*package.distributions) for package in OPTIONAL}
    failed: Mapping[str, str] = {}
    if imports:
        modules = [module_of(name) for name in TESTED if installed(name)]
        modules += [package.module for package, found in optional.items() if found]
        failed = failed_imports(modules)
    for name, tested in TESTED.items():
        yield _required(name, tested, failed.get(module_of(name), ""))
    for package, found in optional.items():
        yield _optional(package, found, failed.get(package.module, ""))


def module_of(name: str) -> str:
    """The module of a package."""
    return _MODULES.get(name, name)


def installed(*names: str) -> str | None:
    """The version of the first of these packages that is installed."""
    for name in names:
        with suppress(PackageNotFoundError):
            return version(name) or "of an unknown version"
    return None


def is_within(found: str, tested: str) -> bool:
    """Whether a version is within a range such as ">=4.50,<5.24"; "" is every version."""
    for rule in filter(None, tested.split(",")):
        sign, bound = re.findall(r"[<>=]+|[\d.]+", rule)[:2]
        parts = zip_longest(_numbers(found), _numbers(bound), fillvalue=0)
        own, limit = zip(*parts, strict=True)
        if not {"==": own == limit, ">=": own >= limit, "<": own < limit}[sign]:
            return False
    return True


def _numbers(text: str) -> tuple[int, ...]:
    """The release numbers, without what follows them (+cu130, .dev, rc1)."""
    release = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, release[0].split("."))) if release else ()


def _required(name: str, tested: str, failure: str) -> Finding:
    found = installed(name)
    if found is None:
        brings = "" if name in REQUIRED else " ComfyUI brings it: update ComfyUI's requirements, or"
        return wrong(f"{name} is not installed.", f"{brings} {_install(name, tested)}".strip())
    if failure:
        return wrong(f"{name} {found} cannot be imported: {failure}", _reinstall(name))
    finding = _tested(name, found, tested)
    if finding.state is State.NOTE and name in REQUIRED:
        return wrong(finding.text, _install(name, tested))
    return finding


def _tested(name: str, found: str, tested: str) -> Finding:
    if is_within(found, tested):
        return fine(f"{name} {found}" + (f" (tested: {tested})" if tested else ""))
    return note(f"{name} {found} is not among the tested versions ({tested}).")


def comfyui_version(base: Path) -> str | None:
    """The version of the ComfyUI in a folder, without importing it."""
    try:
        text = read_text(base / "comfyui_version.py", error=InputError)
    except InputError:
        return None
    found = re.search(r"""__version__\s*=\s*["']([^"']{1,40})["']""", text)
    return found[1] if found else None


def _optional(package: Optional, found: str | None, failure: str) -> Finding:
    if found is None:
        return fine(
            f"{package.name} is not installed; for {package.need}: {command_for([package.module])}"
            if package.module != "controlnet_aux"
            else f"{package.name} is not installed; only {package.need} need it"
        )
    if failure:
        return wrong(f"{package.name} {found} cannot be imported: {failure}",
                     _reinstall(package.distributions[0]))  # fmt: skip
    return fine(f"{package.name} {found}")


def _install(name: str, tested: str) -> str:
    return f"Install it: {pip_command(name + tested.partition(',')[0])}"


def _reinstall(name: str) -> str:
    return f"Install it again: {pip_command('--force-reinstall', '--no-deps', name)}"
