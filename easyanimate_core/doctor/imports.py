"""Imports packages in another process, which a broken one may end without ending this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

#: Before each line of the other process; packages print lines of their own.
_MARK = "easyanimate-import"
#: Seconds for all packages: a first import after an update compiles thousands of files.
_LIMIT = 300
_CODE = f"""
import importlib, sys
for name in sys.argv[1:]:
    print("{_MARK}", name, "begins", flush=True)
    try:
        importlib.import_module(name)
        text = ""
    except BaseException as error:
        text = ascii(f"{{type(error).__name__}}: {{error}}"[:300])[1:-1]
    print("\\n{_MARK}", name, "ended", text, flush=True)
"""


def failed_imports(modules: Sequence[str], python: str = sys.executable) -> Mapping[str, str]:
    """The modules that cannot be imported, and why.

    Raises `OSError` if no process can be started.
    """
    failed: dict[str, str] = {}
    left = list(modules)
    while left:
        text, end = _output(left, python)
        lines = [line.split(" ", 3)[1:] for line in text.splitlines() if line.startswith(_MARK)]
        begun = [line[0] for line in lines if line[1] == "begins"]
        ended = {line[0]: line[2] for line in lines if line[1] == "ended"}
        failed |= {name: why for name, why in ended.items() if why}
        fatal = [name for name in begun if name not in ended]
        failed |= dict.fromkeys(fatal, f"the process that imported it {end}")
        known = {*begun}
        if not known:
            return failed | dict.fromkeys(left, f"the process that should import it {end}")
        left = [name for name in left if name not in known]
    return failed


def _output(modules: Sequence[str], python: str) -> tuple[str, str]:
    """What the process printed, and how it ended."""
    alone = ["-s"] if sys.flags.no_user_site else []
    command = [python, *alone, "-X", "utf8", "-c", _CODE, *modules]
    try:
        done = subprocess.run(  # noqa: S603  (this Python; names of packages)
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        text = said if isinstance(said, str) else said.decode("utf-8", "replace")
        return text, f"did not end within {_LIMIT} s"
    return done.stdout, f"ended with status {done.returncode}"
