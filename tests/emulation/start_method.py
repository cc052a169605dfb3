"""How Python starts processes elsewhere, for a whole run of the tests.

Windows and macOS know no fork: what a process is given is pickled, and the program's main module is
imported again. `EASYANIMATE_TEST_START=spawn` before pytest makes it so here, for the tests and for
every Python that they start; `forkserver` is what Python 3.14 does on Linux.
"""

import multiprocessing
import os
from pathlib import Path

VARIABLE = "EASYANIMATE_TEST_START"
_STARTUP = Path(__file__).parent / "processes"


def use_from_environment():
    """As the environment says, where it says something."""
    method = os.environ.get(VARIABLE)
    if not method:
        return
    known = multiprocessing.get_all_start_methods()
    assert method in known, f"{VARIABLE} is {method!r}; it may be {' or '.join(known)}"
    multiprocessing.set_start_method(method, force=True)
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if str(_STARTUP) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(_STARTUP), *paths])
