"""Runs a conversion: checks first, then writes tensor by tensor, completely or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from ..errors import CheckpointError, InputError, counted, printable
from ..files import Result, atomic_file, atomic_folder, check_folder, check_results
from ..files.kinds import is_gguf, is_safetensors
from ..progress import Progress, silent
from ..version import __version__
from ..weights.files.detect import CONFIG_KEY
from ..weights.files.folder import PICKLE_SUFFIXES, SAFETENSORS_SUFFIX
from ..weights.files.gguf_file import GGUF_SUFFIX
from ..weights.files.gguf_writer import GGUFStream, packed_bytes
from ..weights.files.writer import Entry, SafetensorsWriter, check_space, file_bytes, write_index
from ..weights.lora.facts import stated_beside
from .encode import changes, encode, overflows_fp16
from .fidelity import ErrorSums, Fidelity, LayerError
from .options import GGUF_DTYPES, Conversion
from .others import copy_others, other_files
from .source import LORA, Source, is_checkpoint, open_source
from .target import TargetWeight, entries_of, shards, target_weights

_SUFFIXES = (SAFETENSORS_SUFFIX, GGUF_SUFFIX)
_CHECKPOINT_SUFFIXES = {*_SUFFIXES, ".json", ".txt", ".model", ".md", ".jinja", ""}
_STEMS = {"transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_SHOWN = 6


def convert(
    source: Path | str,
    target: Path | str,
    conversion: Conversion,
    *,
    progress: Progress = silent,
) -> Fidelity:
    """Convert `source` to `target` and measure how far apart they are.

    Args:
        source: A checkpoint folder, a component's folder, or a `.safetensors` or `.gguf` file; also
            a pickle of plain tensors (`.bin`, `.pt`, `.pth`, `.ckpt`), or a LoRA.
        target: A name ending in `.safetensors` or `.gguf` is a file with one component; any other
            is a folder for the component, or for the whole checkpoint if the source is one and no
            part is named. The other parts of a checkpoint are copied; large weight files are
            hard-linked if possible.
        conversion: The options.
        progress: Reports the stage "convert"; an exception raised from it leaves nothing behind.

    Raises:
        CheckpointError: The source is damaged or belongs to another model, a value does not fit the
            dtype, or the disk is too small.
        InputError: The options contradict each other, or the target exists.
    """
    begin = time.perf_counter()
    source, target = Path(source), Path(target)
    whole = is_checkpoint(source) and conversion.part is None and not _is_file(target)
    opened = open_source(source, conversion.part, pickles=True)
    _check_target(source, target, conversion)
    targets = target_weights(opened, conversion, gguf=target.suffix.lower() == GGUF_SUFFIX)
    if conversion.dtype == "fp16":
        _check_fp16(opened, targets)
    metadata = _metadata(opened, conversion)
    others = other_files(source) if whole else ()
    if _is_file(target):
        layers, size = _write_file(opened, targets, target, metadata, progress)
    else:
        with atomic_folder(target, replace=conversion.force) as folder:
            part = folder / "transformer" if whole else folder
            layers, size = _write_folder(
                opened, targets, part, metadata, conversion.max_shard_bytes, progress
            )
            if whole:
                copy_others(source, others, folder)
    return Fidelity(
        source=str(source),
        target=str(target),
        part=opened.part,
        dtype=conversion.dtype,
        bytes_before=opened.num_bytes,
        bytes_after=size,
        seconds=time.perf_counter() - begin,
        num_weights=len(targets),
        layers=layers,
        notes=_notes(opened, targets, conversion, target, whole=whole),
    )


def _check_target(source: Path, target: Path, conversion: Conversion) -> None:
    is_file = _is_file(target)
    places = source.resolve(), target.resolve()
    # A file next to the pickles that it is converted from is what makes their folder readable.
    beside = is_file and places[1].parent == places[0] and _is_pickled(places[0])
    inside = places[0] in places[1].parents and not beside
    if places[0] == places[1] or places[1] in places[0].parents or inside:
        raise InputError(
            f"The target {target} and the source {source} overlap: name another target."
        )
    if is_file and conversion.max_shard_bytes is not None:
        raise InputError("Only a folder can have shards: omit the shard size, or name a folder.")
    if not is_file:
        check_folder(target, "checkpoint", _is_checkpoint, sources=[source], force=conversion.force)
        return
    is_gguf_file = target.suffix.lower() == GGUF_SUFFIX
    what, is_one = ("GGUF", is_gguf) if is_gguf_file else ("safetensors", is_safetensors)
    read = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]
    result = Result(target, f"{what} file", is_one)
    check_results([result], sources=read, force=conversion.force)


def _is_file(target: Path) -> bool:
    """Whether the target is a file with one component."""
    return target.suffix.lower() in _SUFFIXES


def _is_checkpoint(folder: Path) -> bool:
    """Whether a folder contains only files of a checkpoint or a part of one."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    weights = any(path.suffix.lower() in _SUFFIXES for path in files)
    return weights and {path.suffix.lower() for path in files} <= _CHECKPOINT_SUFFIXES


