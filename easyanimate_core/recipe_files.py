"""The files that a recipe names: lists them before anything is opened, and locates them.

A video only has their names, because videos are shared; the sidecar has absolute paths. Names are
enough if the files are nearby, because they are identified by their hash.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from .errors import InputError, MediaError, RecipeError
from .files import foreign_system, is_file, is_folder, named_path, parts_of, sha256_of
from .files.names import windows_fault
from .models.specs import Head, Version

MODEL, LORA, EMBEDDINGS = "model", "LoRA", "embeddings"
#: Name of the folder in which the package's small model is assembled.
BUILT_IN = "small-model"
#: Its heads, by version.
BUILT_IN_HEADS = {
    Version.V5_1: (Head.INPAINT, Head.CONTROL, Head.CAMERA),
    Version.V5: (Head.INPAINT, Head.CONTROL),
}
#: Its LoRAs: their folder in the package, and how their files' names end.
BUILT_IN_LORAS = Path(__file__).parent / "small_model_weights" / "loras"
FEW_STEPS = "-four-steps.safetensors"
_HAS_FOLDERS = re.compile(r"[/\\]")
#: Network shares, and device paths that lead to them.
_REMOTE = re.compile(r"[/\\]{2}|[/\\]\?\?[/\\]")
#: The deepest values are those of a camera path: sources, poses, poses, row, column.
_DEEPEST = 5
#: More than the keyframes of the longest video.
_MOST_FILES = 2000


class BuiltInModel(NamedTuple):
    """A checkpoint of the package's small model."""

    head: Head
    version: Version

    @property
    def name(self) -> str:
        """Its name in lists and in sentences."""
        return self.head.value if self.version is Version.V5_1 else f"V5 {self.head.value}"

    @property
    def folder_name(self) -> str:
        """The last component of its folder's path."""
        return self.name.replace(" ", "-")

    @property
    def few_steps(self) -> Path:
        """Its LoRA for few steps without guidance."""
        return BUILT_IN_LORAS / f"{self.folder_name}{FEW_STEPS}"


#: Every checkpoint of the package's small model.
BUILT_IN_MODELS = tuple(
    BuiltInModel(head, version) for version, heads in BUILT_IN_HEADS.items() for head in heads
)


@dataclass(frozen=True)
class NamedFile:
    """A file of a recipe, or the folder of its model: its `part` in the run, and its `path`.

    `sha256` is "" for a folder; `place` is the key path to the file's path in the recipe's JSON.
    """

    part: str
    path: str
    sha256: str
    place: tuple[str | int, ...]

    @property
    def name(self) -> str:
        """The last component of the path, of whatever system."""
        return next(reversed(parts_of(self.path)), "")

    @property
    def is_built_in(self) -> bool:
        """Whether it is the package's own model or LoRA, which is never opened by this path."""
        known = {MODEL: built_in_model, LORA: built_in_lora}.get(self.part)
        return known is not None and known(self.path) is not None

    @property
    def is_remote(self) -> bool:
        """Whether it is a Windows path where a mere check sends the user's name to a server."""
        return os.name == "nt" and _REMOTE.match(self.path) is not None

    def candidates(
        self, folders: Sequence[Path], *, on_windows: bool = os.name == "nt"
    ) -> list[Path]:
        """Existing candidates: its path, and its name in each of `folders`. Opens nothing.

        On Windows, names that are not valid there are skipped: they could lead to a device, to
        another drive or to an alternate data stream.
        """
        if self.name in ("", "..") or (on_windows and windows_fault(self.name)):
            return []
        paths = [Path(self.path)] if _HAS_FOLDERS.search(self.path) and not self.is_remote else []
        paths += [spelled for folder in folders for spelled in _spellings(folder, self.name)]
        is_there = is_folder if self.part == MODEL else is_source
        return list(dict.fromkeys(path.absolute() for path in paths if is_there(path)))


def built_in_model(path: str) -> BuiltInModel | None:
    """The small model that a path leads to, from any machine; None for other paths."""
    *_, cache, _, name = ["", "", "", *parts_of(path)]
    models = {model.folder_name: model for model in BUILT_IN_MODELS}
    return models.get(name) if cache == BUILT_IN else None


def built_in_lora(path: str) -> Path | None:
    """The package's LoRA that a path leads to, from any machine; None for other paths."""
    parts = tuple(parts_of(path))[-3:]
    own = {file.parts[-3:]: file for file in (model.few_steps for model in BUILT_IN_MODELS)}
    return own.get(parts)


