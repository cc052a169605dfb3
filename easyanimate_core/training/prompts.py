"""Prompts to sample and score, as records without pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, counted
from ..files import DATASET_BYTES, read_json, read_text
from .clips import Clips
from .config import TrainConfig
from .data.cache import digest
from .data.records import Record, Sample, Shape
from .data.texts import checked_text, text_in
from .tracking import Report, print_line

#: Training keeps three quarters of its prompts at least.
_SHARE = 4
_JSON = ".json"


def find_prompts(config: TrainConfig, *, report: Report = print_line) -> Clips:
    """The prompts that the config names, and those that validation measures.

    Without a manifest for validation, some are held out, chosen by content. If there are too few
    for that, prompts that are trained on are measured, and `report` says so.

    Raises:
        InputError: There are none, or a file of prompts is malformed.
    """
    data, validation = config.data, config.validation
    if data.synthetic is not None:
        from .data.synthetic import synthetic_records

        given = synthetic_records(data.synthetic)
        records = _records(config, [record.captions for record in given])
        if validation.manifest is None:
            held = data.synthetic.model_copy(update={"count": validation.clips})
            others = synthetic_records(held, seed=validation.seed)
            return Clips(records, _records(config, [record.captions for record in others]))
    elif data.manifest is not None:
        records = _records(config, [(prompt,) for prompt in read_prompts(data.manifest)])
    else:
        raise InputError("data has no prompts: set data.manifest or data.synthetic.")
    if validation.manifest is not None:
        prompts = read_prompts(validation.manifest)[: validation.clips]
        return Clips(records, _records(config, [(prompt,) for prompt in prompts]))
    if not config.run.validate_every:
        return Clips(records, records[: validation.clips])
    return _split(records, validation.clips, report)


def read_prompts(file: Path) -> list[str]:
    """The different prompts of a file: one per line, or a JSON list of texts or manifest entries.

    Raises:
        InputError: The file is missing or malformed, or has no prompt.
    """
    if file.suffix.lower() == _JSON:
        entries = read_json(file, list, error=InputError, limit=DATASET_BYTES)
        prompts = [_prompt_of(entry, f"{file}, entry {n}") for n, entry in enumerate(entries, 1)]
    else:
        prompts = read_text(file, error=InputError, limit=DATASET_BYTES).split("\n")
    found = list(dict.fromkeys(prompt.strip() for prompt in prompts if prompt.strip()))
    if not found:
        raise InputError(
            f"{file} has no prompt. Write one per line, or a JSON list of texts or of entries with "
            "a text."
        )
    return found


def _prompt_of(entry: Any, where: str) -> str:
    if isinstance(entry, dict):
        return text_in(entry, where)
    return checked_text(entry, f"{where} is")


def _records(config: TrainConfig, prompts: Sequence[tuple[str, ...]]) -> list[Record]:
    assert config.reward is not None
    shape = Shape(config.reward.frames, config.reward.height, config.reward.width)
    return [
        Record(
            identity=f"prompt {texts}",
            captions=texts,
            frames=shape.frames,
            height=shape.height,
            width=shape.width,
            load=_no_pixels,
        )
        for texts in prompts
    ]


def _no_pixels(shape: Shape, start: int = 0) -> Sample:
    raise InputError(f"A prompt has no pixels; {tuple(shape)} from frame {start} were requested.")


def _split(records: list[Record], wanted: int, report: Report) -> Clips:
    order = sorted(records, key=lambda record: digest("held out", record.identity))
    chosen = {record.identity for record in order[: min(wanted, len(records) // _SHARE)]}
    if not chosen:
        report(
            f"Validation measures prompts that training sees too, because {len(records)} are too "
            "few to hold some out. For a figure of new prompts, set validation.manifest."
        )
        return Clips(records, records[:wanted])
    report(f"Validation measures {counted(len(chosen), 'prompt')} that training does not see.")
    kept = [record for record in records if record.identity not in chosen]
    return Clips(kept, [record for record in records if record.identity in chosen])
