"""Complete states of a run on disk: whole or not there, the oldest removed.

A state holds weights, optimisers, schedules, averaged weights and the random states of every rank
(through accelerate, so that FSDP's and DeepSpeed's are complete too), and the step. Frozen weights
are left out, because they come from the checkpoint: a LoRA's state is as small as the LoRA. FSDP
and DeepSpeed write them all the same.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files import read_json, write_error

_STEP = re.compile(r"step-(\d{8})")
_POSITION = "position.json"


class Checkpoints:
    """The states of a run in `folder`; `keep` of them stay."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self._keep = keep

    def watch(self, accelerator: Any) -> None:
        """Leave frozen weights out of the states of `accelerator`; call it once."""
        accelerator.register_save_state_pre_hook(_leave_frozen_out)
        accelerator.register_load_state_pre_hook(_load_networks)

    def steps(self) -> list[int]:
        """Steps with a complete state, in order."""
        if not self.folder.is_dir():
            return []
        found = (_STEP.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def save(self, accelerator: Any, step: int) -> None:
        """Write the state after `step` steps. Every rank must call it.

        Raises:
            MediaError: The disk is full or cannot be written to; the states before stay.
        """
        final = self.folder / f"step-{step:08d}"
        partial = self.folder / f".step-{step:08d}.part"
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        try:
            accelerator.save_state(str(partial))
        except OSError as error:
            raise write_error(partial, error) from error
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (partial / _POSITION).write_text(json.dumps({"step": step}))
            shutil.rmtree(final, ignore_errors=True)
            partial.replace(final)
            for old in self.steps()[: -self._keep]:
                shutil.rmtree(self.folder / f"step-{old:08d}")
        accelerator.wait_for_everyone()

    def load_latest(self, accelerator: Any) -> int:
        """Go back to the last complete state; returns its step, 0 where there is none.

        Raises:
            CheckpointError: The state does not fit this run.
        """
        steps = self.steps()
        if not steps:
            return 0
        folder = self.folder / f"step-{steps[-1]:08d}"
        try:
            accelerator.load_state(str(folder))
            return int(read_json(folder / _POSITION, dict, error=CheckpointError)["step"])
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"The state {folder} cannot be read: {error}. Delete this folder to go on from "
                "the state before it, or start anew with --restart."
            ) from error


def _leave_frozen_out(
    networks: list[nn.Module],
    weights: list[dict[str, Tensor]],
    folder: str,  # noqa: ARG001
) -> None:
    for network, tensors in zip(networks, weights, strict=False):
        for name in _frozen(network) & set(tensors):
            del tensors[name]


def _load_networks(networks: list[nn.Module], folder: str) -> None:
    """In accelerate's place, which would miss the frozen weights; it loads what is left to it."""
    for index, network in enumerate(networks):
        file = Path(folder) / ("model.safetensors" if index == 0 else f"model_{index}.safetensors")
        missing, unexpected = network.load_state_dict(load_file(file), strict=False)
        faults = [*unexpected, *(set(missing) - _frozen(network))]
        if faults:
            raise ValueError(f"{file.name} belongs to another network ({faults[0]})")
    networks.clear()


def _frozen(network: nn.Module) -> set[str]:
    return {name for name, p in network.named_parameters() if not p.requires_grad}
