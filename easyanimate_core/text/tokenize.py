"""Tokenizers of a checkpoint folder: from prompts to token ids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files import read_bytes
from ..weights.files.whole import check_whole
from .chat import Chat, chat_of
from .tokenizer_files import (
    BERT_STEPS,
    QWEN_STEPS,
    REMEDY,
    Steps,
    check_tokenizer_file,
    read_tokenizer_config,
)

logger = logging.getLogger(__name__)

#: mT5's model has 4 MB.
_SPIECE_BYTES = 64 * 2**20

#: Number of tokens that both versions pad to (V5's Bert tokenizer declares fewer: 77).
MAX_TOKENS = 256


@dataclass(frozen=True)
class Tokens:
    """`ids` and `mask` [B, T], int64; `removed[i]` is the truncated end of text i."""

    ids: Tensor
    mask: Tensor
    removed: tuple[str, ...]


class Tokenizer(Protocol):
    """The tokenizer interface that text encoders need."""

    @property
    def max_tokens(self) -> int:
        """Length to which every text is padded or truncated, on the right."""

    @property
    def num_tokens(self) -> int:
        """Vocabulary size; every id is smaller."""

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of a batch, T = `max_tokens`."""


class TransformersTokenizer:
    """A fast tokenizer of transformers; the Rust backend provides offsets."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    @property
    def max_tokens(self) -> int:
        """The declared maximum, at most 256."""
        return min(self.backend.model_max_length, MAX_TOKENS)

    @property
    def num_tokens(self) -> int:
        """Vocabulary size, including special tokens."""
        return 1 + max(self.backend.get_vocab().values())

    def count(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, if nothing were truncated."""
        whole = self.backend(list(texts), padding=False, truncation=False, verbose=False)
        return [len(ids) for ids in whole["input_ids"]]

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of a batch."""
        batch = self.backend(
            list(texts),
            padding="max_length",
            padding_side="right",
            truncation=True,
            max_length=self.max_tokens,
            return_offsets_mapping=True,
        )
        rows = zip(texts, self.count(texts), batch["offset_mapping"], strict=True)
        removed = [
            text[max(end for _, end in offsets) :] if count > self.max_tokens else ""
            for text, count, offsets in rows
        ]
        return Tokens(
            torch.tensor(batch["input_ids"]), torch.tensor(batch["attention_mask"]), tuple(removed)
        )


class ChatTokenizer(TransformersTokenizer):
    """A tokenizer together with the chat format of its language model."""

    def __init__(self, backend: Any, chat: Chat) -> None:
        super().__init__(backend)
        self.chat = chat

    def count_prompts(self, prompts: Sequence[str]) -> list[int]:
        """Number of tokens of each prompt as a chat, if nothing were truncated."""
        return self.count([self.chat(prompt) for prompt in prompts])

    def tokenize_prompts(self, prompts: Sequence[str]) -> Tokens:
        """Token ids of prompts as chats; `removed` has words of the prompts only."""
        tokens = self.tokenize([self.chat(prompt) for prompt in prompts])
        # A truncated chat also loses the end of the template, which is not part of the prompt.
        end = len(self.chat.after)
        removed = tuple(text[: max(len(text) - end, 0)].strip() for text in tokens.removed)
        return replace(tokens, removed=removed)


class SentencePieceTokenizer:
    """mT5's tokenizer, run by the sentencepiece library; appends the end token.

    transformers needs protobuf to read `spiece.model`, which neither this project nor ComfyUI
    installs.
    """

    def __init__(self, model: bytes, model_max_length: int = MAX_TOKENS) -> None:
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor(model_proto=model)
        self._pad, self._end = self._processor.pad_id(), self._processor.eos_id()
        if self._pad < 0 or self._end < 0:
            raise ValueError("the model has no padding token or no end token")
        self._model_max_length = model_max_length

    @property
    def max_tokens(self) -> int:
        """The declared maximum, at most 256."""
        return min(self._model_max_length, MAX_TOKENS)

    @property
    def num_tokens(self) -> int:
        """Vocabulary size."""
        return len(self._processor)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, if nothing were truncated."""
        return [len(ids) + 1 for ids in self._processor.encode(list(texts), out_type=int)]

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of a batch."""
        room = self.max_tokens - 1
        rows, masks, removed = [], [], []
        for text in texts:
            whole = self._processor.encode(text, out_type=int)
            removed.append(self._processor.decode(whole[room:]))
            ids = [*whole[:room], self._end]
            padding = self.max_tokens - len(ids)
            rows.append(ids + [self._pad] * padding)
            masks.append([1] * len(ids) + [0] * padding)
        return Tokens(torch.tensor(rows), torch.tensor(masks), tuple(removed))


def load_qwen_tokenizer(folder: Path, *, chat: Chat | None = None) -> ChatTokenizer:
    """Qwen2-VL's byte-level BPE with `chat`, by default the chat format of its folder."""
    _require(folder, "Qwen2-VL", _vocabulary(folder, ("vocab.json", "merges.txt")))
    # transformers 4 calls these tokenizers "Fast"; transformers 5 accepts the names.
    tokenizer = _from_transformers("Qwen2TokenizerFast", folder, "Qwen2-VL", QWEN_STEPS)
    return ChatTokenizer(tokenizer, chat or chat_of(tokenizer.chat_template, str(folder)))


