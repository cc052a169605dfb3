"""`--recipe`: the run of a recipe, made again.

What a recipe would open is shown before it is opened: recipes come with videos of strangers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, RecipeError, printable
from ..files import foreign_system, is_folder
from ..files.commands import PACK
from ..memory.options import Memory
from .options import flag

if TYPE_CHECKING:
    from ..recipe_files import NamedFile


def read(arguments: argparse.Namespace) -> Any:
    """The recipe, once it is allowed to open the files that it names."""
    from ..recipe import Recipe
    from ..recipe_files import located

    memory = (field.name for field in fields(Memory))
    beside = ("command", "run", "verbose", "recipe", "model", "output", "device", "dtype", *memory,
              "embedding_cache", "force", "yes", "look_in")  # fmt: skip
    given = [n for n, v in vars(arguments).items() if n not in beside and v not in (None, [])]
    if given:
        raise InputError(
            f"--recipe brings its own prompt, sources and settings; leave "
            f"{', '.join(map(flag, given))} out."
        )
    value = Recipe.read_value(arguments.recipe)
    folders = _search_folders(arguments)
    _ask(arguments, value, folders)
    return Recipe.from_json(located(value, folders))


def prompts_of(recipe: Any) -> Any:
    """The prompts of a recipe, or the embeddings that stand for them."""
    from ..text import read_embeddings

    return (
        recipe.prompts if recipe.embeddings is None else read_embeddings(recipe.embeddings["file"])
    )


def model_of(recipe: Any) -> Path:
    """The checkpoint that a recipe names."""
    from ..small_model import made_again

    named = recipe.model["path"]
    model = made_again(named)
    if model is None and is_folder(Path(named)):
        model = Path(named)
    if model is None:
        system = foreign_system(named)
        known = f" (a path of {system})" if system else ""
        raise RecipeError(
            f"The recipe's checkpoint {named}{known} is not there. Name it with --model."
        )
    return model


def check_same_model(recipe: Any, pipeline: Any, *, told: bool) -> None:
    """Refuse another checkpoint than the recipe's, unless the user has named it."""
    from ..recipe import fingerprint

    if fingerprint(pipeline.info) == recipe.model["fingerprint"]:
        return
    if not told:
        raise RecipeError(
            f"{pipeline.info.path} is not the checkpoint that the recipe was made with. "
            "Restore it, or name a checkpoint with --model to use that one."
        )
    print("note: this is another checkpoint than the recipe's; the result will differ.")


def _search_folders(arguments: argparse.Namespace) -> list[Path]:
    """Where the files of a recipe may lie that are not at their paths."""
    from ..hub import find_places
    from ..hub.places import CHECKPOINTS, LORAS
    from ..recipe import near_folders

    places = find_places(PACK, os.environ)
    folders = [arguments.recipe.parent, *arguments.look_in, *near_folders()]
    folders += [*places.folders(CHECKPOINTS), *places.folders(LORAS)]
    return list(dict.fromkeys(folders))


def _ask(arguments: argparse.Namespace, recipe: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """Raise `RecipeError` unless the user lets the recipe open what it names.

    What the user has named needs no question, nor does the model that comes with the package.
    """
    from ..recipe_files import MODEL, files_of

    named = [
        file
        for file in files_of(recipe)
        if not file.is_built_in and not (file.part == MODEL and arguments.model is not None)
    ]
    if not named:
        return
    source = printable(str(arguments.recipe))
    lines = [f"The recipe {source} opens:", *(_line(file, folders) for file in named)]
    print("\n".join(lines), file=sys.stdout if arguments.yes else sys.stderr, flush=True)
    if not arguments.yes and not _agreed():
        raise RecipeError(
            f"Nothing of the recipe {source} was opened. Look at the list, and add --yes to allow "
            "it."
        )


def _line(file: NamedFile, folders: Sequence[Path]) -> str:
    if file.is_remote:
        where = f"{file.path} (on another machine, not looked for)"
    else:
        found = file.candidates(folders)
        there = " or ".join(map(str, found))
        where = f"{there} (is there)" if found else f"{file.path} (is not there)"
    return f"  {printable(file.part):<12} {printable(where)}"


def _agreed() -> bool:
    """The answer on a terminal; without one nobody can agree."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("Open them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
