"""From the form's values to a run: the task, its settings, and how the model is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import short
from ..media import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from ..memory.options import Memory
from ..preprocess import Detection, check_packages
from ..settings import Settings
from ..small_model import NAMES, fitted
from ..tasks import TASKS, Task, check_head
from .checkpoints import Checkpoints
from .results import Results

#: Sources that are files, and modes' fields that have no place in the form.
FILES = ("start", "end", "video", "mask", "poses", "reference")
LEFT_OUT = ("keyframes",)
_SUFFIXES = {"poses": (".txt",)}
#: No preprocessor: the clip is a control video already.
AS_IT_IS = ""
#: What the form calls the three values of `keep_known`.
SWITCHES = {"auto": None, "on": True, "off": False}
#: Settings that the form has as text.
WHOLE = ("height", "width", "frames", "tile", "seed")
_LONGEST_PROMPT = 20_000


@dataclass(frozen=True)
class Request:
    """A run that was checked: what the pipeline is called with, and the kind of preprocessor."""

    model: str
    checkpoint: Path
    prompt: str
    task: Task
    settings: Settings
    memory: Memory
    preprocessor: str = AS_IT_IS


def fields_of(mode: str) -> tuple[str, ...]:
    """The sources of a mode that the form has."""
    names = [field.name for field in dataclasses.fields(TASKS[mode])]
    return tuple(name for name in names if name not in LEFT_OUT)


def sources() -> tuple[str, ...]:
    """The sources of all modes."""
    return tuple(dict.fromkeys(name for mode in TASKS for name in fields_of(mode)))


def names_of(kind: Any) -> tuple[str, ...]:
    """The names of a dataclass's fields."""
    return tuple(field.name for field in dataclasses.fields(kind))


def default_of(mode: str, name: str) -> Any:
    """The default of a mode's field; None if it has none."""
    (field,) = (field for field in dataclasses.fields(TASKS[mode]) if field.name == name)
    return None if field.default is dataclasses.MISSING else field.default


def of_mode(values: Mapping[str, Any]) -> dict[str, Any]:
    """The form's values without the sources of other modes, which the page hides."""
    hidden = {*sources(), "preprocessor"} - {*_shown(values["mode"])}
    return {name: value for name, value in values.items() if name not in hidden}


def _shown(mode: str) -> tuple[str, ...]:
    return (*fields_of(mode), "preprocessor") if mode == "control" else fields_of(mode)


def request_of(values: Mapping[str, Any], checkpoints: Checkpoints, results: Results) -> Request:
    """The run that the form describes; everything that can be checked before it starts is.

    Files of the form are copied to the output folder, so that the recipe can be repeated.

    Raises:
        EasyAnimateError: A value breaks a rule, or a source cannot be read.
    """
    mode = values["mode"]
    if mode not in TASKS:
        raise InputError(f"mode is {short(mode)}; it must be one of {', '.join(TASKS)}.")
    prompt = str(values["prompt"] or "").strip()
    if not prompt or len(prompt) > _LONGEST_PROMPT:
        raise InputError(
            f"The prompt has {len(prompt):,} characters; write at least 1 and at most "
            f"{_LONGEST_PROMPT:,}."
        )
    _refuse_unused(mode, values)
    model = str(values["model"])
    settings = settings_of(values)
    settings = fitted(settings) if model in NAMES else settings
    memory = Memory(**{name: _given(values, name, Memory) for name in names_of(Memory)})
    info = checkpoints.info(model)
    task = _task_of(mode, values)
    check_head(task, info.transformer)
    settings.scheduler_for(info.version, info.scheduler, strength=task.strength)
    loaded = task.load(max_seconds=settings.source_seconds(), fit=settings.fit())
    kind = values.get("preprocessor") or AS_IT_IS
    if kind:
        check_packages(Detection(kind).facts)
    else:
        loaded.align(settings.target(loaded))
    return Request(model, info.path, prompt, _kept(task, results), settings, memory, kind)


def settings_of(values: Mapping[str, Any]) -> Settings:
    """The settings of the form."""
    given = {name: _given(values, name, Settings) for name in names_of(Settings)}
    for name in WHOLE:
        given[name] = None if given[name] is None else _number(name, given[name], int)
    given["keep_known"] = SWITCHES.get(given["keep_known"], given["keep_known"])
    return Settings(**given)


def _given(values: Mapping[str, Any], name: str, kind: type) -> Any:
    """A value of the form, or the field's default where the form is empty."""
    value = values.get(name)
    empty = value is None or (value == "" and name != "negative_prompt")
    return getattr(kind, name) if empty else value


def _task_of(mode: str, values: Mapping[str, Any]) -> Task:
    given: dict[str, Any] = {}
    for name in fields_of(mode):
        value = values.get(name)
        if value is None or value in ("", []):
            continue
        given[name] = _source(name, value) if name in FILES else value
    if "tracks" in given and not str(given["tracks"]).lstrip().startswith("["):
        raise InputError(
            f"The tracks are {short(given['tracks'])}; they must be a list, such as "
            '[[{"x": 10, "y": 48}, {"x": 80, "y": 48}]].'
        )
    if "strength" in given:
        given["strength"] = _number("strength", given["strength"], float)
    if "moves" in given:
        given["moves"] = tuple(given["moves"])
    needed = [
        field.name
        for field in dataclasses.fields(TASKS[mode])
        if field.default is field.default_factory is dataclasses.MISSING
    ]
    lacking = [name for name in needed if name not in given]
    if lacking:
        raise InputError(
            f"The mode {mode.replace('_', ' ')} needs {' and '.join(lacking)}; add "
            f"{'it' if len(lacking) == 1 else 'them'} to the form."
        )
    return TASKS[mode](**given)


def _source(name: str, upload: Any) -> Path:
    """An uploaded file; its kind is judged by its content when it is read."""
    file = Path(upload)
    suffixes = _SUFFIXES.get(name, (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES))
    if file.suffix.lower() not in suffixes:
        raise InputError(f"The {name} is {short(file.name)}; it must end in {', '.join(suffixes)}.")
    if not file.is_file() or not file.stat().st_size:
        raise InputError(f"The {name} {short(file.name)} is empty or gone; add it again.")
    return file


def _kept(task: Task, results: Results) -> Task:
    """The task with copies of its files in the output folder."""
    given = {name: getattr(task, name) for name in fields_of(task.mode) if name in FILES}
    kept = {name: results.keep(file) for name, file in given.items() if file is not None}
    return dataclasses.replace(task, **kept)


def _refuse_unused(mode: str, values: Mapping[str, Any]) -> None:
    """Raise `InputError` for a source that the mode would ignore."""
    for name in {*sources(), "preprocessor"} - {*_shown(mode)}:
        defaults = {repr(default_of(m, name)) for m in TASKS if name in fields_of(m)}
        value = values.get(name)
        if value not in (None, "", [], ()) and repr(value) not in defaults:
            modes = [m for m in TASKS if name in _shown(m)]
            raise InputError(f"{name} has no effect on {mode}; it is for {' and '.join(modes)}.")


def _number(name: str, value: Any, kind: type[int] | type[float]) -> int | float:
    """A number of a text field, which can be empty as the page's number fields cannot."""
    try:
        return kind(str(value).strip())
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} is {short(value)}; it must be {what}.") from None
