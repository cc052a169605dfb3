"""The errors that the library raises: shown by their own names, and whole in other processes."""

import importlib
import multiprocessing
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import easyanimate_core
from easyanimate_core.errors import (
    EasyAnimateError,
    HeldError,
    InputError,
    counted,
    there_are,
)
from easyanimate_core.media.pictures import NotAPictureError

#: As ComfyUI names the modules of a pack: its path, with dots replaced.
HOST = "/comfyui/custom_nodes/ComfyUI-EasyAnimate_x_5"


@pytest.fixture
def hosted(monkeypatch):
    """Imports a module of the package under the name that a host gives it."""
    for name in [name for name in sys.modules if name.startswith(HOST)]:
        monkeypatch.delitem(sys.modules, name)
    spec = importlib.util.spec_from_file_location(
        f"{HOST}.easyanimate_core",
        easyanimate_core.__file__,
        submodule_search_locations=[str(Path(easyanimate_core.__file__).parent)],
    )
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, HOST, type(sys)(HOST))
    monkeypatch.setitem(sys.modules, spec.name, package)
    spec.loader.exec_module(package)
    return lambda name: importlib.import_module(f"{spec.name}.{name}")


def kinds_of(error):
    return [error, *(kind for below in error.__subclasses__() for kind in kinds_of(below))]


def test_a_host_shows_the_packages_own_name(hosted):
    kinds = kinds_of(hosted("errors").EasyAnimateError)
    assert len(kinds) >= 10
    assert {kind.__module__ for kind in kinds} == {"easyanimate_core.errors"}
    assert hosted("media.pictures").NotAPictureError.__module__ == "easyanimate_core.media.pictures"


def held(kind):
    error = kind("line 1\nline 2", Path("kept"))
    error.add_note("a note") if sys.version_info >= (3, 11) else None
    return error


def test_errors_are_pickled_under_the_hosts_name(hosted):
    kind = hosted("errors").HeldError
    copy = pickle.loads(pickle.dumps(held(kind)))
    assert type(copy) is kind
    assert (str(copy), copy.kept, copy.args) == ("line 1\nline 2", Path("kept"), copy.args)
    assert copy.__dict__ == held(kind).__dict__


@pytest.mark.parametrize("kind", kinds_of(EasyAnimateError))
def test_every_kind_is_pickled(kind):
    error = held(kind) if kind is HeldError else kind("why", 3)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is kind
        assert copy.args == error.args
        assert copy.__dict__ == error.__dict__


def fail(kind, *values):
    raise kind(*values)


@pytest.mark.slow
def test_errors_cross_processes():
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for kind, *values in ((InputError, "a"), (NotAPictureError, "b"), (HeldError, "c", Path())):
            with pytest.raises(kind, match=values[0]) as raised:
                pool.submit(fail, kind, *values).result(120)
            assert type(raised.value) is kind


def test_counts_in_messages():
    assert [counted(count, "frame") for count in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert there_are(1, "clip") == "there is 1 clip"
    assert there_are(3, "clip") == "there are 3 clips"
