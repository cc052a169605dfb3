"""`--recipe`: repeats the run of a recipe.

It asks before a recipe opens files, because recipes come with other people's videos.
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
from ..memory.options import Kernels, Memory
from .options import flag

if TYPE_CHECKING:
    from ..recipe_files import NamedFile


def read(arguments: argparse.Namespace) -> Any:
    """The recipe, after the user has allowed it to open the files that it names."""
    from ..recipe import Recipe
    from ..recipe_files import located

    memory = (field.name for kind in (Memory, Kernels) for field in fields(kind))
    beside = ("command", "run", "verbose", "recipe", "model", "output", "device", "dtype", *memory,
              "embedding_cache", "force", "yes", "look_in")  # fmt: skip
    given = [n for n, v in vars(arguments).items() if n not in beside and v not in (None, [])]
    if given:
        raise InputError(
            f"--recipe has its own prompt, sources and settings; omit "
            f"{', '.join(map(flag, given))}."
        )
    value = Recipe.read_value(arguments.recipe)
    folders = _search_folders(arguments)
    _ask(arguments, value, folders)
    return Recipe.from_json(located(value, folders))


def prompts_of(recipe: Any) -> Any:
    """The prompts of a recipe, or their embeddings."""
    from ..text import read_embeddings

    return (
        recipe.prompts if recipe.embeddings is None else read_embeddings(recipe.embeddings["file"])
    )


def model_of(recipe: Any) -> Path:
    """The recipe's checkpoint."""
    from ..small_model import made_again

    named = recipe.model["path"]
    model = made_again(named)
    if model is None and is_folder(Path(named)):
        model = Path(named)
    if model is None:
        system = foreign_system(named)
        known = f" (a {system} path)" if system else ""
        raise RecipeError(
            f"The recipe's checkpoint {named}{known} does not exist. Set it with --model."
        )
    return model


def check_same_model(recipe: Any, pipeline: Any, *, told: bool) -> None:
    """Raise if the checkpoint differs from the recipe's, unless the user chose it."""
    from ..recipe import fingerprint

    if fingerprint(pipeline.info) == recipe.model["fingerprint"]:
        return
    if not told:
        raise RecipeError(
            f"{pipeline.info.path} is not the checkpoint that the recipe was made with. "
            "Restore it, or choose another checkpoint with --model."
        )
    print("note: the checkpoint differs from the recipe's; the result will differ, too.")


def _search_folders(arguments: argparse.Namespace) -> list[Path]:
    """The folders to search for files of a recipe that are not at their paths."""
    from ..hub import find_places
    from ..hub.places import CHECKPOINTS, LORAS
    from ..recipe import near_folders

    places = find_places(PACK, os.environ)
    folders = [arguments.recipe.parent, *arguments.look_in, *near_folders()]
    folders += [*places.folders(CHECKPOINTS), *places.folders(LORAS)]
    return list(dict.fromkeys(folders))


def _ask(arguments: argparse.Namespace, recipe: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """Raise `RecipeError` unless the user allows the recipe to open the files that it names.

    Files given by the user and the package's own model need no confirmation.
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
            f"No file of the recipe {source} was opened. Check the list, and add --yes to allow it."
        )


def _line(file: NamedFile, folders: Sequence[Path]) -> str:
    if file.is_remote:
        where = f"{file.path} (on another machine, not searched)"
    else:
        found = file.candidates(folders)
        there = " or ".join(map(str, found))
        where = f"{there} (found)" if found else f"{file.path} (not found)"
    return f"  {printable(file.part):<12} {printable(where)}"


def _agreed() -> bool:
    """Ask on the terminal; without one, the answer is no."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("Open them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
