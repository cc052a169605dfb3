"""Write the ready-made workflows into `workflows/`.

The schemas of the nodes that they are made from lie in `tests/workflows/schemas`. After a change of
a node: `python -m tools.workflows --schemas`; after a change of how workflows look: `--thumbnails`.
Both start ComfyUI (see `dev.py comfyui`), the second a headless Chromium too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from easyanimate_core.console import prepare_streams

from . import catalog
from .canvas import FOLDER


def write_workflows() -> None:
    """Write all of them and remove what is no longer made."""
    FOLDER.mkdir(exist_ok=True)
    wanted = catalog.files()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    for file in FOLDER.iterdir():
        if file.with_suffix(".json").name not in wanted:
            file.unlink()
    print(f"{len(wanted)} workflows in {FOLDER}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the options say."""
    prepare_streams()
    parser = argparse.ArgumentParser(
        prog="python -m tools.workflows",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--schemas", action="store_true", help="ask ComfyUI for them first")
    parser.add_argument("--thumbnails", action="store_true", help="take the pictures afterwards")
    options = parser.parse_args(arguments)
    if options.schemas:
        from .live import write_schemas

        write_schemas()
    write_workflows()
    if options.thumbnails:
        from .live import write_pictures

        write_pictures()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
