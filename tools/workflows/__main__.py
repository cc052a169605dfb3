"""Write the ready-made workflows into `workflows/`, and the blueprints into `subgraphs/`.

The schemas of their nodes are in `tests/workflows/schemas`. After changing a node, run
`python -m tools.workflows --schemas`; after changing the look of workflows, `--screenshot`, for the
documentation. Both start ComfyUI (see `dev.py comfyui`), the latter a headless Chromium too.
`--pictures` makes those of the template browser, with the small model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from easyanimate_core.console import prepare_streams

from . import blueprints, catalog
from .canvas import FOLDER


def write_workflows() -> None:
    """Write all workflows and remove obsolete ones."""
    FOLDER.mkdir(exist_ok=True)
    wanted = catalog.files()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    for file in FOLDER.iterdir():
        if file.with_suffix(".json").name not in wanted:
            file.unlink()
    print(f"{len(wanted)} workflows in {FOLDER}")


def write_blueprints() -> None:
    """Write all blueprints and remove obsolete ones."""
    blueprints.FOLDER.mkdir(exist_ok=True)
    wanted = blueprints.files()
    for name, text in wanted.items():
        (blueprints.FOLDER / name).write_text(text, encoding="utf-8")
    for file in blueprints.FOLDER.iterdir():
        if file.name not in wanted:
            file.unlink()
    print(f"{len(wanted)} blueprints in {blueprints.FOLDER}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    prepare_streams()
    parser = argparse.ArgumentParser(
        prog="python -m tools.workflows",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--schemas", action="store_true", help="update the node schemas from ComfyUI first"
    )
    parser.add_argument("--pictures", action="store_true", help="make the pictures afterwards")
    parser.add_argument("--screenshot", action="store_true", help="take it afterwards")
    options = parser.parse_args(arguments)
    if options.schemas:
        from .live import write_schemas

        write_schemas()
    write_workflows()
    write_blueprints()
    if options.pictures:
        from .pictures import write_pictures

        write_pictures()
    if options.screenshot:
        from .live import write_screenshot

        write_screenshot()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
