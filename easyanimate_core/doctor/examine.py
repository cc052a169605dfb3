"""The examination of a machine, section by section, none of which ends another.

What a section needs is imported in it, so that a broken package is a finding of its section.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import EasyAnimateError
from ..progress import Progress, silent
from .finding import Finding, Section, wrong
from .folders import Folders

if TYPE_CHECKING:
    from ..models.transformer.kernel import AttentionFunction
    from .checkpoints import Checkpoint
    from .room import PlanFolder

ISSUES = "https://github.com/easyanimate-nodes/ComfyUI-EasyAnimate/issues"

Find = Callable[[], Iterable[Finding]]


@dataclass(frozen=True)
class Host:
    """What a host adds: a section of its own, its attention, and its memory plans."""

    name: str
    find: Find
    attention: AttentionFunction
    plan: PlanFolder


@dataclass(frozen=True)
class Examination:
    """What is examined, and how thoroughly.

    Args:
        folders: The folders of models and results.
        device: Device of a run, by its name; "auto" chooses.
        dtype: Compute dtype, by its name; "auto" chooses.
        quick: Compute nothing, and import nothing in other processes.
        hashes: Read all weights whose hashes are known.
        host: What runs the pack, if not the command line.
        progress: Reports the stages "parity" and "verify".
        comfyui: The version of the ComfyUI that the pack is in, if it is in one.
    """

    folders: Folders = field(default_factory=Folders)
    device: str = "auto"
    dtype: str = "auto"
    quick: bool = False
    hashes: bool = False
    host: Host | None = None
    progress: Progress = silent
    comfyui: str | None = None

    def sections(self) -> Iterator[Section]:
        """The sections, each as soon as it is complete.

        What `progress` raises ends them.
        """
        try:
            yield from self._sections()
        except _CancelError as cancelled:
            assert cancelled.__cause__ is not None
            raise cancelled.__cause__ from None

    def _sections(self) -> Iterator[Section]:
        yield _section("Versions", self._versions)
        if self.host is not None:
            yield _section(self.host.name, self.host.find)
        yield _section("Device", self._device)
        yield _section("Attention", self._attention)
        yield _section("Folders", self._folders)
        checkpoints: list[Checkpoint] = []
        yield _section("Weights", lambda: self._weights(checkpoints))
        yield _section("Memory", lambda: self._memory(checkpoints))
        if not self.quick:
            yield _section("Parity with the original", self._parity)

    def _versions(self) -> Iterator[Finding]:
        from . import versions

        return versions.findings(self.comfyui, imports=not self.quick)

    def _device(self) -> Iterator[Finding]:
        from . import card

        return card.findings(self.device, self.dtype)

    def _chosen(self) -> tuple[Any, Any]:
        """The device and the dtype; the CPU in float32 where the named ones cannot be used."""
        import torch

        from ..memory.devices import pick_device, pick_dtype

        try:
            device = pick_device(self.device)
            return device, pick_dtype(self.dtype, device)
        except EasyAnimateError:  # told in the section of the device
            return torch.device("cpu"), torch.float32

    def _attention(self) -> Iterator[Finding]:
        from . import attention

        host = None if self.host is None else self.host.attention
        return attention.findings(*self._chosen(), computes=not self.quick, host=host)

    def _folders(self) -> Iterator[Finding]:
        from . import folders

        return folders.findings(self.folders)

    def _weights(self, found: list[Checkpoint]) -> Iterator[Finding]:
        from . import checkpoints

        found += checkpoints.find_checkpoints(self.folders)
        yield from checkpoints.findings(
            found, self.folders, hashes=self.hashes, progress=_passing(self.progress)
        )

    def _memory(self, found: list[Checkpoint]) -> Iterator[Finding]:
        from . import room

        host = None if self.host is None else self.host.plan
        return room.findings(found, *self._chosen(), host)

    def _parity(self) -> Iterator[Finding]:
        from . import parity

        return parity.findings(parity.compute_on(*self._chosen()), _passing(self.progress))


class _CancelError(BaseException):
    """Carries what a progress callback raised past everything that catches errors."""


def _passing(progress: Progress) -> Progress:
    def report(stage: str, done: int, total: int) -> None:
        try:
            progress(stage, done, total)
        except Exception as error:
            raise _CancelError from error

    return report


def _section(title: str, find: Find) -> Section:
    """A section. Whatever ends it early is its last finding: the machine may be broken."""
    found: list[Finding] = []
    try:
        found.extend(find())
    except Exception as error:
        own = isinstance(error, EasyAnimateError)
        text = str(error) if own else f"{type(error).__name__}: {error}"
        found.append(wrong(f"The rest of this section cannot be examined: {text}", _remedy(error)))
    return Section(title, tuple(found))


def _remedy(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "Install again what cannot be imported; the section Versions has the command."
    return f"Report it with this page: {ISSUES}"
