"""Carries out a request with the one model that is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..errors import InputError
from ..media import load_clip, write_mp4
from ..pipeline import Pipeline
from ..preprocess import Detection, preprocess
from ..progress import Progress
from ..tasks import Control, Task
from .jobs import Outcome
from .request import AS_IT_IS, Request
from .results import Results


@dataclass(frozen=True)
class Machine:
    """Where the networks run, where preprocessors' weights are, and whether prompts are cached."""

    device: str = "auto"
    dtype: str = "auto"
    detectors: tuple[Any, ...] = ()
    embedding_cache: bool = True


class Runner:
    """Keeps one pipeline between runs; it is freed when another one is asked for."""

    def __init__(self, results: Results, machine: Machine) -> None:
        self._results = results
        self._machine = machine
        self._key: tuple[Any, ...] = ()
        self._pipeline: Pipeline | None = None

    def __call__(self, request: Request, progress: Progress) -> Outcome:
        """Make the video; it and its recipe are written at the end, whole."""
        try:
            return self._made(request, progress)
        except torch.OutOfMemoryError as error:
            self._pipeline = None
            raise InputError(
                f"The memory of the device is not enough for {request.model} with these settings "
                f"({str(error).splitlines()[0]}). Under Memory, choose offload block, a "
                "quantization or a tile of 256, or make the video smaller or shorter."
            ) from error

    def _made(self, request: Request, progress: Progress) -> Outcome:
        pipeline = self._pipeline_for(request)
        task = self._detected(request, pipeline, progress)
        result = pipeline.generate(request.prompt, task, request.settings, progress=progress)
        written = result.save(self._results.new(result.frames.shape[1]))
        return Outcome(tuple(written), result.notes)

    def _pipeline_for(self, request: Request) -> Pipeline:
        key = (request.checkpoint, request.memory)
        if self._pipeline is None or key != self._key:
            self._pipeline = None  # first, so that two are never in memory
            machine = self._machine
            self._pipeline = Pipeline.load(
                request.checkpoint,
                device=machine.device,
                dtype=machine.dtype,
                memory=request.memory,
                embedding_cache=machine.embedding_cache,
            )
            self._key = key
        return self._pipeline

    def _detected(self, request: Request, pipeline: Pipeline, progress: Progress) -> Task:
        """The task; with a preprocessor, its clip is replaced by the control video made of it."""
        task, settings = request.task, request.settings
        if request.preprocessor == AS_IT_IS or not isinstance(task, Control):
            return task
        clip = load_clip("video", task.video, settings.source_seconds(), settings.fit())
        target = settings.target(task.load(max_seconds=settings.source_seconds()))
        frames = preprocess(
            clip.frames,
            Detection(request.preprocessor),
            weights=self._machine.detectors,
            device=pipeline.device,
            size=(target.height, target.width),
            progress=progress,
        )
        made = write_mp4(self._results.new_source(), frames, fps=clip.fps)
        return replace(task, video=made)
