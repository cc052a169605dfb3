"""The recipe of a video: everything needed to reproduce it.

It is stored in the MP4's metadata and in a JSON sidecar next to the video, and can be read from
either. The metadata, which is shared with the video, only has the names of source files; the
sidecar has their paths. Both have the SHA-256 of their content. A file that has changed since is
rejected, because the result would differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import EasyAnimateError, RecipeError
from .files import (
    MAX_BYTES,
    SWITCH,
    TEXT,
    Rule,
    check_fields,
    json_value,
    listed,
    named_path,
    number,
    read_text,
    short,
)
from .media import (
    Clip,
    media_path,
    read_metadata,
)
from .memory.options import Memory
from .paths.camera import CameraPath, camera_path_from_rows
from .paths.trajectory import Track, tracks_from_json, tracks_to_json
from .recipe_files import (
    located,
    same_file,
    sha256_of_file,
    sha256_of_source,
    whole_path,
    without_folders,
)
from .settings import Settings
from .tasks import TASKS, Task
from .version import __version__
from .weights.files import CheckpointInfo
from .weights.lora import Lora

FORMAT = 1
#: Metadata key of the recipe.
METADATA_KEY = "easyanimate_recipe"

_REQUIRED = ("format", "model", "prompts", "mode", "sources", "settings")
_TOP_LEVEL = (*_REQUIRED, "loras", "made_with", "embeddings", "original_prompts")
_MODEL = ("path", "version", "head", "size", "fingerprint", "dtype")
#: Fields of `Memory` that change the result; written only if used.
_QUANTIZATION = ("quantization", "text_quantization")
_LORA: Mapping[str, Rule] = {
    "file": TEXT,
    "sha256": TEXT,
    "strength": number(-1000, 1000),
    "blocks": TEXT,
    "partial": SWITCH,
}
_OBJECT = Rule("a JSON object", lambda value: isinstance(value, dict))
_RULES: Mapping[str, Rule] = {
    "prompts": listed(TEXT, 1, 1000),
    "loras": listed(_OBJECT, 0, 100),
    "made_with": _OBJECT,
    "original_prompts": listed(TEXT, 0, 1000),
}
_SAMPLE_BYTES = 65536
#: Suffix of the samples of one run, which share a sidecar.
_SAMPLE_NUMBER = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Recipe:
    """Model, prompts, task, settings and LoRAs of a run, and the package versions.

    `model` has path, version, head, size and fingerprint of the checkpoint, the compute dtype, and
    quantization and text_quantization if used; `sources` are the task's sources as JSON values,
    hashed when the run started, like the `loras` in `lora_hashes`; `made_with` has the package
    versions; `embeddings` is the file that replaced the prompts, also hashed; `original_prompts`
    are the short ones, if `prompts` were written from them.
    """

    model: Mapping[str, str]
    prompts: tuple[str, ...]
    task: Task
    sources: Mapping[str, Any]
    settings: Settings
    made_with: Mapping[str, str]
    embeddings: Mapping[str, str] | None = None
    loras: tuple[Lora, ...] = ()
    lora_hashes: tuple[str, ...] = ()
    original_prompts: tuple[str, ...] = ()

    @property
    def memory(self) -> Memory:
        """The memory options that change the result."""
        return Memory(
            quantization=self.model.get("quantization", "none"),
            text_quantization=self.model.get("text_quantization", "none"),
        )

    @classmethod
    def of_run(
        cls,
        info: CheckpointInfo,
        prompts: Sequence[str],
        task: Task,
        settings: Settings,
        *,
        dtype: torch.dtype,
        embeddings: Path | None = None,
        memory: Memory,
        loras: Sequence[Lora] = (),
    ) -> Recipe:
        """The recipe of a run that starts now on this machine."""
        model = {
            "path": whole_path(info.path),
            "version": info.version.value,
            "head": info.head.value,
            "size": info.size,
            "fingerprint": fingerprint(info),
            "dtype": str(dtype).removeprefix("torch."),
        }
        model |= {k: v for k in _QUANTIZATION if (v := getattr(memory, k)) != "none"}
        hashes = tuple(sha256_of_file(Path(lora.path)) for lora in loras)
        sources = {
            field.name: _to_json(field.name, getattr(task, field.name))
            for field in dataclasses.fields(task)
        }
        made_with = _versions()
        file = None if embeddings is None else _to_json("embeddings", embeddings)
        return cls(
            model, tuple(prompts), task, sources, settings, made_with, file, tuple(loras), hashes
        )

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        file = {} if self.embeddings is None else {"embeddings": dict(self.embeddings)}
        short_ones = list(self.original_prompts)
        loras = [
            {
                "file": whole_path(Path(lora.path)),
                "sha256": sha256,
                "strength": lora.strength,
                "blocks": lora.blocks,
                "partial": lora.partial,
            }
            for lora, sha256 in zip(self.loras, self.lora_hashes, strict=True)
        ]
        return {
            "format": FORMAT,
            "model": dict(self.model),
            "prompts": list(self.prompts),
            **({"original_prompts": short_ones} if short_ones else {}),
            "mode": self.task.mode,
            "sources": dict(self.sources),
            "settings": dataclasses.asdict(self.settings),
            **({"loras": loras} if loras else {}),
            "made_with": dict(self.made_with),
            **file,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """Parse a recipe; unknown or missing keys are rejected by name."""
        _check_keys("recipe", value, _TOP_LEVEL, required=_REQUIRED)
        if value["format"] != FORMAT:
            raise RecipeError(
                f"The recipe has format {short(value['format'])}; this version reads {FORMAT}."
            )
        allowed = (*_MODEL, *_QUANTIZATION)
        _check_keys("recipe's model", value["model"], allowed, required=_MODEL)
        _check_texts("recipe's model", list(value["model"].values()))
        named_path(value["model"]["path"], "The recipe's model", RecipeError, of_any_system=True)
        _check_texts("recipe's prompts", value["prompts"])
        _check_texts("recipe's original_prompts", value.get("original_prompts", []))
        check_fields(value, _RULES, "The recipe", RecipeError)
        made_with = value.get("made_with", {})
        _check_texts("recipe's made_with", list(made_with.values()))
        if value["mode"] not in list(TASKS):
            raise RecipeError(
                f"The recipe has mode {short(value['mode'])}; it must be one of {', '.join(TASKS)}."
            )
        task_class = TASKS[value["mode"]]
        names = [field.name for field in dataclasses.fields(task_class)]
        _check_keys("recipe's sources", value["sources"], names)
        settings_names = [field.name for field in dataclasses.fields(Settings)]
        _check_keys("recipe's settings", value["settings"], settings_names)
        try:
            task = task_class(**{k: _from_json(k, v) for k, v in value["sources"].items()})
            settings = Settings(**value["settings"])
        except EasyAnimateError:
            raise
        except (ArithmeticError, TypeError, ValueError) as error:
            raise RecipeError(
                f"The recipe is incomplete or has a value of the wrong type: {error}."
            ) from error
        embeddings = value.get("embeddings")
        if embeddings is not None:
            _from_json("embeddings", embeddings)  # checks that it exists and is unchanged
        return cls(
            dict(value["model"]),
            tuple(value["prompts"]),
            task,
            dict(value["sources"]),
            settings,
            dict(made_with),
            embeddings,
            *_loras_from_json(value.get("loras", [])),
            tuple(value.get("original_prompts", ())),
        )

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe from a .json file, or from a video or image that embeds one.

        Files missing at their paths are searched by name next to the recipe, in the current folder
        and in its models folder. An untrusted recipe may name any file on this machine: `files_of`
        lists what would be opened.
        """
        value = cls.read_value(path)
        return cls.from_json(located(value, [Path(path).parent, *near_folders()]))

    @staticmethod
    def read_value(path: str | Path) -> dict[str, Any]:
        """The JSON of a recipe, for `files_of` and `from_json`; accesses none of its files."""
        path = Path(path)
        if path.suffix.lower() not in (".mp4", ".png"):
            text = read_text(path, error=RecipeError)
            return json_value(text, dict, f"The recipe {path}", error=RecipeError)
        found = read_metadata(path).get(METADATA_KEY)
        if found is None:
            raise RecipeError(
                f"{path} has no recipe in its metadata: it was not made by EasyAnimate."
            )
        if len(found) > MAX_BYTES:
            raise RecipeError(
                f"The recipe in {path} has {len(found):,} characters; at most {MAX_BYTES:,} are "
                "allowed."
            )
        value = json_value(found, dict, f"The recipe {path}", error=RecipeError)
        return _sidecar(path, value) or value


