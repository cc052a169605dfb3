"""What a virus scanner does to a program: everything is refused once, or a file for a time."""

import errno
import io
import os
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

CALLS = ("replace", "rename", "unlink", "remove", "rmdir")


def denied(path):
    """The error of a file that another program has open; Windows' number is 32."""
    error = PermissionError(errno.EACCES, "The file is being used by another process", str(path))
    error.winerror = 32
    return error


@contextmanager
def first_calls_fail():
    """Every move and every removal is refused the first time, as while the file is looked at.

    Gives the list of what was refused.
    """
    before = {name: getattr(os, name) for name in CALLS}
    refused = []

    def once(name, real):
        def call(*places, **options):
            told = (name, *map(str, places))
            if told not in refused and os.path.lexists(places[0]):
                refused.append(told)
                raise denied(places[0])
            return real(*places, **options)

        return call

    for name, real in before.items():
        setattr(os, name, once(name, real))
    try:
        yield refused
    finally:
        for name, real in before.items():
            setattr(os, name, real)


@contextmanager
def opened_alone(path):
    """A file that a program has for itself, as Excel its tables: nobody else may open it."""
    real = io.open

    def call(file, *arguments, **options):
        if not isinstance(file, int) and Path(file) == path:
            raise denied(path)
        return real(file, *arguments, **options)

    io.open = call
    try:
        yield
    finally:
        io.open = real


@contextmanager
def held_for(seconds, path):
    """The file is open for a time, and then not any more."""
    with open(path, "rb") as file:
        timer = Timer(seconds, file.close)
        timer.start()
        yield
        timer.join()
