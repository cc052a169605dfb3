"""From a config to a finished run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, MediaError
from ..files import atomic_file, discard, read_json, rename
from ..files.leftovers import is_unfinished, temporary_name
from ..progress import Progress, silent
from .checkpoints import STATES, Checkpoints
from .clips import Clips, find_clips
from .config import CACHE, TrainConfig, parse_config
from .data.records import Record
from .optimizers import SHARDED
from .samples import SAMPLES
from .saved_loras import LORAS
from .strategies.base import Strategy
from .tracking import LOG_FILE, Report, print_line, tell_nobody
from .trainer import Trainer
from .watch import Watch

_CONFIG_FILE = "config.json"
#: Settings that may change when a run is resumed: none affects the finished steps.
_FREE = (
    ("run", "steps"),
    ("run", "save_every"),
    ("run", "keep"),
    ("run", "keep_loras"),
    ("run", "log_every"),
    ("run", "tensorboard"),
    ("run", "validate_every"),
    ("data", "cache"),
    ("data", "workers"),
    ("validation",),
    ("sample",),
)


def run_training(
    config: TrainConfig,
    *,
    records: Sequence[Record] | None = None,
    restart: bool = False,
    cpu: bool = False,
    progress: Progress = silent,
    report: Report = print_line,
    watch: Watch | None = None,
) -> list[Path]:
    """Train, or resume the run in `config.output`; returns the result's files.

    With `accelerate launch`, every process calls it.

    Args:
        config: The run's config.
        records: Clips in memory, used instead of the config's data.
        restart: Delete an earlier run in `config.output`.
        cpu: Train on the CPU even if there is a GPU.
        progress: Called with the stages "check", "captions", "train" and "sample"; may raise to
            stop, and the run can be resumed. What is trained by then is saved first.
        report: Called with every line that the run prints.
        watch: Told of every LoRA that is saved and every sample.

    Raises:
        InputError: The config does not fit the data or the checkpoint, `config.output` contains
            another run, or training has diverged.
        CheckpointError: A checkpoint is damaged or belongs to another model.
        MediaError: The disk is full or not writable, or no clip can be read.
    """
    accelerator = _accelerator(config, cpu=cpu)
    main = accelerator.is_main_process
    told = report if main else tell_nobody
    if main:
        _check_output(config, restart=restart)
        if not restart:
            Checkpoints(config.output / STATES, config.run.keep).check()
    accelerator.wait_for_everyone()
    with torch.inference_mode(mode=False):  # the host may have enabled it
        if records is None:
            clips = find_clips(config, accelerator, progress=progress, report=told)
        else:
            clips = Clips.in_memory(config, records)
        strategy = make_strategy(config, clips)
        rank, ranks = accelerator.process_index, accelerator.num_processes
        strategy.batches(rank, ranks, 0)  # raises if a clip fits no bucket
        strategy.encode_ahead(accelerator.device, slice(rank, None, ranks), progress)
        trainer = Trainer(
            config, strategy, accelerator, progress=progress, report=report, watch=watch
        )
        if main:  # errors before this leave the folder and an earlier run untouched
            _claim_output(config, restart=restart)
        accelerator.wait_for_everyone()
        accelerator.init_trackers("tensorboard")
        return trainer.train()


def make_strategy(config: TrainConfig, clips: Clips) -> Strategy:
    """The strategy of `config.task` with its clips."""
    if config.task == "vae":
        from .strategies.vae import VAEStrategy

        return VAEStrategy(config, clips.records, clips.held_out)
    from .strategies.denoiser import DenoiserStrategy

    return DenoiserStrategy(config, clips.records, clips.held_out)


def _accelerator(config: TrainConfig, *, cpu: bool = False) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import set_seed

    run = config.run
    # It outlives a run and rejects another precision in the same process.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        gradient_accumulation_steps=run.accumulate,
        mixed_precision=run.precision,
        log_with="tensorboard" if run.tensorboard else None,
        project_dir=str(config.output),
        cpu=cpu,
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


def _check_output(config: TrainConfig, *, restart: bool) -> None:
    """Raise unless the output is empty or contains this run."""
    path = config.output / _CONFIG_FILE
    if path.is_file():
        if restart:
            return
        # Parsed, so that settings newer than the run get their defaults.
        before = parse_config(read_json(path, dict, error=InputError), str(path))
        changed = _changed(before.model_dump(mode="json"), config.model_dump(mode="json"))
        if changed:
            raise InputError(
                f"{config.output} contains a run with other settings: {'; '.join(changed)}. Choose "
                "another output, restore the settings, or start over with --restart."
            )
    elif config.output.is_dir() and any(
        path.name != CACHE and not is_unfinished(path.name)  # another process may be probing it
        for path in config.output.iterdir()
    ):
        raise InputError(
            f"{config.output} is not empty and contains no run. Choose a new folder as output."
        )


def _claim_output(config: TrainConfig, *, restart: bool) -> None:
    """Make `config.output` this run's; `restart` deletes an earlier run first."""
    path = config.output / _CONFIG_FILE
    if restart and path.is_file():
        _remove_all(
            config.output, (STATES, LORAS, SAMPLES, "validation", "result", "tensorboard", LOG_FILE)
        )
    with atomic_file(path) as scratch:
        text = json.dumps(config.model_dump(mode="json"), indent=2) + "\n"
        scratch.write_text(text, encoding="utf-8")


def _remove_all(folder: Path, names: Sequence[str]) -> None:
    """Delete parts of an earlier run, all or none of them: each is renamed first."""
    aside: dict[Path, Path] = {}
    for part in (folder / name for name in names):
        if not part.exists():
            continue
        aside[part] = folder / temporary_name(part.name)
        try:
            rename(part, aside[part])
        except OSError as error:
            del aside[part]
            for moved, place in aside.items():
                rename(place, moved)
            raise MediaError(
                f"{part} cannot be deleted: {error.strerror or error}. Another program has it "
                "or a file in it open. Close that program or choose another output. Nothing was "
                "deleted."
            ) from error
    for place in aside.values():
        discard(place)


def _changed(
    before: dict[str, Any], wanted: dict[str, Any], place: tuple[str, ...] = ()
) -> list[str]:
    if place in _FREE:
        return []
    faults = []
    for name in dict.fromkeys([*before, *wanted]):
        here, old, new = (*place, name), before.get(name), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            faults += _changed(old, new, here)
        elif old != new and here not in _FREE:
            faults.append(f"{'.'.join(here)} was {old!r} and is {new!r}")
    return faults