def _is_pickled(folder: Path) -> bool:
    files = list(folder.iterdir()) if folder.is_dir() else []
    suffixes = {file.suffix.lower() for file in files}
    return bool(suffixes & set(PICKLE_SUFFIXES)) and SAFETENSORS_SUFFIX not in suffixes


def _check_fp16(source: Source, targets: tuple[TargetWeight, ...]) -> None:
    """Raise before anything is written if a tensor would overflow in fp16."""
    weights = source.open()
    found = [
        weight.name
        for weight in targets
        if weight.kind == "F16" and source.info(weight.name).dtype != "F16"
        if overflows_fp16(weights[weight.name])
    ]
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise CheckpointError(
            f"{len(found)} tensors have values beyond 65504, which would be infinite in fp16: "
            f"{', '.join(found[:_SHOWN])}{more}. Use bf16 or fp32."
        )


def _metadata(source: Source, conversion: Conversion) -> dict[str, str]:
    """Metadata on the file's origin and content, so that it needs no accompanying files."""
    facts = {
        "format": "pt",
        "easyanimate.part": source.part,
        "easyanimate.dtype": conversion.dtype,
        "easyanimate.source": source.title,
        "easyanimate.source_sha256": source.header_sha256(),
        "easyanimate.tool": f"easyanimate_core {__version__}",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": source.title,
        "modelspec.implementation": "https://github.com/aigc-apps/EasyAnimate",
        "modelspec.date": datetime.now(timezone.utc).date().isoformat(),
    }
    if source.transformer is not None:
        version, head = source.transformer.version.value, source.transformer.head.value
        facts |= {
            "easyanimate.version": version,
            "easyanimate.head": head,
            "modelspec.architecture": f"easyanimate-{version}-{head}".lower(),
        }
    if source.part == LORA:
        facts = {**source.files.metadata, **stated_beside(source.path), **facts}
    elif source.config is not None:
        facts[CONFIG_KEY] = json.dumps(source.config, ensure_ascii=False, sort_keys=True)
    return facts


def _write_file(
    source: Source,
    targets: tuple[TargetWeight, ...],
    target: Path,
    metadata: Mapping[str, str],
    progress: Progress,
) -> tuple[tuple[LayerError, ...], int]:
    entries = dict(entries_of(targets))
    gguf = target.suffix.lower() == GGUF_SUFFIX
    if gguf:
        metadata = {key: text for key, text in metadata.items() if key != "format"}
    extra = {} if gguf else source.extra
    entries |= {name: Entry("U8", tuple(tensor.shape)) for name, tensor in extra.items()}
    check_space(target, _gguf_bytes(entries) if gguf else file_bytes(entries, metadata))
    stream = GGUFStream if gguf else SafetensorsWriter
    with atomic_file(target) as temporary, stream(temporary, entries, metadata) as writer:
        layers = _write_weights(source, targets, writer, _Count(progress, len(targets)))
        for name, tensor in extra.items():
            writer.append(name, tensor)
    return layers, target.stat().st_size


