"""Shell commands for messages, ready to copy and run on this machine.

`python` on PATH is often not the Python that is running. The portable ComfyUI ships its own, which
finds modules neither next to a script nor in the current folder.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

#: The folder that contains `easyanimate_core`; symbolic links into custom_nodes are kept.
PACK = Path(os.path.abspath(__file__)).parents[2]  # noqa: PTH100
_SCRIPT = "easyanimate.py"
#: Scripts of the pack that are run by path.
_SCRIPTS = (_SCRIPT, "install.py")
#: What cmd.exe accepts without quotes.
_PLAIN = re.compile(r"[\w.:\\/+-]+")


def joined(*words: str | os.PathLike[str], windows: bool = sys.platform == "win32") -> str:
    """A command quoted for the system's shell."""
    texts = [os.fspath(word) for word in words]
    if not windows:
        return shlex.join(texts)
    return " ".join(text if _PLAIN.fullmatch(text) else f'"{text}"' for text in texts)


def python_command(*words: str | os.PathLike[str]) -> str:
    """This Python with `words` as arguments, and with -s if it runs without user packages."""
    alone = ["-s"] if sys.flags.no_user_site else []
    return joined(sys.executable or "python", *alone, *words)


def own_command(*words: str | os.PathLike[str]) -> str:
    """A command of this package that works from any folder."""
    script = PACK / _SCRIPT
    if script.is_file():
        return python_command(script, *words)
    return python_command("-m", "easyanimate_core", *words)


def program() -> str:
    """The program as the user typed it, without its arguments."""
    typed = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    if not typed or Path(sys.argv[0]).name not in _SCRIPTS:
        return "python -m easyanimate_core"
    return joined(*typed[:-1], Path(typed[-1]).with_name(_SCRIPT))
