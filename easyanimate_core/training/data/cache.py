"""Latents on disk, keyed by the content that they were encoded from."""

from __future__ import annotations

import functools
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...errors import MediaError
from ...files import read_tensors, write_tensors
from ...media.samples import add_samples

logger = logging.getLogger(__name__)

_KEY = "latents"
_DIGEST_BYTES = 20
_MEDIA_SAMPLES = 32
_UNCOMPRESSED = (".bmp", ".tif", ".tiff")


def digest(*parts: object) -> str:
    """A hash of `parts` that is the same in every process."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def digest_of_files(*paths: Path) -> str:
    """A hash of the content of files; large ones are sampled."""
    total = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for path in paths:
        add_samples(total, path)
    return total.hexdigest()


def digest_of_media(file: Path) -> str:
    """A hash of the content of a picture or a clip, quick enough for thousands of them.

    Fewer samples are enough than for weights: any change to a compressed file changes its size or
    most of what follows. Uncompressed ones are hashed whole.
    """
    total = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    add_samples(total, file, None if file.suffix.lower() in _UNCOMPRESSED else _MEDIA_SAMPLES)
    return total.hexdigest()


@functools.lru_cache(maxsize=16)
def tell_once(folder: Path, result: str) -> None:
    """Log once that a folder cannot be written to, and the consequence."""
    logger.error(
        "Nothing can be cached in %s, which is full or not writable: what is missing there %s.",
        folder,
        result,
    )


@dataclass(frozen=True)
class LatentCache:
    """Tensors in half precision by content; `encoder` identifies the network that encoded them.

    A damaged entry, or one with values that are not finite, is encoded again.
    """

    folder: Path
    encoder: str

    def read(self, *content: object) -> Tensor | None:
        """The tensor cached for `content`, None if there is none."""
        path = self._path(content)
        if not path.is_file():
            return None
        try:
            tensors, told = read_tensors(path)
            kept = tensors[_KEY]
        except (ValueError, KeyError):
            return None
        is_own = told.get("entry", path.stem) == path.stem
        return kept.float() if is_own and bool(kept.isfinite().all()) else None

    def has(self, *content: object) -> bool:
        """Whether there is an entry, damaged or not."""
        return self._path(content).is_file()

    def write(self, tensor: Tensor, *content: object) -> None:
        """Cache a tensor; if that fails, it is logged once and the run continues without."""
        half = tensor.to("cpu", torch.float16).contiguous()
        try:
            path = self._path(content)
            write_tensors(path, {_KEY: half}, {"entry": path.stem}, spare=False)
        except MediaError:
            tell_once(self.folder, "is encoded again in every epoch")

    def _path(self, content: tuple[object, ...]) -> Path:
        name = digest(self.encoder, *content)
        return self.folder / name[:2] / f"{name}.safetensors"