def _write_folder(
    source: Source,
    targets: tuple[TargetWeight, ...],
    folder: Path,
    metadata: Mapping[str, str],
    max_shard_bytes: int | None,
    progress: Progress,
) -> tuple[tuple[LayerError, ...], int]:
    if source.config is None:
        raise CheckpointError(
            f"{source.path} has no config, which the folder of a {source.part} needs. Put its "
            f"config.json next to it as {source.path.with_suffix('.json').name}."
        )
    folder.mkdir(exist_ok=True)
    groups = shards(targets, max_shard_bytes)
    stem = _STEMS.get(source.part, "model")
    names = [f"{stem}-{i:05d}-of-{len(groups):05d}.safetensors" for i in range(1, len(groups) + 1)]
    if len(groups) == 1:
        names = [f"{stem}.safetensors"]
    own = {key: text for key, text in metadata.items() if key != CONFIG_KEY}
    sizes = [file_bytes(entries_of(group), own) for group in groups]
    check_space(folder, sum(sizes))
    layers: tuple[LayerError, ...] = ()
    count = _Count(progress, len(targets))
    for name, group in zip(names, groups, strict=True):
        with SafetensorsWriter(folder / name, entries_of(group), own) as writer:
            layers += _write_weights(source, group, writer, count)
    if len(groups) > 1:
        listed = {name: list(entries_of(group)) for name, group in zip(names, groups, strict=True)}
        total = sum(e.num_bytes for group in groups for e in entries_of(group).values())
        write_index(folder / f"{stem}.safetensors.index.json", listed, total)
    text = json.dumps(source.config, ensure_ascii=False, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    return layers, sum(sizes)


class _Count:
    """Counts progress over several files."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def step(self) -> None:
        self._done += 1
        self._progress("convert", self._done, self._total)


def _write_weights(
    source: Source,
    targets: tuple[TargetWeight, ...],
    writer: SafetensorsWriter | GGUFStream,
    count: _Count,
) -> tuple[LayerError, ...]:
    weights = source.open()
    layers = []
    for weight in targets:
        value = weights[weight.name]
        errors = ErrorSums()
        for name, tensor in encode(value, weight, errors):
            writer.append(name, tensor)
        if changes(value, weight):
            layers.append(errors.layer(weight.name, weight.kind))
        count.step()
    return tuple(layers)


def _gguf_bytes(entries: Mapping[str, Entry]) -> int:
    return sum(packed_bytes(entry) for entry in entries.values())


def _notes(
    source: Source,
    targets: tuple[TargetWeight, ...],
    conversion: Conversion,
    target: Path,
    *,
    whole: bool,
) -> tuple[str, ...]:
    notes = []
    if whole:
        notes.append(
            "The other parts of the checkpoint were copied; their weights are hard links to the "
            "source's files if the disk supports that."
        )
    if conversion.dtype in GGUF_DTYPES:
        odd = [w.name for w in targets if w.kind == "BF16" and _is_matrix(w)]
        if odd:
            notes.append(
                f"{len(odd)} matrices have rows not divisible by 32 and stay bf16: {odd[0]}"
                f"{' and others' if len(odd) > 1 else ''}."
            )
    renamed = sum(name != stored for name, stored in source.names.items())
    if source.part == LORA and renamed:
        notes.append(
            f"Renamed for ComfyUI's own LoRA loaders: {counted(renamed, 'key')} with two "
            "underscores after lora_unet."
        )
    if source.files.left_out:
        shown = ", ".join(map(printable, source.files.left_out[:_SHOWN]))
        more = " and others" if len(source.files.left_out) > _SHOWN else ""
        notes.append(f"Skipped, because they are not part of the network: {shown}{more}.")
    if source.part == "text_encoder_2" and not source.extra and _is_file(target):
        notes.append(
            "The file has no tokenizer, which ComfyUI needs: tokenizer_2/spiece.model is missing."
        )
    return tuple(notes)


def _is_matrix(weight: TargetWeight) -> bool:
    from ..weights.stored import may_be_quantized

    return may_be_quantized(weight.name, weight.shape)
