"""From a finished video's recipe back to the form's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import RecipeError
from ..files import short
from ..memory.options import Memory
from ..settings import Settings
from ..tasks import TASKS
from .checkpoints import Checkpoints
from .request import FILES, SWITCHES, WHOLE, fields_of
from .results import Result, Results

#: Notes for the user: a key of `WORDS` and what it names.
Notes = list[tuple[str, str]]


def restored(
    result: Result, checkpoints: Checkpoints, results: Results
) -> tuple[dict[str, Any], Notes]:
    """The form's values from a result's recipe, and notes on what could not be restored.

    A recipe is only text: nothing that it names is opened but sources in the output folder.

    Raises:
        RecipeError: The recipe is not valid.
    """
    recipe = result.recipe
    mode, model = recipe.get("mode"), recipe.get("model")
    if mode not in TASKS or not isinstance(model, Mapping):
        raise RecipeError(
            f"The recipe of {short(result.file.name)} has the mode {short(mode)}; it must be one "
            f"of {', '.join(TASKS)}."
        )
    notes: Notes = []
    values: dict[str, Any] = {"prompt": result.prompt, "mode": mode, "preprocessor": ""}
    name = checkpoints.name_of(str(model.get("path")))
    if name is None:
        notes.append(("other_model", short(model.get("path"))))
    else:
        values["model"] = name
    values |= _settings(recipe, result)
    values |= {name: model.get(name, "none") for name in ("quantization", "text_quantization")}
    values |= {n: getattr(Memory, n) for n in ("offload", "sequential_guidance", "resident_blocks")}
    sources, lacking = _sources(str(mode), recipe, results)
    notes += [("again", ", ".join(lacking))] if lacking else []
    return values | sources, notes


def _settings(recipe: Mapping[str, Any], result: Result) -> dict[str, Any]:
    try:
        settings = Settings(**recipe["settings"])
    except (KeyError, TypeError) as error:
        raise RecipeError(
            f"The settings in the recipe of {short(result.file.name)} are not valid: {error}."
        ) from error
    named = {value: word for word, value in SWITCHES.items()}
    return {
        **vars(settings),
        **{n: "" if (v := getattr(settings, n)) is None else str(v) for n in WHOLE},
        "keep_known": named[settings.keep_known],
        "scheduler": settings.scheduler or "",
    }


def _sources(
    mode: str, recipe: Mapping[str, Any], results: Results
) -> tuple[dict[str, Any], list[str]]:
    """The sources' values, and the names of those that must be given again."""
    given = recipe.get("sources")
    given = given if isinstance(given, Mapping) else {}
    own = results.own_sources(recipe)
    values: dict[str, Any] = {name: None for name in FILES if name in fields_of(mode)}
    lacking = []
    for name, value in given.items():
        if name == "tracks" and isinstance(value, Mapping) and isinstance(value.get("json"), str):
            values[name] = value["json"]
        elif name not in fields_of(mode) or isinstance(value, Mapping):
            if name in own:
                values[name] = str(own[name])
            elif value:
                lacking.append(name)
        elif value is not None:
            values[name] = str(value) if name == "strength" else value
    return values, lacking
