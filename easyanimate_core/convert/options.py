"""The options of a conversion."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..weights.files import Layout
from ..weights.stored import STORAGE_FORMATS

#: The components that have weights, named after their folders.
PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2")
#: Plain dtypes, and their names in headers.
PLAIN_DTYPES = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}
#: GGUF types that the package `gguf` can write, in blocks of 32 values of a row.
GGUF_DTYPES = {name: name.upper() for name in ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")}
KEEP = "keep"
#: Every choice of dtype.
DTYPES = (KEEP, *PLAIN_DTYPES, *STORAGE_FORMATS, *GGUF_DTYPES)


@dataclass(frozen=True)
class Conversion:
    """The options of a conversion.

    Args:
        dtype: One of `DTYPES`; "keep" leaves every tensor as stored. Scaled and GGUF types apply to
            the denoiser's attention and feed-forward matrices; its other tensors become bf16.
        part: One of `PARTS`; None is the whole checkpoint if source and target are folders,
            otherwise the part in the source (of a whole checkpoint, the transformer).
        layout: The naming scheme of the denoiser's tensors; None keeps the names.
        max_shard_bytes: Maximum size of a shard in a folder.
        force: Replace an existing target.
    """

    dtype: str = KEEP
    part: str | None = None
    layout: Layout | None = None
    max_shard_bytes: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}.")
        if self.part is not None and self.part not in PARTS:
            raise InputError(f"part is {self.part!r}; it must be one of {', '.join(PARTS)}.")
        if self.max_shard_bytes is not None and self.max_shard_bytes < 1:
            raise InputError(f"max_shard_bytes is {self.max_shard_bytes}; it must be at least 1.")
