"""The usable clips that a run's config names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ..errors import InputError, MediaError, counted
from ..files.packages import require
from ..models.specs import Head
from ..progress import Progress, silent
from .config import TrainConfig
from .data.buckets import remedy_for, shapes_for
from .data.dropped import Dropped
from .data.held_out import Looks, are_near, are_trained, split
from .data.listing import Listing
from .data.manifest import manifest_records
from .data.readable import Reading
from .data.records import Record
from .data.threads import in_threads
from .load_or_build import head_of
from .state.origin import Origin
from .together import gathered, share_of
from .tracking import Report, print_line

#: What a head needs in addition to each clip: a field of `Sample`.
_NEEDS = {Head.CONTROL: "control", Head.CAMERA: "camera"}
_HEADS = {"control": Head.CONTROL, "camera": Head.CAMERA}
#: How many faults an error lists.
_SHOWN = 3


@dataclass(frozen=True)
class Clips:
    """`records` to train on and `held_out` ones to validate on.

    Files with the names `left_out` are missing, cannot be read, or fit no bucket.
    """

    records: Sequence[Record]
    held_out: Sequence[Record]
    left_out: Sequence[str] = ()

    @cached_property
    def listing(self) -> Listing:
        """What is trained on, clip by clip."""
        return Listing.of(self.records)

    @property
    def digest(self) -> str:
        """A hash of what is trained on: contents, captions and repeats, in any order and place."""
        return self.listing.digest

    def origin(self, weights: str) -> Origin:
        """What a run on these clips keeps in its states; `weights` is what it began with."""
        return Origin(self.listing, weights, Listing.of(self.held_out))

    @classmethod
    def in_memory(
        cls,
        config: TrainConfig,
        records: Sequence[Record],
        accelerator: Any = None,
        *,
        progress: Progress = silent,
        report: Report = print_line,
    ) -> Clips:
        """Clips without a manifest for validation, which holds some of them out.

        If the data has too few for that, validation measures clips that are trained on, and
        `report` says so. Reports the stage "compare".
        """
        wanted = config.validation.clips
        if not config.run.validate_every:
            return cls(records, records[:wanted])
        require("Validation", ["imagehash"])
        looks = _looks(config, records, accelerator, progress)
        found = split(records, looks, wanted)
        if not found.held_out:
            measured = records[:wanted]
            report(
                f"Validation measures {counted(len(measured), 'clip')} that training sees too, "
                f"because the data, {counted(len(records), 'clip')}, is too little or too much "
                "alike to hold some out. For a figure of new clips, set validation.manifest."
            )
            return cls(records, measured)
        report(found.line)
        return cls(found.records, found.held_out)


def find_clips(
    config: TrainConfig,
    accelerator: Any = None,
    *,
    progress: Progress = silent,
    report: Report = print_line,
) -> Clips:
    """The clips of the config, each file read once as far as training will read it.

    Missing and unreadable clips, and those too small or short for all buckets, are left out and
    listed through `report`. The processes of `accelerator` share the work. Reports the stages
    "read", "check" and "compare".

    Raises:
        InputError: There is no data, a manifest is malformed, or no clip fits a bucket.
        MediaError: No clip can be read.
    """
    data, validation = config.data, config.validation
    dropped = Dropped(report)
    tell = (progress, dropped)
    read = partial(
        manifest_records,
        fps=data.fps,
        report=report,
        progress=progress,
        captioned=config.task != "vae",
        dropped=dropped,
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
        records = _fitting(config, records, data.manifest, dropped)
        records = _readable(config, records, data.manifest, accelerator, tell)
    if validation.manifest is None:
        found = Clips.in_memory(config, records, accelerator, progress=progress, report=report)
        return replace(found, left_out=dropped.names)
    measured = read(validation.manifest, data.root)
    measured = _fitting(config, measured, validation.manifest, dropped)[: validation.clips]
    measured = _readable(config, measured, validation.manifest, accelerator, tell)
    _tell_known(records, measured, validation.manifest, report)
    return Clips(records, measured, dropped.names)


def _tell_known(
    records: Sequence[Record], measured: Sequence[Record], manifest: Path, report: Report
) -> None:
    """Say if clips for validation are trained on, or others of their recordings."""
    if are_trained(records, measured):
        report(
            f"Clips of {manifest} are trained on too; what is measured on them is not "
            "what a new clip would give."
        )
    elif are_near(records, measured):
        report(
            f"Clips of {manifest} are of recordings that are trained on; what is "
            "measured on them is better than what a new recording would give."
        )


def _fitting(
    config: TrainConfig, records: list[Record], manifest: Path, dropped: Dropped
) -> list[Record]:
    """The clips that fit a bucket."""
    tokens, lengths = config.data.tokens, config.data.frames
    fitting, names, told = [], [], []
    for record in records:
        if shapes_for(record, tokens, lengths):
            fitting.append(record)
        else:
            names.append(record.name)
            told.append(
                f"{record.name} has {counted(record.frames, 'frame')} of {record.width} x "
                f"{record.height}; to train on it, {remedy_for(record, tokens, lengths)}."
            )
    if not fitting:
        first = "\n  ".join(told[:_SHOWN])
        raise InputError(
            f"No clip of {manifest} fits a bucket. Its {counted(len(told), 'clip')}, too small or "
            f"too short for data.tokens and data.frames:\n  {first}"
        )
    dropped.add(names, told, f"of {len(records)} clips of {manifest} fit no bucket")
    return fitting


def _readable(
    config: TrainConfig,
    records: list[Record],
    manifest: Path,
    accelerator: Any,
    tell: tuple[Progress, Dropped],
) -> list[Record]:
    progress, dropped = tell
    reading = Reading(config.data.frames, config.cache / "readable", _needs(config))
    share = share_of(accelerator)
    faults = dict(gathered(accelerator, reading.unreadable(records, share, progress)))
    told = [faults[number] for number in sorted(faults)]
    if len(told) == len(records):
        first = "\n  ".join(told[:_SHOWN])
        raise MediaError(f"None of the {len(told)} clips of {manifest} can be used:\n  {first}")
    names = [records[number].name for number in sorted(faults)]
    dropped.add(names, told, f"of {len(records)} clips of {manifest} cannot be used")
    return [reading.guarded(r) for number, r in enumerate(records) if number not in faults]


def _needs(config: TrainConfig) -> str:
    """What every clip must have beside it."""
    head = head_of(config.model) if config.task == "distill" else _HEADS.get(config.task)
    return "" if head is None else _NEEDS.get(head, "")


def _looks(
    config: TrainConfig, records: Sequence[Record], accelerator: Any, progress: Progress
) -> list[list[int]]:
    numbers = range(len(records))[share_of(accelerator)]
    looks = Looks(config.cache / "looks")
    looked = in_threads(looks.of, [records[n] for n in numbers], "compare", progress)
    found = list(zip(numbers, looked, strict=True))
    return [look for _, look in sorted(gathered(accelerator, found))]