def load_bert_tokenizer(folder: Path) -> TransformersTokenizer:
    """Bert's WordPiece tokenizer."""
    _require(folder, "Bert", _vocabulary(folder, ("vocab.txt",)))
    tokenizer = _from_transformers("BertTokenizerFast", folder, "Bert", BERT_STEPS)
    return TransformersTokenizer(tokenizer)


def load_t5_tokenizer(folder: Path) -> SentencePieceTokenizer:
    """mT5's sentencepiece tokenizer."""
    _require(folder, "mT5", ("spiece.model",))
    longest = read_tokenizer_config(folder).get("model_max_length") or MAX_TOKENS
    path = folder / "spiece.model"
    model = read_bytes(path, error=CheckpointError, remedy=REMEDY, limit=_SPIECE_BYTES)
    try:
        return SentencePieceTokenizer(model, int(longest))
    except (ValueError, RuntimeError) as error:
        raise _unreadable(folder, "mT5", error) from error


def _vocabulary(folder: Path, files: tuple[str, ...]) -> tuple[str, ...]:
    """The vocabulary files: `tokenizer.json` if present, else `files`."""
    return ("tokenizer.json",) if (folder / "tokenizer.json").is_file() else files


def _require(folder: Path, name: str, files: tuple[str, ...]) -> None:
    # Without tokenizer_config.json Bert would read 256 tokens instead of 77.
    missing = [file for file in ("tokenizer_config.json", *files) if not (folder / file).is_file()]
    if missing:
        raise CheckpointError(
            f"The {name} tokenizer is incomplete: {' and '.join(missing)} missing in {folder}. "
            "Download this folder of the checkpoint completely."
        )
    for file in ("tokenizer_config.json", *files):
        check_whole(folder / file)


def _from_transformers(class_name: str, folder: Path, name: str, steps: Steps) -> Any:
    import transformers

    read_tokenizer_config(folder)
    if (folder / "tokenizer.json").is_file():
        check_tokenizer_file(folder / "tokenizer.json", steps)
    try:
        tokenizer = getattr(transformers, class_name).from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        tried = TransformersTokenizer(tokenizer).tokenize(["a"])
    except BaseException as error:
        # The tokenizers library raises bare `Exception` on damaged files, and a panic in its Rust
        # code is not an `Exception` at all.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise _unreadable(folder, name, error) from error
    if not 0 <= tried.ids.min() <= tried.ids.max() < TransformersTokenizer(tokenizer).num_tokens:
        raise _unreadable(folder, name, "it returns ids outside its vocabulary")
    return tokenizer


def _unreadable(folder: Path, name: str, fault: object) -> CheckpointError:
    newer = "Update transformers and tokenizers, which may be older than the file; otherwise: "
    remedy = f"{newer}{REMEDY}" if "did not match any variant" in str(fault) else REMEDY
    return CheckpointError(f"The {name} tokenizer in {folder} cannot be read: {fault}. {remedy}")


def report_removed(removed: Sequence[str], name: str, max_tokens: int) -> None:
    """Warn about every truncated prompt; nothing is cut silently."""
    for text in removed:
        if text:
            logger.warning("%s reads %d tokens; not read: %r", name, max_tokens, text)


def check_vocabulary(tokenizer: Tokenizer, num_embeddings: int, name: str) -> None:
    """Raise `CheckpointError` if the tokenizer has ids that the network does not."""
    if tokenizer.num_tokens > num_embeddings:
        raise CheckpointError(
            f"The {name} tokenizer has {tokenizer.num_tokens} tokens, but its text encoder has "
            f"{num_embeddings}. They come from different checkpoints; use both folders of the same "
            "one."
        )
