"""Whether the weights in the models' folders are whole, by their headers, sizes and hashes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import CheckpointError
from ..files import is_file, is_folder
from ..files.commands import own_command
from ..hub.download import read_record, size_text
from ..hub.places import CHECKPOINTS
from ..hub.sources import RemoteFile
from ..hub.transfer import matches
from ..hub.zoo import MODELS
from ..progress import Progress
from ..text import check_text_encoder
from ..weights.files import CheckpointInfo, inspect_checkpoint, read_tensor_files
from ..weights.files.tensor_files import open_tensors
from ..weights.loading import check_weights
from .finding import Finding, fine, note, wrong
from .folders import Folders

#: Folders of a checkpoint that hold weights.
_PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2")
#: Entries of a folder that are looked at.
_MOST = 2000
#: Names of single files that are this model's; whether a damaged file is, its content does not say.
_OWN_NAME = re.compile(r"easyanimate.*\.(safetensors|gguf)$", re.IGNORECASE)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder; `info` is None if it is damaged."""

    name: str
    folder: Path
    info: CheckpointInfo | None
    faults: tuple[Finding, ...]


def find_checkpoints(folders: Folders) -> list[Checkpoint]:
    """The checkpoint folders in the models' folders, at most two levels deep, examined.

    In ComfyUI's folders for other models, only folders with a denoiser and a VAE count.
    """
    found: dict[str, Checkpoint] = {}
    for key, roots in folders.models.items():
        parts = 1 if key == CHECKPOINTS else 2
        for root in roots:
            for folder in _folders_in(root, parts):
                name = os.path.relpath(folder, root).replace(os.sep, "/")
                name = folder.name if name == "." else name
                found.setdefault(os.path.realpath(folder), _examined(name, folder))
    return list(found.values())


def findings(
    checkpoints: Sequence[Checkpoint], folders: Folders, *, hashes: bool, progress: Progress
) -> Iterator[Finding]:
    """Every checkpoint folder and single file; with `hashes`, their whole content is read."""
    for checkpoint in checkpoints:
        yield from checkpoint.faults
        if checkpoint.info is not None:
            yield fine(_described(checkpoint, checkpoint.info))
        yield from _content(checkpoint, hashes=hashes, progress=progress)
    if not checkpoints:
        yield note(
            "There is no checkpoint folder; only the small model can be used.",
            f"Download one: {own_command('download', 'EasyAnimateV5.1-7b-zh-InP')}",
        )
    for file in _single_files(folders):
        yield _single(file)


def _folders_in(root: Path, parts: int) -> Iterator[Path]:
    """`root` and the folders below it, two levels deep, that contain so many of `_PARTS`."""
    level = [root]
    for _ in range(3):
        inside = []
        for folder in level:
            if sum(is_folder(folder / part) for part in _PARTS[:3]) >= parts:
                yield folder
            else:
                inside += _entries(folder)
        level = [folder for folder in inside if is_folder(folder)]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(islice(folder.iterdir(), _MOST))
    except (OSError, ValueError):
        return []  # told where the folders are


def _examined(name: str, folder: Path) -> Checkpoint:
    faults = [*_faulty_parts(name, folder)]
    info = None
    if not faults:
        try:
            info = inspect_checkpoint(folder)
            check_weights(info)
            mask = info.transformer.enable_text_attention_mask
            check_text_encoder(folder, info.version, use_attention_mask=mask)
        except Exception as error:  # a damaged file or a broken package: the finding
            faults.append(wrong(f"{name}: {_told(error)}", _remedy(name)))
            info = None
    return Checkpoint(name, folder, info, tuple(faults))


def _faulty_parts(name: str, folder: Path) -> Iterator[Finding]:
    """The parts that cannot be read, each by itself."""
    for part in _PARTS:
        if part == "text_encoder_2" and not (folder / part).is_dir():
            continue  # only V5 has it
        try:
            read_tensor_files(folder / part)
        except Exception as error:
            yield wrong(f"{name}/{part}: {_told(error)}", _remedy(name))


def _told(error: Exception) -> str:
    own = isinstance(error, CheckpointError)
    return str(error) if own else f"{type(error).__name__}: {error}"


def _remedy(name: str) -> str:
    model = name.rpartition("/")[2]
    if model not in MODELS:
        return ""
    return f"What is missing or damaged is downloaded again by: {own_command('download', model)}"


