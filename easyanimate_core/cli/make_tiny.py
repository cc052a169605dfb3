"""`make-tiny`: writes a complete checkpoint with random weights, to test without a download."""

from __future__ import annotations

import argparse
from typing import Any

from ..models.specs import Head, Version
from .options import add_force, path_of


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "make-tiny",
        help="write a tiny checkpoint with random weights",
        description="Write a complete checkpoint folder in the original layout, with its own small "
        "tokenizers and random weights: it runs in seconds on a CPU and generates only noise.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("path", type=path_of, help="folder to write")
    parser.add_argument("--version", choices=[v.value for v in Version], default="V5.1")
    parser.add_argument("--head", choices=[h.value for h in Head], default="InP")
    parser.add_argument("--no-reference", action="store_true",
                        help="a control or camera head without a reference image")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights, default: 0")
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder and print its path."""
    from ..tiny.checkpoint import make_tiny

    version, head = Version(arguments.version), Head(arguments.head)
    path = make_tiny(
        arguments.path,
        version=version,
        head=head,
        reference=version is Version.V5_1 and not arguments.no_reference,
        seed=arguments.seed,
        force=arguments.force,
    )
    print(path)
    return 0
