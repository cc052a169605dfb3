"""What a recipe would open is shown before it is opened: recipes come with videos of strangers."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RecipeError, printable
from ..files.commands import PACK

if TYPE_CHECKING:
    from ..recipe_files import NamedFile


def search_folders(arguments: argparse.Namespace) -> list[Path]:
    """Where the files of a recipe may lie that are not at their paths."""
    from ..hub import find_places
    from ..hub.places import CHECKPOINTS, LORAS
    from ..recipe import near_folders

    places = find_places(PACK, os.environ)
    folders = [arguments.recipe.parent, *arguments.look_in, *near_folders()]
    folders += [*places.folders(CHECKPOINTS), *places.folders(LORAS)]
    return list(dict.fromkeys(folders))


def ask(arguments: argparse.Namespace, recipe: Mapping[str, Any], folders: Sequence[Path]) -> None:
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