def _described(checkpoint: Checkpoint, info: CheckpointInfo) -> str:
    files = [*info.transformer_files.files, *info.vae_files.files]
    files += [file for encoder in info.text_encoders for file in encoder.files]
    total = sum(file.stat().st_size for file in files)
    dtypes = "/".join(sorted(info.transformer_files.dtypes))
    return (
        f"{checkpoint.name}: {info.version.value} {info.size} {info.head.value}, {dtypes}, "
        f"{size_text(total)} of weights in {len(files)} files, whole by their headers"
    )


def _content(checkpoint: Checkpoint, *, hashes: bool, progress: Progress) -> Iterator[Finding]:
    """What the record of a download says of a folder, and the hashes."""
    folder, name = checkpoint.folder, checkpoint.name
    wanted = read_record(folder).get("wanted", {})
    lost = [path for path, size in wanted.items() if not _has_size(folder / path, size)]
    if lost:
        yield wrong(
            f"{name}: {len(lost)} of {len(wanted)} files of its download are missing or unfinished,"
            f" such as {lost[0]!r:.120}",
            _remedy(name),
        )
    known = known_hashes(folder)
    if not known:
        yield fine(f"{name}: no hash is known (it was not downloaded by this pack or by hf)")
    elif hashes:
        yield from _compared(name, folder, known, progress)
    else:
        yield fine(
            f"{name}: hashes of {len(known)} files are known; to compare them (this reads all): "
            f"{own_command('doctor', '--hashes')}"
        )


def known_hashes(folder: Path) -> dict[str, str]:
    """Files of a checkpoint and their published hashes (SHA-256, or SHA-1 of a git blob).

    This pack's downloads record them, and so do those of huggingface_hub to a local folder.
    """
    found: dict[str, str] = {}
    fetched = folder / ".cache" / "huggingface" / "download"
    for part in (fetched, *(fetched / name for name in _PARTS)):
        for file in _entries(part):
            if file.suffix == ".metadata":
                path = file.relative_to(fetched).as_posix().removesuffix(".metadata")
                found[path] = _second_line(file)
    for path, entry in read_record(folder).get("checked", {}).items():
        if isinstance(entry, list) and entry:
            found[path] = str(entry[0])
    return {
        path: value
        for path, value in found.items()
        if _FINGERPRINT.fullmatch(value) and is_file(folder / path) and ".." not in path
    }


def _compared(
    name: str, folder: Path, known: Mapping[str, str], progress: Progress
) -> Iterator[Finding]:
    sizes = {path: (folder / path).stat().st_size for path in known}
    total, done = sum(sizes.values()), 0

    def count(read: int) -> None:
        nonlocal done
        done += read
        progress("verify", done, total)

    damaged = []
    for path, value in known.items():
        kind = {"sha256": value} if len(value) == 64 else {"git_sha1": value}
        try:
            if not matches(folder / path, RemoteFile(path, sizes[path], **kind), count):
                damaged.append(path)
        except OSError as error:
            damaged.append(f"{path} ({error.strerror or error})")
    if damaged:
        yield wrong(
            f"{name}: {len(damaged)} of {len(known)} files do not have their published hash: "
            f"{', '.join(damaged[:5])}",
            _remedy(name) or "Download them again.",
        )
    else:
        yield fine(f"{name}: {len(known)} files have their published hashes")


def _single_files(folders: Folders) -> Iterator[Path]:
    seen = set()
    for key, roots in folders.models.items():
        if key == CHECKPOINTS:
            continue
        for root in roots:
            near = _entries(root)
            below = [file for folder in near if folder.is_dir() for file in _entries(folder)]
            for file in (*near, *below):
                place = os.path.realpath(file)
                if _OWN_NAME.search(file.name) and place not in seen and not file.is_dir():
                    seen.add(place)
                    yield file


def _single(file: Path) -> Finding:
    try:
        opened = open_tensors(file)
    except Exception as error:
        return wrong(_told(error), "Download or convert it again.")
    return fine(
        f"{file.name}: {len(opened.keys())} tensors, {size_text(file.stat().st_size)}, whole by "
        "its header"
    )


def _has_size(path: Path, size: object) -> bool:
    try:
        return path.stat().st_size == size
    except (OSError, ValueError):
        return False


def _second_line(file: Path) -> str:
    """huggingface_hub's records: the commit, the hash, the time."""
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            lines = opened.read(4096).splitlines()
    except OSError:
        return ""
    return lines[1].strip() if len(lines) > 1 else ""
