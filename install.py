"""Sets up the pack and downloads weights: `python install.py --help`.

ComfyUI-Manager runs it without arguments at every installation and update. It then creates the
model folders and reports what is missing; it never downloads or installs anything, and never fails,
because the Manager would treat that as a failed installation.
"""

import os
import signal
import sys
from pathlib import Path

#: Not resolved: a pack symlinked into custom_nodes belongs to that ComfyUI.
PACK = Path(os.path.abspath(__file__)).parent  # noqa: PTH100
# The portable ComfyUI's Python does not search the script's folder.
sys.path.insert(0, str(PACK))


def check() -> int:
    """Report what is present and what is missing; the exit status is always 0."""
    try:
        from easyanimate_core.console import prepare_streams

        prepare_streams()
        from easyanimate_core.files.commands import python_command
        from easyanimate_core.hub.installed import check_installation
        from easyanimate_core.hub.places import find_places

        print("EasyAnimate")
        for line in check_installation(PACK, find_places(PACK, os.environ)):
            print(f"  {line}")
        print(f"  Download a model with: {python_command(PACK / 'install.py')} NAME")
        print("  List the names with --list instead of NAME")
    except Exception as error:
        said = f"EasyAnimate could not be checked: {type(error).__name__}: {error}"
        print(said.encode("ascii", "backslashreplace").decode())  # on a console of any encoding
    return 0


def fetch(arguments: list[str]) -> int:
    """Download the named models; see `easyanimate_core.cli.download`."""
    from easyanimate_core.cli.main import main

    return main(["download", *arguments])


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # nothing has started: exit without a traceback
    sys.exit(fetch(sys.argv[1:]) if sys.argv[1:] else check())
