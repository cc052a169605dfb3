"""A state's folder: safetensors files, and `state.json` with the size and hash of each.

Nothing in it can run code, and nothing in it is trusted: names, dtypes and shapes come from the
run, and a file with others is rejected before any value is loaded. The hashes detect damage, not
tampering.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...errors import CheckpointError, InputError
from ...files import read_json, sha256_of
from ...files.safetensors_file import HeaderError, SafetensorsFile
from ...weights.files.writer import Entry, SafetensorsWriter
from .slots import Slots

INDEX = "state.json"
_FORMAT = "EasyAnimate training state 1"
_LIMIT = 2**16
_NAME = re.compile(r"[a-z]+(-[a-z]+)?\.safetensors")
_MOST_STEPS = 10**8
_WORDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """Where a state comes from: the step, the number of processes and the type of device.

    `data` and `weights` are hashes of what the run was trained on and began with, "" if unknown.
    """

    step: int
    ranks: int
    device: str
    data: str = ""
    weights: str = ""

    def is_like(self, other: Made) -> bool:
        """Whether random states of one fit the other."""
        return (self.step, self.ranks, self.device) == (other.step, other.ranks, other.device)


def write_files(folder: Path, parts: Mapping[str, Slots], made: Made, *, writes: bool) -> None:
    """Write the files of `parts`, then the index. Every process must call it; one `writes`.

    Raises:
        InputError: A value is not finite: no run can continue with it.
        OSError: The disk is full or not writable.
    """
    listed = {}
    for name, slots in parts.items():
        path = folder / _file(name)
        _write(path, slots, writes=writes)
        if writes:
            listed[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    if not writes:
        return
    content = {"format": _FORMAT, **asdict(made), "files": listed}
    text = json.dumps({**content, "sha256": _digest(content)}, indent=2) + "\n"
    (folder / INDEX).write_text(text, encoding="utf-8")


def read_index(folder: Path, step: int) -> tuple[Made, dict[str, Any]]:
    """Read the index of the state after `step` and check that its files exist.

    Raises:
        CheckpointError: The index is damaged, or a file is missing or has the wrong size.
    """
    path = folder / INDEX
    if not path.is_file():
        raise CheckpointError(f"{INDEX} is missing")
    content = read_json(path, dict, error=CheckpointError, limit=_LIMIT)
    stated = content.pop("sha256", None)
    if content.get("format") != _FORMAT or stated != _digest(content):
        raise CheckpointError(f"{INDEX} is damaged or from another version")
    made, listed = _made(content)
    if made.step != step:
        raise CheckpointError(f"it was written after step {made.step}")
    for name, told in listed.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != told["bytes"]:
            raise CheckpointError(f"{name} is missing or does not have its original size")
    return made, listed


def check_hashes(folder: Path, listed: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` if a file has changed since it was written."""
    for name, told in listed.items():
        if sha256_of(folder / name) != told["sha256"]:
            raise CheckpointError(f"{name} is damaged: its SHA-256 is not the one in {INDEX}")


def opened_parts(folder: Path, listed: Mapping[str, Any]) -> dict[str, SafetensorsFile]:
    """Open the files; returns them by the names of their parts."""
    return {Path(name).stem: _opened(folder / name) for name in listed}


def take(opened: Mapping[str, SafetensorsFile], parts: Mapping[str, Slots]) -> None:
    """Set every slot of `parts` from its file, after checking all of them."""
    if opened.keys() != parts.keys():
        raise CheckpointError(
            f"it contains {', '.join(sorted(opened))}, but this run has {', '.join(sorted(parts))}"
        )
    for name, slots in parts.items():
        _check(_file(name), opened[name], slots)
    for name, slots in parts.items():
        for key, slot in slots.items():
            slot.set(opened[name].read_tensor(key))


def _check(name: str, opened: SafetensorsFile, slots: Slots) -> None:
    for key in sorted(slots.keys() ^ set(opened.keys())):
        raise CheckpointError(f"{name} belongs to another run: only one of them has {key!r}")
    for key, slot in slots.items():
        found = opened.info(key)
        if found != (_WORDS[slot.dtype], slot.shape):
            raise CheckpointError(
                f"{name} belongs to another run: {key!r} is {found[0]} {list(found[1])} and must "
                f"be {_WORDS[slot.dtype]} {list(slot.shape)}"
            )
        if not slot.valid(opened.read_tensor(key)):
            raise CheckpointError(f"{name} is damaged: {key!r} has an impossible value")


def _write(path: Path, slots: Slots, *, writes: bool) -> None:
    entries = {name: Entry(_WORDS[slot.dtype], slot.shape) for name, slot in slots.items()}
    with ExitStack() as stack:
        writer = stack.enter_context(SafetensorsWriter(path, entries, {})) if writes else None
        for name, slot in slots.items():
            value = slot.get()
            if not slot.valid(value):
                raise InputError(
                    f"{name} of {path.stem} has values that no run can continue with: training has "
                    "diverged"
                )
            if writer is not None:
                writer.append(name, value.detach().to("cpu", slot.dtype))


def _opened(path: Path) -> SafetensorsFile:
    try:
        return SafetensorsFile(path)
    except (HeaderError, OSError) as error:
        raise CheckpointError(f"{path.name} is not a valid safetensors file ({error})") from error


def _made(content: Mapping[str, Any]) -> tuple[Made, dict[str, Any]]:
    """The content of an index, checked to have this version's format."""
    step, ranks, device = (content.get(name) for name in ("step", "ranks", "device"))
    hashes = [content.get(name, "") for name in ("data", "weights")]
    listed = content.get("files")
    if (
        type(step) is int
        and 0 < step < _MOST_STEPS
        and type(ranks) is int
        and all(isinstance(text, str) for text in (device, *hashes))
        and isinstance(listed, dict)
        and all(_NAME.fullmatch(name) and _is_told(told) for name, told in listed.items())
    ):
        return Made(step, ranks, str(device), *hashes), listed
    raise CheckpointError(f"{INDEX} does not have the format of this version")


def _is_told(told: object) -> bool:
    return (
        isinstance(told, dict)
        and type(told.get("bytes")) is int
        and isinstance(told.get("sha256"), str)
    )


def _file(part: str) -> str:
    return f"{part}.safetensors"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
