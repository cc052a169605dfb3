"""From a config to a finished run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..files import read_json
from ..progress import Progress, silent
from .account import Facts, account_of, facts_of, left_out_told, write_account
from .changes import changes_of
from .checkpoints import STATES, Checkpoints
from .claim import CONFIG_FILE, Earlier, check_is_free, claim, held, record
from .clips import Clips, find_clips
from .config import TrainConfig, parse_config
from .data.records import Record
from .doubts import doubts_of
from .load_or_build import weights_digest
from .memory import memory_told
from .optimizers import SHARDED
from .prompts import find_prompts
from .strategies.base import Strategy
from .terms import terms
from .together import ending_together, share_of
from .tracking import Report, print_line, tell_nobody
from .trainer import Trainer

#: How long processes wait for one that validates alone, which can take more than 10 minutes.
_PATIENCE = timedelta(hours=6)
#: Asked before an earlier run is deleted.
Confirm = Callable[[str], bool]


def _agreed(_: str) -> bool:
    return True


def run_training(
    config: TrainConfig,
    *,
    records: Sequence[Record] | None = None,
    restart: bool = False,
    confirm: Confirm = _agreed,
    cpu: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
    report: Report = print_line,
) -> list[Path]:
    """Train, or resume the run in `config.output`; returns the result's files.

    With `accelerate launch`, every process calls it.

    Args:
        config: The run's config.
        records: Clips in memory, used instead of the config's data.
        restart: Delete an earlier run in `config.output`.
        confirm: Called in the main process with what `restart` would delete; False refuses.
        cpu: Train on the CPU even if there is a GPU.
        dry_run: Only report what would be trained; an earlier run stays as it is.
        progress: Called with the stages "read", "check", "compare", "captions", "train" and
            "sample"; may raise to stop, and the run can be resumed. What is trained by then is
            saved first. One that is also a `Watch` is told of saved LoRAs and samples.
        report: Called with every line that the run prints.

    Raises:
        InputError: The config does not fit the data or the checkpoint, `config.output` contains
            another run or is in use by one, training has diverged, or memory is too small.
        CheckpointError: A checkpoint is damaged or belongs to another model.
        MediaError: The disk is full or not writable, or no clip can be read.
        ElsewhereError: Another process of the run has ended before, and says why.
    """
    asked = (_agreed if dry_run else confirm) if restart else None
    with ending_together(), torch.inference_mode(mode=False):  # a host may have enabled it
        accelerator = _accelerator(config, cpu=cpu)
        main = accelerator.is_main_process
        told = report if main else tell_nobody
        alone = held(config.output, told) if main and not dry_run else nullcontext()
        with alone, memory_told(config):
            return _run(config, records, accelerator, asked, progress, told, dry_run=dry_run)


def _run(
    config: TrainConfig,
    records: Sequence[Record] | None,
    accelerator: Any,
    confirm: Confirm | None,
    progress: Progress,
    told: Report,
    *,
    dry_run: bool,
) -> list[Path]:
    """The run in this process; what it made is gone when it returns. `confirm` is for a restart."""
    main = accelerator.is_main_process
    weights = weights_digest(config) if main else ""
    resumed = _check_output(config, weights, confirm) if main else _Resumed()
    for change in resumed.changed:
        told(f"note: {change}.")
    accelerator.wait_for_everyone()
    clips = _clips(config, records, accelerator, progress, told)
    strategy = make_strategy(config, clips)
    facts = facts_of(config, strategy, clips, accelerator.num_processes)
    said = _told_account(facts, told)
    if dry_run:
        return []
    strategy.encode_ahead(accelerator.device, share_of(accelerator), progress)
    trainer = Trainer(
        config, strategy, accelerator,
        origin=clips.origin(weights), progress=progress, report=told,
    )  # fmt: skip
    if main:  # errors before this leave the folder and an earlier run untouched
        _claim(config, resumed, said, restart=confirm is not None)
    accelerator.wait_for_everyone()
    accelerator.init_trackers("tensorboard")
    files = trainer.train()
    if clips.left_out:
        told(f"note: left out from the beginning: {left_out_told(clips.left_out)}.")
    return files


@dataclass(frozen=True)
class _Resumed:
    """Steps that a run has done before, and sentences of what has changed since."""

    done: int = 0
    changed: tuple[str, ...] = ()


def _clips(
    config: TrainConfig,
    records: Sequence[Record] | None,
    accelerator: Any,
    progress: Progress,
    report: Report,
) -> Clips:
    if config.task == "reward":
        return find_prompts(config, report=report)
    if records is None:
        return find_clips(config, accelerator, progress=progress, report=report)
    return Clips.in_memory(config, records, accelerator, progress=progress, report=report)


def _told_account(facts: Facts, told: Report) -> tuple[str, ...]:
    """Say what will be trained and what looks wrong about it; returns the lines."""
    said = (account_of(facts), *doubts_of(facts))
    for line in said:
        told(line)
    return said


def _claim(config: TrainConfig, resumed: _Resumed, said: Sequence[str], *, restart: bool) -> None:
    text = json.dumps(config.model_dump(mode="json"), indent=2) + "\n"
    claim(config.output, text, restart=restart)
    record(config.output, resumed.done, resumed.changed)
    write_account(config.output, said)


def make_strategy(config: TrainConfig, clips: Clips) -> Strategy:
    """The strategy of `config.task` with its clips."""
    if config.task == "vae":
        from .strategies.vae import VAEStrategy

        return VAEStrategy(config, clips.records, clips.held_out)
    if config.task == "reward":
        from .strategies.reward import RewardStrategy

        return RewardStrategy(config, clips.records, clips.held_out)
    if config.task == "distill":
        from .strategies.distill import DistillStrategy

        return DistillStrategy(config, clips.records, clips.held_out)
    from .strategies.denoiser import DenoiserStrategy

    return DenoiserStrategy(config, clips.records, clips.held_out)


def _accelerator(config: TrainConfig, *, cpu: bool = False) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs, set_seed

    run = config.run
    # It outlives a run and rejects another precision in the same process.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        gradient_accumulation_steps=run.accumulate,
        mixed_precision=run.precision,
        log_with="tensorboard" if run.tensorboard else None,
        project_dir=str(config.output),
        cpu=cpu,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    # Only for libraries (numpy's maximum is 2**32 - 1); our own draws have their generators.
    set_seed(config.seed % 2**31, device_specific=True)
    _check_sharding(config, accelerator)
    _keep_inputs_whole(accelerator)
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:  # it needs the batch size, which it cannot take from our loader
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = config.data.clips_per_batch
    return accelerator


def _check_sharding(config: TrainConfig, accelerator: Any) -> None:
    kind = accelerator.distributed_type.value
    if kind == "FSDP" and not accelerator.is_fsdp2:
        raise InputError(
            "accelerate is configured for fsdp_version 1, which hides individual weights. Set "
            "fsdp_version to 2 in its configuration (`accelerate config`)."
        )
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None and (plugin.zero_stage == 0 or _is_on_disk(plugin)):
        raise InputError(
            f"accelerate is configured for DeepSpeed with ZeRO stage {plugin.zero_stage}"
            f"{', on NVMe' if _is_on_disk(plugin) else ''}, whose states cannot be saved. Use "
            "stage 2 or 3, without offload or with offload to the CPU."
        )
    if plugin is not None and plugin.zero_stage == 3 and config.run.ema:
        raise InputError(
            f"run.ema is {config.run.ema}, but DeepSpeed's ZeRO stage 3 keeps no whole weights to "
            "average. Use stage 2 or FSDP, or set run.ema to 0."
        )
    if kind in SHARDED and config.task == "vae":
        raise InputError(
            f"task is vae, but accelerate is configured for {kind}, which is for denoisers: a VAE "
            "fits on every GPU. Train it on several GPUs without it."
        )


def _is_on_disk(plugin: Any) -> bool:
    zero = plugin.deepspeed_config.get("zero_optimization", {})
    parts = (zero.get(f"offload_{part}") or {} for part in ("optimizer", "param"))
    return any(part.get("device") == "nvme" for part in parts)


def _keep_inputs_whole(accelerator: Any) -> None:
    """Keep FSDP from rounding timesteps to bfloat16; autocast casts what may be rounded."""
    plugin = accelerator.state.fsdp_plugin if accelerator.is_fsdp2 else None
    if plugin is not None and plugin.mixed_precision_policy is not None:
        policy = replace(plugin.mixed_precision_policy, cast_forward_inputs=False)
        plugin.mixed_precision_policy = policy


def _check_output(config: TrainConfig, weights: str, confirm: Confirm | None) -> _Resumed:
    """Raise unless the output is empty or contains this run; the steps done and what has changed.

    With `confirm` an earlier run may be deleted, if that agrees.
    """
    path = config.output / CONFIG_FILE
    if not path.is_file():
        check_is_free(config.output)
        return _Resumed()
    earlier = Earlier.of(config.output)
    if confirm is not None:
        if earlier.num_bytes and not confirm(str(earlier)):
            raise InputError(f"{config.output} is as it was: nothing was deleted.")
        return _Resumed()
    checkpoints = Checkpoints(config.output / STATES, config.run.keep)
    checkpoints.check()
    if not earlier.is_begun:  # nothing that other settings could spoil
        return _Resumed()
    # Parsed, so that settings newer than the run get their defaults.
    before = parse_config(read_json(path, dict, error=InputError), str(path))
    changes = changes_of(before, config)
    refused = [*changes.refused, *_other_weights(changes.moved, checkpoints.weights(), weights)]
    if refused:
        raise InputError(
            f"{config.output} contains a run with other settings: {'; '.join(refused)}. Restore "
            f"the settings, {terms().elsewhere}, or {terms().start_over(config.output)}."
        )
    done = earlier.states[-1] if earlier.states else 0
    if done > config.run.steps:
        raise InputError(
            f"The run in {config.output} has done {done} steps and {terms().called('run.steps')} "
            f"is {config.run.steps}: steps cannot be taken back. Set {terms().called('run.steps')} "
            f"to {done} or more, "
            f"{terms().elsewhere}, or {terms().start_over(config.output)}."
        )
    return _Resumed(done, changes.said)


def _other_weights(moved: Sequence[str], known: str, now: str) -> Sequence[str]:
    """The changed paths that lead to other weights than those that the states began with."""
    if not known:  # a state of an earlier version
        return moved
    if known == now:
        return ()
    return moved or ("the files of the model that it began with have another content",)
