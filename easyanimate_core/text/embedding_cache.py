"""An on-disk cache of embeddings, so that a prompt used before needs no text encoder.

An entry's name is a hash of everything that the embedding depends on: the encoder
(`encoder_identity`) and the prompt. So entries never become stale; the least recently used ones are
removed when the folder is full.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..files import (
    TEXT,
    cache_folder,
    check_fields,
    json_value,
    listed,
    read_tensors,
    remove,
    write_tensors,
)
from ..media.samples import add_samples
from ..version import __version__
from ..weights.files import CheckpointInfo
from .embedding_file import SUFFIX, states_from_tensors, states_to_tensors
from .prompts import EncodedPrompt

#: About 500 prompts of V5.1 in bfloat16.
MAX_BYTES = 2**30
_ENTRY = re.compile(r"[0-9a-f]{64}\.safetensors")
_PACKAGES = ("torch", "transformers", "tokenizers", "sentencepiece", "optimum-quanto")


def find_cache_folder() -> Path:
    """`embeddings` in the EASYANIMATE_CACHE folder, by default ~/.cache/easyanimate."""
    return cache_folder("embeddings")


@dataclass(frozen=True)
class EmbeddingCache:
    """The embeddings of one text encoder, distinguished from others by `identity`.

    When the entries in the folder exceed `max_bytes`, the least recently used ones are removed.
    """

    folder: Path
    identity: str
    max_bytes: int = MAX_BYTES

    def read(self, prompt: str) -> EncodedPrompt | None:
        """The prompt's entry, or None; `InputError` if it is damaged."""
        path = self._path(prompt)
        try:
            if not path.is_file():
                return None
            tensors, told = read_tensors(path)
            entry = EncodedPrompt(states_from_tensors(tensors, ""), _cut(path, tensors, told))
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); it will be rewritten.") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
        with suppress(OSError):  # a read-only folder is still usable
            os.utime(path)
        return entry

    def write(self, prompt: str, encoded: EncodedPrompt) -> None:
        """Store a prompt's embedding; `MediaError` if it cannot be written."""
        tensors = states_to_tensors(encoded.states, "")
        path = self._path(prompt)
        told = {"cut": json.dumps(encoded.cut), "entry": path.stem}
        write_tensors(path, tensors, told, spare=False)
        with suppress(OSError):  # the next entry tries again
            self._make_room()

    def _path(self, prompt: str) -> Path:
        key = json.dumps([self.identity, prompt])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}{SUFFIX}"

    def _make_room(self) -> None:
        entries = []
        for path in self.folder.iterdir():
            if _ENTRY.fullmatch(path.name):
                try:
                    entries.append((path.stat().st_mtime_ns, path.stat().st_size, path))
                except FileNotFoundError:  # removed by another process
                    continue
        excess = sum(size for _, size, _ in entries) - self.max_bytes
        for _, size, path in sorted(entries):
            if excess <= 0:
                return
            with suppress(OSError):  # an entry in use stays for now
                remove(path, wait=False)
                excess -= size


def _cut(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> tuple[str, ...]:
    """The truncated words in an entry; `ValueError` if it is incomplete or another entry."""
    if told.get("entry") != path.stem or "sha256" not in told:
        raise ValueError("it belongs to another prompt, or to an earlier version")
    cut = json_value(told.get("cut", ""), list, "cut", error=InputError)
    check_fields({"cut": cut}, {"cut": listed(TEXT, len(tensors), len(tensors))}, "It", InputError)
    return tuple(cut)


def encoder_identity(
    info: CheckpointInfo, *, dtype: torch.dtype, device: torch.device, quantization: str
) -> str:
    """A hash of everything but the prompt that an embedding depends on.

    This covers the files of text encoders and tokenizers (weights by evenly spaced samples, others
    whole), how they are used, the dtype, the device type, and the versions of the libraries and of
    this package.
    """
    digest = hashlib.sha256()
    how = (
        info.version.value,
        info.transformer.enable_text_attention_mask,
        str(dtype),
        device.type,
        quantization,
        __version__,
        [_version(package) for package in _PACKAGES],
    )
    digest.update(repr(how).encode())
    for files in info.text_encoders:
        for file in files.files:
            add_samples(digest, file)
    for file in _small_files(info):
        digest.update(f"{file.relative_to(info.path).as_posix()} {file.stat().st_size}".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _small_files(info: CheckpointInfo) -> Iterable[Path]:
    """The text encoders' configs and all files of their tokenizers."""
    for number in range(len(info.text_encoders)):
        suffix = "" if number == 0 else f"_{number + 1}"
        yield info.path / f"text_encoder{suffix}" / "config.json"
        folder = info.path / f"tokenizer{suffix}"
        yield from sorted(path for path in folder.rglob("*") if path.is_file())
