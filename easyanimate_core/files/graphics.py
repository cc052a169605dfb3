"""The vendors of the GPUs that the system reports, whether or not PyTorch can use them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

DRM_FOLDER = Path("/sys/class/drm")
#: Windows lists its display adapters under this registry key.
ADAPTERS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
_MAKERS = {"10de": "NVIDIA", "1002": "AMD", "8086": "Intel"}


def graphics_makers(drm: Path = DRM_FOLDER) -> tuple[str, ...]:
    """Those of NVIDIA, AMD and Intel that the system reports; nothing on macOS."""
    numbers = _of_windows() if sys.platform == "win32" else _of_linux(drm)
    found = {_MAKERS[number] for number in numbers if number in _MAKERS}
    return tuple(maker for maker in _MAKERS.values() if maker in found)


def _of_linux(drm: Path) -> Iterator[str]:
    for file in sorted(drm.glob("card*/device/vendor")):
        with suppress(OSError, ValueError):  # a card may just have been removed
            yield file.read_text(encoding="ascii").strip().lower().removeprefix("0x")


def _of_windows() -> Iterator[str]:
    """Vendor ids from the adapters' device ids, such as "ven_10de&dev_2684"."""
    import winreg

    registry: Any = winreg  # type checkers know its functions on Windows only
    with registry.OpenKey(registry.HKEY_LOCAL_MACHINE, ADAPTERS) as adapters:
        for index in range(registry.QueryInfoKey(adapters)[0]):
            told = ""
            with (  # skips keys that are not adapters or that this user may not read
                suppress(OSError),
                registry.OpenKey(adapters, registry.EnumKey(adapters, index)) as adapter,
            ):
                told = str(registry.QueryValueEx(adapter, "MatchingDeviceId")[0])
            yield from re.findall(r"ven_(\w{4})", told.lower())
