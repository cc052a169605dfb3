"""Plans which tensors are written, with names and formats, before any is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import InputError
from ..weights.files import Layout, TensorInfo
from ..weights.files.key_maps_transformer import to_diffusers
from ..weights.files.scaled import note_name, scale_name
from ..weights.files.writer import ITEM_BYTES, Entry
from ..weights.stored import STORAGE_FORMATS, may_be_quantized, stored_format
from ..weights.stored.storage import note
from .options import GGUF_DTYPES, KEEP, PLAIN_DTYPES, Conversion
from .source import Source

#: Values of a row in one GGUF block.
_BLOCK = 32
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
#: The dtype of tensors that are not quantised.
_COMPUTE = "BF16"


@dataclass(frozen=True)
class TargetWeight:
    """One weight that is written.

    `name` is the network's name, `target` the one in the file, `kind` a header dtype (BF16), a key
    of `STORAGE_FORMATS` or a GGUF type (Q8_0).
    """

    name: str
    target: str
    kind: str
    shape: tuple[int, ...]

    @property
    def entries(self) -> dict[str, Entry]:
        """Its tensors in the file."""
        if self.kind not in STORAGE_FORMATS:
            return {self.target: Entry(self.kind, self.shape)}
        how = STORAGE_FORMATS[self.kind]
        scale = (self.shape[0], *[1] * (len(self.shape) - 1)) if how.per_channel else ()
        return {
            self.target: Entry(how.word, self.shape),
            scale_name(self.target): Entry("F32", scale),
            note_name(self.target): Entry("U8", tuple(note(self.kind).shape)),
        }


def target_weights(
    source: Source, conversion: Conversion, *, gguf: bool
) -> tuple[TargetWeight, ...]:
    """Every weight of the target, in the source's order.

    Raises:
        InputError: The dtype is not supported for the part, the source or the file format.
    """
    _check(source, conversion, gguf=gguf)
    rename = to_diffusers if conversion.layout is Layout.DIFFUSERS else str
    keep_names = conversion.layout is None and source.part == "transformer"
    targets = []
    for name, stored in source.names.items():
        info = source.files[stored]
        target = _kept_name(name, stored) if keep_names else rename(name)
        kind = _kind(name, info, stored_format(source.files, stored), conversion.dtype)
        targets.append(TargetWeight(name, target, kind, info.shape))
    return tuple(targets)


def _kept_name(name: str, stored: str) -> str:
    """The stored name without the prefix that ComfyUI adds."""
    diffusers = to_diffusers(name)
    return diffusers if stored.endswith(diffusers) and diffusers != name else name


def _kind(name: str, info: TensorInfo, scaled: str | None, dtype: str) -> str:
    if info.dtype in ITEM_BYTES and info.dtype not in _FLOATS and scaled is None:
        return info.dtype  # integers, such as positions
    if dtype == KEEP:
        return scaled or info.dtype
    if dtype in PLAIN_DTYPES:
        return PLAIN_DTYPES[dtype]
    if not may_be_quantized(name, info.shape):
        return _COMPUTE
    if dtype in STORAGE_FORMATS:
        return dtype
    return GGUF_DTYPES[dtype] if info.shape[-1] % _BLOCK == 0 else _COMPUTE


def _check(source: Source, conversion: Conversion, *, gguf: bool) -> None:
    dtype = conversion.dtype
    quantized = dtype in STORAGE_FORMATS or dtype in GGUF_DTYPES
    if source.part != "transformer" and (quantized or gguf):
        raise InputError(
            f"{source.path} is a {source.part}; {'GGUF' if gguf else dtype} is only for the "
            f"transformer. Choose {', '.join(PLAIN_DTYPES)} and a .safetensors file or a folder."
        )
    if conversion.layout is not None and source.part != "transformer":
        raise InputError(
            f"{source.path} is a {source.part}, whose names are the same in both layouts. Omit "
            "the layout."
        )
    if dtype in GGUF_DTYPES and not gguf:
        raise InputError(f"{dtype} is a GGUF type: name a target that ends in .gguf.")
    if gguf and dtype in STORAGE_FORMATS:
        raise InputError(
            f"GGUF has no {dtype}. Choose {', '.join((*PLAIN_DTYPES, *GGUF_DTYPES))}, or a target "
            "that ends in .safetensors."
        )
    if dtype == KEEP:
        _check_kept(source, {info.dtype for info in source.files.weights.values()}, gguf=gguf)


def _check_kept(source: Source, stored: set[str], *, gguf: bool) -> None:
    writable = set(PLAIN_DTYPES.values()) if gguf else set(ITEM_BYTES)
    odd = sorted(stored - writable)
    if odd:
        raise InputError(
            f"{source.path} is stored as {', '.join(odd)}, which cannot be written to a "
            f"{'.gguf' if gguf else 'safetensors'} file. Choose a dtype."
        )


def entries_of(targets: tuple[TargetWeight, ...]) -> Mapping[str, Entry]:
    """The header entries of all tensors of a file."""
    return {name: entry for weight in targets for name, entry in weight.entries.items()}


def shards(
    targets: tuple[TargetWeight, ...], max_bytes: int | None
) -> list[tuple[TargetWeight, ...]]:
    """Group the weights into shards of at most `max_bytes`; a larger weight gets its own shard."""
    groups: list[list[TargetWeight]] = [[]]
    size = 0
    for weight in targets:
        own = sum(entry.num_bytes for entry in weight.entries.values())
        if max_bytes is not None and groups[-1] and size + own > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(weight)
        size += own
    return [tuple(group) for group in groups]
