"""Running out of memory while training: what is kept, and what takes less."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import InputError
from .checkpoints import STATES, Checkpoints
from .config import TrainConfig
from .reward_config import RewardConfig
from .terms import terms

#: How PyTorch's allocators and libraries say it; only CUDA's and XPU's have a type of their own.
_SAID = (
    "out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED",
    "failed to map segment",
)  # fmt: skip


@contextmanager
def memory_told(config: TrainConfig) -> Iterator[None]:
    """Turn a lack of memory inside the block into an `InputError` with what takes less."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError, ImportError) as error:
        if not _is_lack_of_memory(error):
            raise
        said = str(error).strip().partition("\n")[0][:200] or "MemoryError"
        raise InputError(
            f"The memory is not enough for this run ({said}). {_remedies(config)} {_kept(config)}"
        ) from error


def _is_lack_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(words in str(error) for words in _SAID)


def _remedies(config: TrainConfig) -> str:
    """What takes less memory, apart from what the run already has."""
    run, data, own = config.run, config.data, terms()
    batch, reward = data.tokens_per_batch, config.reward
    one = reward.tokens if reward is not None else max(data.tokens)
    known = [
        (run.gradient_checkpointing, "run.gradient_checkpointing", "set {} to true"),
        (config.model.lora is not None, "model.lora", "train a LoRA ({}) into another output"),
        (batch is None or batch <= one, "data.tokens_per_batch", f"lower {{}} ({batch})"),
    ]
    if config.task == "vae":
        clips = data.clips_per_batch
        known = [(clips == 1, "data.clips_per_batch", f"lower {{}} ({clips})")]
    known += [
        (run.precision != "no", "run.precision", "set {} to bf16"),
        (not data.workers, "data.workers", f"lower {{}} ({data.workers})"),
    ]
    each = [
        remedy.format(own.called(setting))
        for is_done, setting, remedy in known
        if not is_done and own.has(setting)
    ]
    if reward is not None:
        each += _of_reward(reward)
        return f"Close other programs that use it; then {', or '.join(each)}."
    lengths = ", ".join(map(str, data.frames))
    tokens = f" ({', '.join(map(str, data.tokens))})" if own.names is None else ""
    each.append(
        f"choose smaller {own.called('data.tokens')}{tokens} or shorter "
        f"{own.called('data.frames')} ({lengths})"
    )
    return f"Close other programs that use it; then {', or '.join(each)}."


def _of_reward(reward: RewardConfig) -> list[str]:
    each = [
        f"lower reward.{name} ({value})"
        for name, value in (("decoded", reward.num_decoded), ("backprop", reward.backprop))
        if value > 1
    ]
    size = f"{reward.frames} x {reward.height} x {reward.width}"
    return [*each, f"choose a smaller reward.frames, height or width ({size})"]


def _kept(config: TrainConfig) -> str:
    states = Checkpoints(config.output / STATES, config.run.keep).steps()
    if not states:
        return "No state was saved yet: the run starts over."
    same = "" if terms().resumes else ", with the same images and settings,"
    return f"The run{same} resumes after step {states[-1]}."
