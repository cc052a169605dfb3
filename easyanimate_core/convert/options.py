"""What a conversion makes of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..weights.files import Layout
from ..weights.stored import STORAGE_FORMATS

#: The components that have weights, by the names of their folders.
PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2")
#: Plain dtypes, and the headers' words for them.
PLAIN_DTYPES = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}
#: Types of GGUF that the package `gguf` can write, in blocks of 32 values of a row.
GGUF_DTYPES = {name: name.upper() for name in ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")}
KEEP = "keep"
#: Every choice of dtype.
DTYPES = (KEEP, *PLAIN_DTYPES, *STORAGE_FORMATS, *GGUF_DTYPES)


@dataclass(frozen=True)
class Conversion:
    """What is to be written.

    Args:
        dtype: One of `DTYPES`; "keep" leaves every tensor as it is stored. The scaled ones and
            GGUF's are for the denoiser's attention and feed-forward matrices; its other tensors
            become bf16.
        part: One of `PARTS`; None is the whole checkpoint where source and target are folders, and
            otherwise the part that the source is (of a whole checkpoint: the transformer).
        layout: Whose names the denoiser's tensors get; None keeps them.
        max_shard_bytes: In a folder, begin another file beyond this size.
        force: Replace a target that exists.
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
