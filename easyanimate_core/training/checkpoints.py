"""Training states on disk: written atomically, the oldest removed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, HeldError, InputError, MediaError
from ..files import atomic_folder, remove_tree, rename, sweep
from ..files.leftovers import temporary_name
from .state.files import (
    INDEX,
    Made,
    check_hashes,
    opened_parts,
    read_index,
    take,
    write_files,
)
from .state.origin import NOTHING, Origin
from .state.run_state import RANDOM, SCALER, RunState
from .terms import terms

#: Folder of the states, inside the run's folder.
STATES = "checkpoints"
#: Ending of the name of a state that no run can continue with.
_DIVERGED = ".diverged"
_STEP = re.compile(r"step-(\d{8})")
_LEFT = re.compile(r"\.step-\d{8}\.(part|old)")
#: Present in every state of earlier versions, which also hold pickles.
_OLD_INDEX = "position.json"


@dataclass(frozen=True)
class Resumed:
    """The last finished step of a resumed run, 0 for a new one, and notes for the user.

    `changes` tell what is no longer as it was.
    """

    step: int
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


class Checkpoints:
    """The states of a run in `folder`; the newest `keep` of them are kept.

    `origin` is what they are trained on; it is needed to save and to load.
    """

    def __init__(self, folder: Path, keep: int, origin: Origin = NOTHING) -> None:
        self.folder = folder
        self._keep = keep
        self._origin = origin

    def steps(self) -> list[int]:
        """Steps with a complete state, in order."""
        if not self.folder.is_dir():
            return []
        found = (_STEP.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def check(self) -> None:
        """Raise `CheckpointError` early if the last state obviously cannot be read.

        Also deletes leftovers of killed runs. Only one process may call it.
        """
        self._sweep()
        steps = self.steps()
        if steps:
            self._index(steps[-1])

    def weights(self) -> str:
        """The hash of the weights that the last state began with; "" if there is none."""
        steps = self.steps()
        return self._index(steps[-1])[0].weights if steps else ""

    def save(self, state: RunState, step: int) -> tuple[str, ...]:
        """Write the state after `step` steps and remove old ones; returns notes for the user.

        Every process must call it. Files that another program keeps open do not end the run.

        Raises:
            InputError: Training has diverged; earlier states are kept.
            MediaError: The disk is full or not writable; earlier states are kept.
        """
        writes = state.accelerator.is_main_process
        made = self._made(state, step)
        notes = []
        try:
            with self._new(step) if writes else nullcontext(self.folder) as folder:
                write_files(folder, state.parts(), made, writes=writes)
                if writes:
                    self._origin.write(folder)
        except InputError as error:
            raise InputError(f"After step {step}, {error}. {self.remedy(step)}") from error
        except HeldError as error:
            notes.append(f"{error} Rename it to that name to resume from it; the run continues.")
        except MediaError as error:
            raise MediaError(
                f"{error} Once that is fixed, start it again: {self._before(step)}."
            ) from error
        if writes:
            for old in self.steps()[: -self._keep]:
                notes += self._remove(old)
        state.accelerator.wait_for_everyone()
        return tuple(notes)

    def remedy(self, step: int) -> str:
        """What to do about a run that has diverged by `step`."""
        own = terms()
        if not own.resumes:
            return f"Lower {own.called('optimizer.learning_rate')} and start again."
        said = (
            "Lower optimizer.learning_rate or optimizer.clip, or use precision bf16 instead of "
            f"fp16, and start it again: {self._before(step)}."
        )
        states = ", ".join(self._final(known).name for known in self.steps())
        if states:
            said += (
                f" If it diverges again, delete the last states in {self.folder} ({states}) to go "
                "back further."
            )
        return said

    def set_aside(self, step: int) -> str:
        """Take the state after `step`, if there is one, out of the states; returns a sentence.

        For a state whose very next step is not finite: no run can continue with it.
        """
        final = self._final(step)
        if not final.is_dir():
            return ""
        aside = final.with_name(f"{final.name}{_DIVERGED}")
        try:
            remove_tree(aside)
            rename(final, aside)
        except OSError as error:
            return f"The state {final} is of no use: delete it ({error.strerror or error}). "
        return f"The state before it is of no use and was renamed to {aside}. "

    def _made(self, state: RunState, step: int) -> Made:
        accelerator = state.accelerator
        ranks, device = accelerator.num_processes, accelerator.device.type
        return Made(step, ranks, device, self._origin.data.digest, self._origin.weights)

    def load_latest(self, state: RunState) -> Resumed:
        """Restore the last complete state.

        Raises:
            CheckpointError: The state is damaged or does not fit this run.
        """
        steps = self.steps()
        step = steps[-1] if steps else 0
        accelerator = state.accelerator
        _agree(accelerator, step, self.folder)
        if not step:
            return Resumed(0)
        made, listed = self._index(step)
        folder = self._final(step)
        own = self._made(state, step)
        try:
            if accelerator.is_main_process:
                check_hashes(folder, listed)
            opened = opened_parts(folder, listed)
            parts = state.parts_for({name: set(file.keys()) for name, file in opened.items()})
            # Half precision alone scales its losses, and random states fit alike processes only.
            for name in ([] if made.is_like(own) else [RANDOM]) + _lone(SCALER, parts, opened):
                parts.pop(name, None)
                opened.pop(name, None)
            take(opened, parts)
        except (CheckpointError, OSError, ValueError, RuntimeError) as error:
            raise self._unreadable(step, error) from error
        changes = self._origin.changes_since(folder, made.data) + state.follow(step)
        return Resumed(step, () if made.is_like(own) else (_elsewhere(made, own),), changes)

    def _index(self, step: int) -> tuple[Made, dict[str, Any]]:
        folder = self._final(step)
        if not (folder / INDEX).exists() and (folder / _OLD_INDEX).exists():
            start_over = terms().start_over(self.folder)
            raise CheckpointError(
                f"The state {folder} was written by an earlier version, which used pickles. A "
                "pickle can run arbitrary code when it is opened, so it is not read. Finish "
                f"it with the version that wrote the state, or {start_over}."
            )
        try:
            return read_index(folder, step)
        except (CheckpointError, OSError) as error:
            raise self._unreadable(step, error) from error

    def _new(self, step: int) -> AbstractContextManager[Path]:
        return atomic_folder(self._final(step), replace=True)

    def _final(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _remove(self, step: int) -> list[str]:
        """Rename a state, then delete it: a half-deleted one must not look complete."""
        final = self._final(step)
        aside = self.folder / temporary_name(final.name)
        try:
            rename(final, aside)
        except OSError as error:
            return [f"The old state {final} cannot be removed ({error.strerror or error})."]
        try:
            remove_tree(aside)
        except OSError as error:
            said = error.strerror or error
            return [f"{aside}, an old state, cannot be removed ({said}); the next run tries again."]
        return []

    def _sweep(self) -> None:
        sweep(self.folder)
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if _LEFT.fullmatch(path.name):
                    with suppress(OSError):  # the next run tries again
                        remove_tree(path, wait=False)

    def _before(self, step: int) -> str:
        earlier = [known for known in self.steps() if known < step]
        return f"the run resumes after step {earlier[-1]}" if earlier else "the run starts over"

    def _unreadable(self, step: int, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"The state {self._final(step)} cannot be read: {error}. Delete this folder; then "
            f"{self._before(step)}."
        )


def _agree(accelerator: Any, step: int, folder: Path) -> None:
    """Check that all processes see the same states."""
    if accelerator.num_processes == 1:
        return
    seen = accelerator.gather(torch.tensor([step], device=accelerator.device)).tolist()
    if len(set(seen)) > 1:
        raise CheckpointError(
            f"The processes see different states in {folder}: after the steps "
            f"{', '.join(map(str, seen))}. Put the run's output on a disk shared by all machines."
        )


def _lone(name: str, *holders: Mapping[str, Any]) -> list[str]:
    """The name, if only one of the two has it."""
    return [name] if sum(name in holder for holder in holders) == 1 else []


def _elsewhere(made: Made, own: Made) -> str:
    return (
        f"The state was written by {made.ranks} process(es) on {made.device}; this run has "
        f"{own.ranks} on {own.device}. The weights are the same, random draws and losses differ."
    )
