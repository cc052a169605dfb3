"""The training loop: the same for every task, on one device or many, through accelerate."""

from __future__ import annotations

import math
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import dataloader

from ..console import prepare_streams
from ..errors import EasyAnimateError, HeldError, InputError, MediaError, PrecisionError
from ..files import atomic_folder
from ..progress import Progress, silent
from .checkpoints import STATES, Checkpoints
from .claim import record
from .config import TrainConfig
from .data.buckets import Draw
from .data.loading import Lost
from .interrupts import Interrupts
from .optimizers import SHARDED, make_optimizer, make_schedule
from .samples import SAMPLES, Samples
from .saved_loras import LORAS, SavedLoras
from .state.average import Average, take_apart
from .state.origin import NOTHING, Origin
from .state.run_state import RunState
from .state.slots import trained, whole
from .strategies.base import Batch, SamplingStrategy, Strategy, Weights
from .together import allow_unused, common, gathered
from .tracking import Log, Means, Pace, Report, describe, print_line, tell_nobody
from .watch import Watch

#: What costs a sample, not the run.
_UNIMPORTANT = (MediaError, PrecisionError, torch.OutOfMemoryError)
#: By then the system has told PyTorch that a process has ended.
_REPORT_SECONDS = 2.0
_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Trains a strategy's networks; resumes from the last state in `config.output`.

    The random draws of a step depend only on the seed and the batch's position, so a run that was
    killed and resumed gives the same losses as an uninterrupted one.
    """

    def __init__(
        self,
        config: TrainConfig,
        strategy: Strategy,
        accelerator: Any,
        *,
        origin: Origin = NOTHING,
        progress: Progress = silent,
        report: Report = print_line,
    ) -> None:
        self._config = config
        self._strategy = strategy
        self._accelerator = accelerator
        self._progress = progress
        self._sharded = accelerator.distributed_type.value in SHARDED
        self._report = report if accelerator.is_main_process else tell_nobody
        self._watch = progress if isinstance(progress, Watch) else None
        self._checkpoints = Checkpoints(config.output / STATES, config.run.keep, origin)
        self._loras = SavedLoras(config.output / LORAS, config.run.keep_loras)
        self._samples = Samples(config.output / SAMPLES, config.data.fps)
        self._can_sample = True
        self._networks: dict[str, nn.Module] = {}
        self._optimizers: dict[str, Any] = {}
        self._schedules: dict[str, Any] = {}
        for name, network in strategy.networks.items():
            allow_unused(accelerator, network)
            optimizer = make_optimizer(
                config.optimizer,
                network,
                accelerator.distributed_type.value,
                bf16=config.run.precision == "bf16",
            )
            self._schedules[name] = make_schedule(config.optimizer, optimizer, config.run.steps)
            self._networks[name], self._optimizers[name] = accelerator.prepare(network, optimizer)
        plain = self._plain_networks()
        self._average: Average | None = None
        if config.run.ema:  # only of the first network: a discriminator is just a means to train it
            self._average = Average(trained(next(iter(plain.values()))), config.run.ema)
        self._state = RunState(accelerator, plain, self._optimizers, self._schedules, self._average)

    def train(self) -> list[Path]:
        """Run to the end; returns the result's files.

        Raises `HeldError` at the end if another program has an earlier result open.
        """
        run, every = self._config.run, self._config.sample.every
        resumed = self._checkpoints.load_latest(self._state)
        step = resumed.step
        if step:
            self._report(" ".join((f"Resuming after step {step}.", *resumed.notes)))
            self._tell(resumed.changes)
            if self._accelerator.is_main_process:
                record(self._config.output, step, resumed.changes)
        log = Log(self._config.output, step) if self._accelerator.is_main_process else None
        pace = Pace(step, run.steps)
        batches = self._batches(step * run.accumulate)
        self._progress("train", step, run.steps)
        means = Means()
        workers, says = self._config.data.workers, self._accelerator.is_main_process
        with _ended_workers_told(workers), Interrupts(says=says) as interrupts:
            if step and self._is_unmeasured(step, log):  # stopped between the state and its figure
                self._validate(step, log)
            while step < run.steps:
                means.add(self._step(batches, pace))
                self._tell(self._strategy.lost.news(partial(gathered, self._accelerator)))
                step += 1
                stopped = self._stopped(step, interrupts)
                last = step == run.steps or stopped is not None
                sampled = bool(every) and (step % every == 0 or last)
                saved = step % run.save_every == 0 or last or sampled
                if log is not None and (step % run.log_every == 0 or saved):
                    row = means.take()
                    row["learning_rate"] = next(iter(self._schedules.values())).get_last_lr()[0]
                    row |= pace.figures(step)
                    self._check_finite(row, means.first_bad, step)
                    self._tell(log.add(step, row))
                    self._accelerator.log(row, step=step)
                    self._report(describe(step, run.steps, row))
                if saved:
                    self._save(step)
                if stopped is not None:
                    raise stopped
                if run.validate_every and (step % run.validate_every == 0 or last):
                    self._validate(step, log)
                if sampled:
                    self._sample(step, interrupts)
        return self._finish(log, step)

    def _stopped(self, step: int, interrupts: Interrupts) -> BaseException | None:
        """What asks for an end after this step, the same in all processes."""
        error: BaseException | None = None
        try:
            self._progress("train", step, self._config.run.steps)
        except BaseException as raised:
            error = raised
        return self._agreed(error, step, interrupts)

    def _agreed(
        self, error: BaseException | None, step: int, interrupts: Interrupts
    ) -> BaseException | None:
        """This process's error, or an interruption if a signal or another process asks for it."""
        asked = error is not None or interrupts.asked
        if self._accelerator.num_processes > 1:
            count = torch.tensor(int(asked), device=self._accelerator.device)
            asked = bool(self._accelerator.reduce(count, "sum"))
        if not asked:
            return None
        return error or interrupts.interruption(self._interrupted(step))

    def _interrupted(self, step: int) -> str:
        lora = self._config.model.lora is not None
        kept = f"; the LoRA so far is {self._loras.path(step)}" if lora else ""
        return (
            f"Step {step} of {self._config.run.steps} is finished and saved in "
            f"{self._config.output}{kept}. The same command resumes from it."
        )

    def _save(self, step: int) -> None:
        """Write the state, and the LoRA as it is by then."""
        self._tell(self._checkpoints.save(self._state, step))
        if self._config.model.lora is None:
            return
        (name,) = self._networks
        weights = self._state.weights(name)
        if self._accelerator.is_main_process:
            strategy = cast("SamplingStrategy", self._strategy)
            path, notes = self._loras.save(
                step, lambda file: strategy.write_lora(weights, file, step)
            )
            self._tell(notes)
            if self._watch is not None:
                self._watch.saved(step, path)
        self._accelerator.wait_for_everyone()

    def _sample(self, step: int, interrupts: Interrupts) -> None:
        """Let the weights make something, which every process of a sharded network must do."""

        def progress(stage: str, done: int, total: int) -> None:
            if interrupts.asked and not self._sharded:  # processes of a shard must stay together
                raise interrupts.interruption(self._interrupted(step))
            self._progress(stage, done, total)

        main = self._accelerator.is_main_process
        error: BaseException | None = None
        if self._can_sample and (main or self._sharded):
            try:
                self._make_sample(step, progress, main=main)
            except BaseException as raised:
                error = raised
        stopped = self._agreed(error, step, interrupts)
        if stopped is not None:
            raise stopped

    def _make_sample(self, step: int, progress: Progress, *, main: bool) -> None:
        began = time.perf_counter()
        strategy = cast("SamplingStrategy", self._strategy)
        try:
            with self._averaged(), torch.no_grad(), self._autocast():
                prompt, frames = strategy.sample(self._plain_networks(), progress, self._common)
        except _UNIMPORTANT as error:
            self._can_sample = isinstance(error, EasyAnimateError)
            said = str(error) if self._can_sample else "the memory is too small for samples."
            self._report(f"note: No sample after step {step}: {said}")
            return
        if main:
            path, sheet = self._samples.keep(step, prompt, frames)
            self._samples.count(time.perf_counter() - began)
            self._report(f"sample after step {step}: {path}")
            if self._watch is not None:
                self._watch.sampled(step, sheet)

    def _step(self, batches: Iterator[Batch], pace: Pace) -> dict[str, Tensor]:
        """One optimiser step of every network; returns metrics averaged over batches and ranks."""
        sums: dict[str, Tensor] = {}
        for _ in range(self._config.run.accumulate):
            batch = next(batches)
            ranks = self._accelerator.num_processes
            pace.count(batch.clips * ranks, batch.tokens * ranks)
            self._strategy.prepare(batch, self._accelerator.device)
            with self._accelerator.accumulate(*self._networks.values()):
                for name in self._networks:
                    self._learn(name, batch, sums)
        for schedule in self._schedules.values():
            schedule.step()
        if self._average is not None:
            self._average.step()
        means = {name: value / self._config.run.accumulate for name, value in sums.items()}
        return {name: self._accelerator.reduce(v, "mean") for name, v in means.items()}

    def _learn(self, name: str, batch: Batch, sums: dict[str, Tensor]) -> None:
        accelerator = self._accelerator
        with self._autocast():
            losses = self._strategy.loss(name, self._networks, batch)
        if losses is None:
            return
        accelerator.backward(losses.total)
        if accelerator.sync_gradients:
            norm = accelerator.clip_grad_norm_(
                self._networks[name].parameters(), self._config.optimizer.clip
            )
            if norm is not None:  # DeepSpeed clips by itself and returns no norm
                norm = whole(norm) * self._config.run.accumulate
                _add(sums, f"gradient_norm_{name}", norm)
        self._optimizers[name].step()
        self._optimizers[name].zero_grad()
        for part, value in losses.parts.items():
            _add(sums, part, value)

    def _autocast(self) -> Any:
        """PyTorch's autocast: accelerate's own leaves it to DeepSpeed, which casts only weights."""
        dtype = _DTYPES[self._config.run.precision]
        return torch.autocast(self._accelerator.device.type, dtype, enabled=dtype is not None)

    def _batches(self, position: int) -> Iterator[Batch]:
        """This rank's batches from `position` on, prefetched by the config's workers."""
        accelerator, strategy = self._accelerator, self._strategy
        rank, ranks = accelerator.process_index, accelerator.num_processes
        workers = self._config.data.workers
        loader: Any = torch.utils.data.DataLoader(
            _Reader(strategy.read),
            sampler=_Endless(strategy.batches(rank, ranks, position)),
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_begin,
            # On every system: a fork would copy the locks of PyTorch's and the decoders' threads.
            multiprocessing_context="spawn" if workers else None,
        )
        for number, (draws, content) in enumerate(loader):
            if isinstance(content, EasyAnimateError):
                raise content
            tokens = sum(draw.shape.tokens for draw in draws)
            yield Batch(position + number, rank, ranks, len(draws), tokens, content)

    def _is_unmeasured(self, step: int, log: Log | None) -> bool:
        """Whether a validation of this step is due and missing in the log; the same everywhere."""
        every = self._config.run.validate_every
        if not every or step % every:
            return False
        is_missing = log is None or not log.has(step, "validation_")
        return bool(common(self._accelerator, [0] if is_missing else []))

    def _validate(self, step: int, log: Log | None) -> None:
        figures: dict[str, float] = {}
        if log is not None or self._sharded:  # running a sharded network takes every process
            folder = None if log is None else self._config.output / "validation"
            with self._averaged(), torch.no_grad():
                figures = self._strategy.validate(
                    self._plain_networks(), step, folder, self._common
                )
        if log is not None and figures:
            row = {f"validation_{name}": value for name, value in figures.items()}
            self._tell(log.add(step, row))
            self._accelerator.log(row, step=step)
            self._report("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
            self._tell(log.draw())
        self._accelerator.wait_for_everyone()

    def _finish(self, log: Log | None, step: int) -> list[Path]:
        # Before the long write: a thread that still frees it when the process exits aborts it.
        lost = gathered(self._accelerator, [self._strategy.lost])
        paths: list[Path] = []
        held: HeldError | None = None
        with self._averaged(), torch.no_grad():
            # Every process must contribute its shard of the weights.
            weights = {n: self._accelerator.get_state_dict(x) for n, x in self._networks.items()}
            if log is not None:
                try:
                    paths = self._write_result(weights, step)
                except HeldError as error:
                    held = error
        if log is not None:
            self._tell(log.draw())
            for line in self._samples.lines():
                self._report(line)
        self._tell(Lost.summary(lost))
        self._accelerator.wait_for_everyone()
        for tracker in self._accelerator.trackers:
            tracker.finish()
        if held is not None:  # only after the other processes have been released
            raise held
        return paths

    def _write_result(self, weights: Mapping[str, Weights], step: int) -> list[Path]:
        """Write the result to its folder, replacing one of fewer steps."""
        final = self._config.output / "result"
        with atomic_folder(final, replace=True) as scratch:
            written = self._strategy.write_result(self._plain_networks(), weights, scratch, step)
        return [final / path.relative_to(scratch) for path in written]

    def _check_finite(
        self, row: Mapping[str, float], first_bad: Callable[[int], int], step: int
    ) -> None:
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            first = first_bad(step)
            aside = self._checkpoints.set_aside(first - 1)
            raise InputError(
                f"At step {first}, {', '.join(bad)} is not finite: training has diverged. {aside}"
                f"{self._checkpoints.remedy(step)}"
            )

    def _tell(self, notes: Iterable[str]) -> None:
        for note in notes:
            self._report(f"note: {note}")

    def _common(self, numbers: list[int]) -> list[int]:
        """Those that all processes have which run the networks together."""
        return common(self._accelerator, numbers) if self._sharded else numbers

    def _plain_networks(self) -> dict[str, nn.Module]:
        return {name: self._accelerator.unwrap_model(n) for name, n in self._networks.items()}

    def _averaged(self) -> Any:
        """Swap in the averaged weights, if any, inside the `with` block."""
        stack = ExitStack()
        if self._average is not None:
            stack.enter_context(self._average.in_place())
        for network in self._networks.values():
            stack.callback(take_apart, network)
        return stack


def _begin(worker: int) -> None:
    """Initialise a worker of the loader; Ctrl-C, which reaches it too, is the run's to follow."""
    del worker
    prepare_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Reader(torch.utils.data.Dataset[Any]):
    """Maps draws to their content, or to the error that reading them raised.

    If raised in a worker, the error's message would include that process's traceback.
    """

    def __init__(self, read: Callable[[Sequence[Draw]], Any]) -> None:
        self._read = read

    def __getitem__(self, draws: list[Draw]) -> tuple[list[Draw], Any]:
        try:
            return draws, self._read(draws)
        except EasyAnimateError as error:
            return draws, error


@contextmanager
def _ended_workers_told(workers: int) -> Iterator[None]:
    """Explain a dead worker, which PyTorch reports at any point of the run, even during a write."""
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        if not workers or not _comes_from_dead_worker(error):
            raise
        if not isinstance(error, RuntimeError):
            # PyTorch's own report, which would come at any later point.
            with suppress(RuntimeError):
                time.sleep(_REPORT_SECONDS)
        raise InputError(
            f"One of the {workers} processes that prefetch clips was killed, most often for lack "
            "of memory. Start again with fewer data.workers: the run resumes from its last state."
        ) from error


def _comes_from_dead_worker(error: BaseException) -> bool:
    """Whether a worker died: PyTorch says so, unless the worker was just handing over a batch."""
    if isinstance(error, RuntimeError):
        return "DataLoader worker" in str(error)
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_filename == dataloader.__file__ for frame, _ in frames)


class _Endless(torch.utils.data.Sampler[Any]):
    """The order of the batches, as a sampler for the DataLoader."""

    def __init__(self, batches: Iterator[Sequence[Draw]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return self._batches


def _add(sums: dict[str, Tensor], name: str, value: Any) -> None:
    value = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value))
    sums[name] = sums[name] + value if name in sums else value
