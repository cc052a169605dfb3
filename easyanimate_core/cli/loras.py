"""`--lora FILE[=STRENGTH][:BLOCKS]`, shared by several commands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files.commands import own_command
from ..small_model import LORA_NAMES, named_lora
from .options import path_in

if TYPE_CHECKING:
    from ..weights.lora import Lora

#: The suffix marks the end of the file's name, which may contain colons and equals signs.
_NAMES = "|".join(map(re.escape, LORA_NAMES))
_OPTION = re.compile(
    rf"(?P<file>{_NAMES}|.+?\.safetensors)(?:=(?P<strength>[^:]+))?(?::(?P<blocks>.+))?",
    re.IGNORECASE,
)
_PICKLE = re.compile(r"(?P<file>.+\.(?:bin|pt|pth|ckpt))(?:[=:].*)?", re.IGNORECASE)


def add_options(group: Any, *, required: bool = False) -> None:
    """Add the options for LoRAs."""
    group.add_argument(
        "--lora", action="append", default=[], required=required,
        metavar="FILE[=STRENGTH][:BLOCKS]",
        help="a LoRA's safetensors file, or a built-in one by its name, such as 'small (built in): "
        "InP four steps'; its strength (default: 1), and factors on the strength per block, such "
        "as style.safetensors=0.7:0-17=0.5,18-35=1; may be repeated",
    )  # fmt: skip
    group.add_argument("--lora-partial", action="store_true", default=None,
                       help="accept files with keys that fit no layer")  # fmt: skip


def given(arguments: argparse.Namespace) -> tuple[Lora, ...]:
    """The LoRAs given by the options."""
    if arguments.lora_partial and not arguments.lora:
        raise InputError("--lora-partial has no effect without --lora; omit it.")
    return tuple(_lora(text, partial=bool(arguments.lora_partial)) for text in arguments.lora)


def as_json(used: Sequence[Lora]) -> list[dict[str, Any]]:
    """LoRAs as JSON values, with hashes of their files."""
    from ..recipe import sha256_of_file

    return [
        {
            "file": Path(lora.path).name,
            "sha256": sha256_of_file(Path(lora.path)),
            "strength": lora.strength,
            "blocks": lora.blocks,
        }
        for lora in used
    ]


def _lora(text: str, *, partial: bool) -> Lora:
    from ..weights.lora import Lora

    match = _OPTION.fullmatch(text)
    if match is None:
        named_lora(text)  # raises if it begins like a built-in one
    pickle = _PICKLE.fullmatch(text)
    if match is None and pickle is not None:
        file, target = pickle["file"], Path(pickle["file"]).with_suffix(".safetensors")
        raise InputError(
            f"--lora {text!r} is a pickle, which can run code when it is opened; use a "
            "safetensors file. To convert it without running its code: "
            + own_command("convert", file, target)
        )
    if match is None:
        raise InputError(
            f"--lora {text!r} is not FILE[=STRENGTH][:BLOCKS] with a .safetensors file, such as "
            "style.safetensors=0.7."
        )
    try:
        strength = float(match["strength"] or 1)
    except ValueError:
        raise InputError(
            f"--lora {text!r} has the strength {match['strength']!r}; it must be a number."
        ) from None
    file = named_lora(match["file"]) or path_in(match["file"])
    return Lora(str(file), strength, match["blocks"] or "", partial)