def fingerprint(info: CheckpointInfo) -> str:
    """Identifies a checkpoint without reading it whole: hashes headers and samples of its files."""
    digest = hashlib.sha256()
    for files in (info.transformer_files, info.vae_files, *info.text_encoders):
        for name in sorted(files):
            digest.update(f"{name} {files[name].dtype} {files[name].shape}".encode())
        for file in files.files:
            with file.open("rb") as opened:
                opened.seek(max(0, file.stat().st_size - _SAMPLE_BYTES) // 2)
                digest.update(opened.read(_SAMPLE_BYTES))
                opened.seek(max(0, file.stat().st_size - _SAMPLE_BYTES))
                digest.update(opened.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]


def _to_json(name: str, value: Any) -> Any:
    if isinstance(value, Clip):
        return _pixels_to_json(value.frames)
    if isinstance(value, Tensor):
        return _pixels_to_json(value)
    if isinstance(value, CameraPath):
        return {"poses": _camera_rows(value)}
    if isinstance(value, Mapping):
        return {str(key): _to_json(name, item) for key, item in value.items()}
    if isinstance(value, Track):
        return {"tracks": tracks_to_json([value])}
    if isinstance(value, str) and name == "tracks" and value.lstrip().startswith("["):
        return {"json": value}
    if isinstance(value, os.PathLike) or (isinstance(value, str) and name in FILE_FIELDS):
        file = media_path(value)
        return {"file": whole_path(file), "sha256": sha256_of_source(file)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_to_json(name, item) for item in value]
    return value


FILE_FIELDS = (
    "start", "end", "keyframes", "video", "mask", "reference", "poses", "tracks", "embeddings",
)  # fmt: skip
#: Allowed types of a value other than list and object. A file is an object with its SHA-256.
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "strength": (int, float),
    "speed": (int, float),
    "original_timing": (bool,),
    "moves": (str,),
    "keyframe": (),
    **{name: (type(None),) for name in FILE_FIELDS},
}