def files_of(recipe: Mapping[str, Any]) -> list[NamedFile]:
    """All files that a recipe's JSON names, and so all that running it would open."""
    model = recipe.get("model")
    found = []
    if isinstance(model, Mapping) and isinstance(model.get("path"), str):
        found.append(NamedFile(MODEL, model["path"], "", ("model", "path")))
    for key, part in (("sources", ""), ("loras", LORA), ("embeddings", EMBEDDINGS)):
        found += islice(_walk(recipe.get(key), part, (key,)), _MOST_FILES)
    if len(found) >= _MOST_FILES:
        raise RecipeError(f"The recipe names {_MOST_FILES:,} files or more, the limit for a run.")
    return found


def without_folders(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with paths reduced to names."""
    changed = dict(recipe)
    for file in files_of(recipe):
        kept = parts_of(file.path)[-3:] if file.is_built_in else [file.name]
        changed = _with_path(changed, file.place, "/".join(kept))
    return changed


def located(recipe: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """The recipe with the current paths of its files; files not found keep their path.

    The first candidate with the right hash is used. This reads files: show an untrusted recipe to
    the user first (`files_of`).
    """
    changed = dict(recipe)
    for file in files_of(recipe):
        own = built_in_lora(file.path) if file.part == LORA else None
        candidates = [] if file.is_built_in else file.candidates(folders)
        candidates += [] if own is None else [own]
        same = (path for path in candidates if not file.sha256 or _has(path, file.sha256))
        found = next(same, candidates[0] if candidates else None)
        if found is not None:
            changed = _with_path(changed, file.place, str(found))
    return changed


def sha256_of_file(file: Path) -> str:
    """SHA-256 of a file's content as hexadecimal; `InputError` if it cannot be read."""
    try:
        return sha256_of(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"{file} cannot be read: {reason}. Give a file that exists and is readable."
        ) from error


def same_file(name: str, value: Mapping[str, Any]) -> Path:
    """A file of a recipe; `RecipeError` unless it exists and its content is unchanged."""
    text = value["file"]
    file = named_path(text, f"The recipe's {name}", RecipeError, of_any_system=True)
    if not is_source(file):
        system = foreign_system(text)
        known = f" (a {system} path)" if system else ""
        raise RecipeError(
            f"The recipe's {name} is {text}{known}. It was not found there, next to the recipe or "
            "in the current folder. Put it there, or name its folder with --look-in."
        )
    if sha256_of_source(file) != value["sha256"]:
        raise RecipeError(
            f"{file} has changed since the recipe was made (its SHA-256 differs), so the result "
            "would differ. Restore the file, or start a new run with generate."
        )
    return file


def whole_path(path: Path) -> str:
    """The absolute path, without resolving links.

    Resolved, a file in Hugging Face's cache would be named by a hash, and a network drive's letter
    on Windows would become its address, where recipes are not searched.
    """
    return str(path.resolve() if ".." in path.parts else path.absolute())


def is_source(path: Path) -> bool:
    """Whether `path` is a file or an image sequence."""
    from .media import find_sequence  # PyTorch's import takes seconds

    try:
        return is_file(path) or find_sequence(path) is not None
    except MediaError:
        return False


def sha256_of_source(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of an image sequence."""
    from .media import find_sequence  # PyTorch's import takes seconds

    sequence = find_sequence(path)
    if sequence is None:
        return sha256_of_file(path)
    total = hashlib.sha256()
    for picture in sequence.pictures:
        total.update(f"{picture.name} {sha256_of_file(picture)}\n".encode("utf-8", "replace"))
    return total.hexdigest()


def _spellings(folder: Path, name: str) -> list[Path]:
    """The name in a folder: as given, and in composed and decomposed Unicode form.

    macOS writes decomposed accents to archives, other systems composed ones; they look the same.
    """
    forms = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    return [folder / form for form in dict.fromkeys(forms)]


def _has(path: Path, sha256: str) -> bool:
    try:
        return sha256_of_source(path) == sha256
    except (InputError, MediaError):
        return False


def _walk(value: Any, part: str, place: tuple[str | int, ...]) -> Iterator[NamedFile]:
    if len(place) > _DEEPEST and isinstance(value, Mapping | list):
        raise RecipeError(f"The recipe's {place[0]} are nested too deeply.")
    if isinstance(value, Mapping) and isinstance(value.get("file"), str):
        digest = value.get("sha256")
        sha256 = digest if isinstance(digest, str) else "none"
        yield NamedFile(part, value["file"], sha256, (*place, "file"))
    elif isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            name = part if isinstance(key, int) or part == LORA else f"{part} {key}".strip()
            yield from _walk(item, name, (*place, key))


def _with_path(value: Any, place: tuple[str | int, ...], path: str) -> Any:
    """A copy of `value` with `path` at `place`."""
    if not place:
        return path
    changed = copy.copy(value)
    changed[place[0]] = _with_path(value[place[0]], place[1:], path)
    return changed
