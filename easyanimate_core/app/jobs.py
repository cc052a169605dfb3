"""The queue: one run at a time, others wait in order, each can be cancelled."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from ..errors import EasyAnimateError, InputError
from ..progress import Progress
from .request import Request

logger = logging.getLogger(__name__)

#: How many runs may wait, and how many finished ones are remembered.
MOST_WAITING = 50
_REMEMBERED = 20

State = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Outcome:
    """What a run wrote, videos first and the recipe last, and its notes."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A run at one moment; `done` of `total` units of `stage`; `message` says why it failed.

    `is_stopping`: it was cancelled and ends after its current step.
    """

    number: int
    request: Request
    state: State = "waiting"
    stage: str = ""
    done: int = 0
    total: int = 0
    message: str = ""
    is_stopping: bool = False
    outcome: Outcome | None = None
    started: float = 0.0
    seconds: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ("done", "failed", "cancelled")


class Run(Protocol):
    """Carries out a request."""

    def __call__(self, request: Request, progress: Progress) -> Outcome:
        """May raise whatever `progress` raises."""


class _CancelledError(Exception):
    """Raised through a run's progress."""


class Jobs:
    """Carries out requests one after another in a thread of its own.

    It belongs to no page: a closed or reloaded page changes nothing.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._changed = threading.Condition()
        self._jobs: dict[int, Job] = {}
        self._closed = False
        self._last = 0
        self._thread = threading.Thread(target=self._work, name="runs", daemon=True)
        self._thread.start()

    def add(self, request: Request) -> int:
        """Put a request at the end of the queue; its number."""
        with self._changed:
            waiting = sum(job.state == "waiting" for job in self._jobs.values())
            if waiting >= MOST_WAITING:
                raise InputError(
                    f"{waiting} runs are waiting, the most that the queue takes. Cancel one, or "
                    "wait until one has finished."
                )
            self._last += 1
            self._jobs[self._last] = Job(self._last, request)
            self._changed.notify_all()
            return self._last

    def cancel(self, number: int) -> None:
        """Cancel a run: at once if it waits, else after its current step. The model is kept."""
        with self._changed:
            job = self.get(number)
            if job.state == "waiting":
                self._jobs[number] = replace(job, state="cancelled")
            elif job.state == "running":
                self._jobs[number] = replace(job, is_stopping=True)
            self._changed.notify_all()

    def get(self, number: int) -> Job:
        """A run as it is now; `InputError` for an unknown number."""
        with self._changed:
            if number not in self._jobs:
                raise InputError(f"There is no run {number}, or it finished long ago.")
            return self._jobs[number]

    def all(self) -> list[Job]:
        """All runs that are remembered, oldest first."""
        with self._changed:
            return list(self._jobs.values())

    def position(self, number: int) -> int:
        """How many runs are before this one."""
        return sum(not job.is_over for job in self.all() if job.number < number)

    def close(self, seconds: float = 30) -> None:
        """Cancel everything and wait until the current step has ended."""
        with self._changed:
            self._closed = True
            for job in list(self._jobs.values()):
                self.cancel(job.number)
        self._thread.join(seconds)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            state, message, outcome = self._outcome(job)
            with self._changed:
                now = self._jobs[job.number]
                seconds = time.monotonic() - now.started
                self._jobs[job.number] = replace(
                    now, state=state, message=message, outcome=outcome, seconds=seconds,
                    is_stopping=False,
                )  # fmt: skip
                over = [number for number, known in self._jobs.items() if known.is_over]
                for number in over[:-_REMEMBERED]:
                    del self._jobs[number]

    def _next(self) -> Job | None:
        """The next run, started; None at the end."""
        with self._changed:
            while not self._closed:
                waiting = (job for job in self._jobs.values() if job.state == "waiting")
                if (job := next(waiting, None)) is not None:
                    started = replace(job, state="running", started=time.monotonic())
                    self._jobs[job.number] = started
                    return started
                self._changed.wait()
        return None

    def _outcome(self, job: Job) -> tuple[State, str, Outcome | None]:
        """How the run ended. Nothing that goes wrong in one run may stop those that wait."""
        try:
            return "done", "", self._run(job.request, self._progress_of(job.number))
        except _CancelledError:
            return "cancelled", "", None
        except EasyAnimateError as error:
            return "failed", str(error), None
        except Exception as error:
            logger.exception("Run %d failed", job.number)
            return "failed", (
                f"This is a fault of the program ({type(error).__name__}: {error}). The page's "
                "terminal shows where it happened; please report it."
            ), None  # fmt: skip

    def _progress_of(self, number: int) -> Progress:
        def progress(stage: str, done: int, total: int) -> None:
            with self._changed:
                self._jobs[number] = replace(
                    self._jobs[number], stage=stage, done=done, total=total
                )
                if self._jobs[number].is_stopping:
                    raise _CancelledError

        return progress