def _from_json(name: str, value: Any) -> Any:
    if name == "keyframes" and isinstance(value, dict):
        return {int(key): _from_json("keyframe", item) for key, item in value.items()}
    if isinstance(value, list) and name in ("moves", "tracks"):
        if any(isinstance(item, list) for item in value):
            raise RecipeError(f"The recipe's {name} are {short(value)}, a nested list.")
        return tuple(_from_json(name, item) for item in value)
    if not isinstance(value, dict):
        wanted = _FIELD_TYPES.get(name)
        if wanted is not None and type(value) not in wanted:
            raise RecipeError(f"The recipe's {name} is {short(value)}, which is not a valid value.")
        return value
    if "pixels_sha256" in value:
        raise RecipeError(
            f"The recipe's {name} was given as pixels in memory, not as a file, so the recipe "
            "alone cannot reproduce it. Run the script that made it."
        )
    if name == "poses" and set(value) == {"poses"}:
        return camera_path_from_rows(value["poses"])
    if name == "tracks" and set(value) in ({"tracks"}, {"json"}):
        (text,) = value.values()
        _check_texts(f"recipe's {name}", [text])
        return tracks_from_json(text)[0] if "tracks" in value else _track_text(text)
    _check_keys(f"recipe's {name}", value, ("file", "sha256"), required=("file", "sha256"))
    _check_texts(f"recipe's {name}", list(value.values()))
    return same_file(name, value)


def _sidecar(video: Path, value: dict[str, Any]) -> dict[str, Any] | None:
    """The sidecar of a result, which has the paths of files, if it is the same recipe."""
    for stem in dict.fromkeys((video.stem, _SAMPLE_NUMBER.sub("", video.stem))):
        file = video.with_name(f"{stem}.json")
        try:
            beside = json_value(read_text(file, error=RecipeError), dict, "", error=RecipeError)
            if without_folders(beside) == value:
                return beside
        except RecipeError:
            continue  # an unrelated file with this name
    return None


def _track_text(text: Any) -> str:
    """Tracks given as JSON text; any other text would be opened as a file."""
    if not isinstance(text, str) or not text.lstrip().startswith("["):
        raise RecipeError(f"The recipe's tracks are {text!r}, which is not a list of tracks.")
    return text


def near_folders() -> list[Path]:
    """Folders to search for the files of a recipe, besides the recipe's own folder."""
    here = Path.cwd()
    models = here / "models"
    return [here, models, models / "EasyAnimate", models / "loras"]


def _loras_from_json(value: Any) -> tuple[tuple[Lora, ...], tuple[str, ...]]:
    """LoRAs, and the SHA-256 of each."""
    loras = []
    for item in value:
        _check_keys("recipe's LoRA", item, tuple(_LORA), required=tuple(_LORA))
        check_fields(item, _LORA, "The recipe's LoRA", RecipeError)
        file = same_file("LoRA", item)
        loras.append(Lora(file, item["strength"], item["blocks"], item["partial"]))
    return tuple(loras), tuple(item["sha256"] for item in value)


def _check_keys(
    what: str, value: Any, allowed: Sequence[str], *, required: Sequence[str] = ()
) -> None:
    if not isinstance(value, Mapping):
        raise RecipeError(f"The {what} must be a JSON object, not {short(value)}.")
    unknown = sorted(set(value) - set(allowed))
    if unknown:
        names = ", ".join(short(key)[1:-1] for key in unknown[:6])
        raise RecipeError(f"The {what} has the unknown key {names}. Allowed: {', '.join(allowed)}.")
    missing = [key for key in required if key not in value]
    if missing:
        raise RecipeError(f"The {what} lacks {', '.join(missing)}.")


def _check_texts(what: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise RecipeError(f"The {what} must be texts, not {short(value)}.")


def _camera_rows(path: CameraPath) -> list[list[float]]:
    """Rows of `camera_path_from_rows`."""
    return [
        [float(index), lens.fx, lens.fy, lens.cx, lens.cy, 0.0, 0.0, *pose.flatten().tolist()]
        for index, (pose, lens) in enumerate(
            zip(path.world_to_camera, path.intrinsics, strict=True)
        )
    ]


def _pixels_to_json(pixels: Tensor) -> dict[str, Any]:
    plain = pixels.detach().to("cpu", torch.float32).contiguous()
    digest = hashlib.sha256(plain.numpy().tobytes()).hexdigest()
    return {"pixels_sha256": digest, "shape": list(pixels.shape)}


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "safetensors", "av")
    found = {name: metadata.version(name) for name in packages}
    return {"easyanimate_core": __version__, "python": platform.python_version(), **found}
