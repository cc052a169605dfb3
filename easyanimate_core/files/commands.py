"""Commands as they can be typed here: messages name them, and people copy them.

`python` on PATH is often another Python than the one that runs. ComfyUI's portable version has its
own, which finds modules neither beside a script nor in the current folder.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

#: The folder of `easyanimate_core`; a pack that is linked into custom_nodes stays linked.
PACK = Path(os.path.abspath(__file__)).parents[2]  # noqa: PTH100
_SCRIPT = "easyanimate.py"
#: Scripts of the pack that are started by their path.
_SCRIPTS = (_SCRIPT, "install.py")
#: What cmd.exe takes as it stands.
_PLAIN = re.compile(r"[\w.:\\/+-]+")


def joined(*words: str | os.PathLike[str], windows: bool = sys.platform == "win32") -> str:
    """A command as the system's shell wants it."""
    texts = [os.fspath(word) for word in words]
    if not windows:
        return shlex.join(texts)
    return " ".join(text if _PLAIN.fullmatch(text) else f'"{text}"' for text in texts)


def python_command(*words: str | os.PathLike[str]) -> str:
    """This Python with `words`; without the user's own packages where it runs without them."""
    alone = ["-s"] if sys.flags.no_user_site else []
    return joined(sys.executable or "python", *alone, *words)


def own_command(*words: str | os.PathLike[str]) -> str:
    """A command of this package, which works in any folder."""
    script = PACK / _SCRIPT
    if script.is_file():
        return python_command(script, *words)
    return python_command("-m", "easyanimate_core", *words)


def program() -> str:
    """How the commands were started, as far as it was typed."""
    typed = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    if not typed or Path(sys.argv[0]).name not in _SCRIPTS:
        return "python -m easyanimate_core"
    return joined(*typed[:-1], Path(typed[-1]).with_name(_SCRIPT))
