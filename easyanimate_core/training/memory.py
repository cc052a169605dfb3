"""Running out of memory while training: what is kept, and what takes less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import InputError
from .checkpoints import STATES, Checkpoints
from .config import TrainConfig
from .reward_config import RewardConfig

#: How PyTorch's allocators and libraries say it; only CUDA's and XPU's have a type of their own.
_SAID = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")


@contextmanager
def memory_told(config: TrainConfig) -> Iterator[None]:
    """Turn a lack of memory inside the block into an `InputError` with what takes less."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        said = str(error).strip().partition("\n")[0][:200] or "MemoryError"
        raise InputError(
            f"The memory is not enough for this run ({said}). {_remedies(config)} {_kept(config)}"
        ) from error


def _is_lack_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _SAID)


def _remedies(config: TrainConfig) -> str:
    """What takes less memory, apart from what the run already has."""
    run, data = config.run, config.data
    each = []
    if config.task != "vae":
        if not run.gradient_checkpointing:
            each.append("set run.gradient_checkpointing to true")
        if config.model.lora is None:
            each.append("train a LoRA (model.lora) into another output")
        reward = config.reward
        one = reward.tokens if reward is not None else max(data.tokens)
        if data.tokens_per_batch is not None and data.tokens_per_batch > one:
            each.append(f"lower data.tokens_per_batch ({data.tokens_per_batch})")
    elif data.clips_per_batch > 1:
        each.append(f"lower data.clips_per_batch ({data.clips_per_batch})")
    if run.precision == "no":
        each.append("set run.precision to bf16")
    if data.workers:
        each.append(f"lower data.workers ({data.workers})")
    if config.reward is not None:
        each += _of_reward(config.reward)
        return f"Close other programs that use it; then {', or '.join(each)}."
    each.append(
        f"choose smaller data.tokens ({', '.join(map(str, data.tokens))}) or shorter data.frames "
        f"({', '.join(map(str, data.frames))})"
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
    if states:
        return f"The run resumes after step {states[-1]}."
    return "No state was saved yet: the run starts over."
