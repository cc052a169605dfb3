"""What a public signature names can be imported from the package, or has a reason not to be."""

import dataclasses
import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import easyanimate_core

NAMES = [name for name in easyanimate_core.__all__ if name != "__version__"]
ROOT = Path(easyanimate_core.__file__).parents[1]
PLAN = "a part of what a plan or its limits report; it is read, never made by a script"
STAGES = "passes from one stage of the pipeline to the next; a script passes it on at most"
CHECKPOINT = "says what lies in a checkpoint folder; it is read, never made by a script"
LOADED = "a mode's own `Loaded`, which its load() returns; a script needs no more than `Loaded`"
REASONS = {
    "Card": PLAN, "Estimate": PLAN, "Job": PLAN, "ModelFacts": PLAN, "Speeds": PLAN,
    "Stage": PLAN, "Way": PLAN,
    **dict.fromkeys(
        ("LoadedCamera", "LoadedControl", "LoadedImages", "LoadedRegion", "LoadedTrajectory",
         "LoadedVideo"), LOADED
    ),
    "Sources": STAGES, "TextStates": STAGES,
    "Layout": CHECKPOINT, "TensorFiles": CHECKPOINT, "TransformerConfig": CHECKPOINT,
    "VAEConfig": CHECKPOINT,
}  # fmt: skip


def classes_of(hint):
    if inspect.isclass(hint) and not typing.get_args(hint):
        yield hint
    for part in hint if isinstance(hint, list) else typing.get_args(hint):
        yield from classes_of(part)


def annotated(value):
    """The value's own annotations: of a class its fields, properties and public methods."""
    yield value.__init__ if inspect.isclass(value) else value
    if not inspect.isclass(value):
        return
    if dataclasses.is_dataclass(value):
        yield value
    for name, member in vars(value).items():
        function = getattr(member, "fget", getattr(member, "__func__", member))
        if not name.startswith("_") and inspect.isfunction(function):
            yield function


def own_classes_of(name):
    for part in annotated(getattr(easyanimate_core, name)):
        if inspect.isclass(part) or inspect.isfunction(part):
            for hint in typing.get_type_hints(part).values():
                yield from (c for c in classes_of(hint) if c.__module__.startswith("easyanimate"))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_public_signature_names_is_public(name):
    public = {getattr(easyanimate_core, other) for other in NAMES}
    hidden = {c.__name__ for c in own_classes_of(name) if c not in public}
    assert hidden <= set(REASONS), hidden - set(REASONS)


def test_every_reason_is_still_needed():
    public = {getattr(easyanimate_core, name) for name in NAMES}
    hidden = {c.__name__ for name in NAMES for c in own_classes_of(name) if c not in public}
    assert hidden == set(REASONS)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, easyanimate_core; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
