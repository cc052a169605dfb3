"""`compare-runs`: compares two reports."""

from __future__ import annotations

import argparse
from typing import Any

from .options import add_force, path_of


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "compare-runs",
        help="compare two reports of evaluate or evaluate-meaning",
        description="Compare two reports video by video: means, differences, and the number of "
        "videos for which each is better, with the p-value of a sign test.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("a", type=path_of, metavar="A", help="report.json, or its folder")
    parser.add_argument("b", type=path_of, metavar="B", help="the other report")
    parser.add_argument("--out", type=path_of, required=True, metavar="DIR",
                        help="folder for compare.json and compare.html")  # fmt: skip
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare, and print where the result is."""
    from ..evaluation import (
        check_comparison,
        compare_reports,
        comparison_lines,
        write_comparison,
    )

    check_comparison(arguments.out, [arguments.a, arguments.b], force=arguments.force)
    comparison = compare_reports(arguments.a, arguments.b)
    written = write_comparison(arguments.out, comparison)
    for line in (*comparison_lines(comparison), *written):
        print(line)
    return 0
