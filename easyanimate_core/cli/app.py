"""`app`: serves the web page."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.commands import PACK, own_command
from .memory import add_memory
from .options import add_device, add_dtype, add_embedding_cache, path_of
from .settings import add_settings
from .sources import add_sources

_PASSWORD = "EASYANIMATE_PASSWORD"  # noqa: S105  (the name of a variable)
_EXAMPLES = """\
examples:
  app
  app --models models/EasyAnimate --output videos --port 8000
  app --host 0.0.0.0 --user me        (asks for a password)

Scripts can use the page, too: docs/app.md.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "app",
        help="serve a web page that makes videos",
        description="Serve a web page that makes videos in every mode, with a queue and a gallery. "
        "Only this machine can open it unless --host says otherwise.\n\n" + _EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--models", type=path_of, action="append", metavar="DIR",
                        help="checkpoint folder, or a folder of some; may be repeated; default: "
                        "ComfyUI's models/EasyAnimate, else that of the current "
                        "folder")  # fmt: skip
    parser.add_argument("--output", type=path_of, default=Path("outputs"), metavar="DIR",
                        help="folder of the finished videos (default: %(default)s)")  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1",
                        help="address to serve on; 0.0.0.0: every machine of the network can use "
                        "the page (default: %(default)s)")  # fmt: skip
    parser.add_argument("--port", type=int, default=7860,
                        help="0: any free one (default: %(default)s)")  # fmt: skip
    parser.add_argument("--user", help="ask visitors for this name and a password, which is typed "
                        f"or taken from the environment variable {_PASSWORD}")  # fmt: skip
    parser.add_argument("--weights", type=path_of, action="append", default=[], metavar="DIR",
                        help="folder of preprocessors' weights; may be repeated; default: "
                        "ComfyUI's models/controlnet_aux, else that of the current "
                        "folder")  # fmt: skip
    add_device(parser)
    add_dtype(parser)
    add_embedding_cache(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from ..files.packages import require
    from ..hub.places import CHECKPOINTS, DETECTORS, find_places

    require("The web page", ("gradio",))
    from ..app.runner import Machine
    from ..app.server import Offer, Place, serve

    places, here = find_places(PACK, os.environ), Path("models")
    machine = Machine(
        arguments.device,
        arguments.dtype,
        tuple(arguments.weights or places.folders(DETECTORS) or [here / DETECTORS]),
        arguments.embedding_cache,
    )
    models = arguments.models or places.folders(CHECKPOINTS) or [here / CHECKPOINTS, here]
    place = Place(arguments.host, arguments.port, _account(arguments.user))
    if not place.is_local:
        _warn_of_visitors(place)
    serve(place, Offer(models, arguments.output, _helps(), machine), _tell)
    return 0


def _tell(address: str) -> None:
    print(f"EasyAnimate is at {address} (Ctrl-C stops it)", flush=True)


def _account(user: str | None) -> tuple[str, str] | None:
    """The user's name and password; a password on the command line could be read by anybody."""
    if user is None:
        return None
    password = os.environ.get(_PASSWORD)
    if password is None and sys.stdin is not None and sys.stdin.isatty():
        password = getpass.getpass(f"Password for {user}: ")
    if not user or not password:
        raise InputError(
            f"--user needs a name and a password: type it when asked, or set the environment "
            f"variable {_PASSWORD}."
        )
    return user, password


def _warn_of_visitors(place: Any) -> None:
    who = "anybody who knows the password" if place.account else "anybody"
    print(
        f"note: {who} in the network can now use this machine through the page and see every video "
        "in the output folder. The connection is not encrypted.",
        file=sys.stderr,
    )
    if place.account is None:
        with_password = own_command("app", "--host", place.host, "--user", "NAME")
        print(f"note: to ask for a password: {with_password}", file=sys.stderr)


class _Helps(dict[str, str]):
    """Stands in for a parser: collects the help of every option."""

    def add_argument(self, flag: str, *, help: str = "", **_: Any) -> None:  # noqa: A002
        self[flag] = help


def _helps() -> dict[str, str]:
    """The help texts of the options that the page has as fields."""
    helps = _Helps()
    for add in (add_sources, add_settings, add_memory):
        add(helps)
    return helps
