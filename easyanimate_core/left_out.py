"""Parts of the repository that the pack published for ComfyUI leaves out (see `.comfyignore`)."""

from __future__ import annotations

from importlib.util import find_spec

from .errors import LeftOutError

#: The address in pyproject.toml, which is not installed with the package.
REPOSITORY = "https://github.com/easyanimate-nodes/ComfyUI-EasyAnimate"


def is_included(module: str) -> bool:
    """Whether this copy of the package has the `module`, whose name is relative to the package."""
    return find_spec(f".{module}", __package__) is not None


def check_included(feature: str, module: str) -> None:
    """Raise `LeftOutError` if this copy does not have the `module` that the `feature` needs."""
    if not is_included(module):
        raise LeftOutError(
            f"{feature} is not included in the pack published for ComfyUI, only in the full "
            f"repository: git clone {REPOSITORY}"
        )
