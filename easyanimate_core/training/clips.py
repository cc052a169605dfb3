"""The usable clips that a run's config names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError, MediaError, counted
from ..progress import Progress, silent
from .config import TrainConfig
from .data.buckets import shapes_for
from .data.manifest import manifest_records
from .data.readable import Reading
from .data.records import Record
from .tracking import Report, print_line

#: What a task needs in addition to each clip: a field of `Sample`.
_NEEDS = {"control": "control", "camera": "camera"}
#: How many faults an error lists.
_SHOWN = 3


@dataclass(frozen=True)
class Clips:
    """`records` to train on and `held_out` ones to validate on."""

    records: Sequence[Record]
    held_out: Sequence[Record]

    @classmethod
    def in_memory(cls, config: TrainConfig, records: Sequence[Record]) -> Clips:
        """Clips that are not files; the first ones are also used for validation."""
        return cls(records, records[: config.validation.clips])


def find_clips(
    config: TrainConfig,
    accelerator: Any = None,
    *,
    progress: Progress = silent,
    report: Report = print_line,
) -> Clips:
    """The clips of the config, each file read once as far as training will read it.

    Unreadable clips are left out and listed through `report`. The processes of `accelerator` share
    the work. Reports the stages "read" and "check".

    Raises:
        InputError: There is no data, or a manifest is malformed.
        MediaError: No clip can be read.
    """
    data, validation = config.data, config.validation
    read = partial(
        manifest_records,
        fps=data.fps,
        report=report,
        progress=progress,
        captioned=config.task != "vae",
    )
    if data.synthetic is not None:
        from .data.synthetic import synthetic_records

        records = synthetic_records(data.synthetic)
        held_out = data.synthetic.model_copy(update={"count": validation.clips})
        if validation.manifest is None:
            return Clips(records, synthetic_records(held_out, seed=validation.seed))
    elif data.manifest is None:
        raise InputError("data has no clips: set data.manifest or data.synthetic.")
    else:
        records = read(data.manifest, data.root)
        records = _readable(config, records, data.manifest, accelerator, (progress, report))
    if validation.manifest is None:
        return Clips.in_memory(config, records)
    measured = read(validation.manifest, data.root)
    measured = _fitting(config, measured, report)[: validation.clips]
    measured = _readable(config, measured, validation.manifest, accelerator, (progress, report))
    return Clips(records, measured)


def _fitting(config: TrainConfig, records: list[Record], report: Report) -> list[Record]:
    """The held-out clips that fit a bucket."""
    data = config.data
    fitting = [record for record in records if shapes_for(record, data.tokens, data.frames)]
    if not fitting:
        raise InputError(
            f"No clip of {config.validation.manifest} fits a bucket: {records[0].name} has "
            f"{counted(records[0].frames, 'frame')} of {records[0].width} x {records[0].height}. "
            "Use larger or longer clips, or add smaller data.tokens or data.frames."
        )
    if len(fitting) < len(records):
        left_out = [record.name for record in records if record not in fitting]
        report(
            f"{len(left_out)} of {len(records)} clips of {config.validation.manifest} fit no "
            f"bucket and are left out: {', '.join(left_out)}"
        )
    return fitting


def _readable(
    config: TrainConfig,
    records: list[Record],
    manifest: Path,
    accelerator: Any,
    tell: tuple[Progress, Report],
) -> list[Record]:
    progress, report = tell
    reading = Reading(config.data.frames, config.cache / "readable", _NEEDS.get(config.task, ""))
    if accelerator is None:
        faults = dict(reading.unreadable(records, slice(None), progress))
    else:
        from accelerate.utils import gather_object

        share = slice(accelerator.process_index, None, accelerator.num_processes)
        faults = dict(gather_object(reading.unreadable(records, share, progress)))
    told = [faults[number] for number in sorted(faults)]
    if len(told) == len(records):
        first = "\n  ".join(told[:_SHOWN])
        raise MediaError(f"None of the {len(told)} clips of {manifest} can be used:\n  {first}")
    if told:
        left_out = "\n  ".join(told)
        report(
            f"{len(told)} of {len(records)} clips of {manifest} cannot be used and are left out:"
            f"\n  {left_out}"
        )
    return [reading.guarded(r) for number, r in enumerate(records) if number not in faults]
