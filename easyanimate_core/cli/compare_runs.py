"""`compare-runs`: two reports side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "compare-runs",
        help="compare two reports of evaluate or evaluate-meaning",
        description="Compare two reports video by video: means, differences, and for how many "
        "videos either is better, with the sign test's p.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("a", type=Path, metavar="A", help="report.json, or its folder")
    parser.add_argument("b", type=Path, metavar="B", help="the other one")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="folder of compare.json and compare.html")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Compare, and say where the result is."""
    from ..evaluation import compare_reports, comparison_lines, write_comparison

    comparison = compare_reports(arguments.a, arguments.b)
    for line in comparison_lines(comparison):
        print(line)
    for file in write_comparison(arguments.out, comparison):
        print(file)
    return 0
