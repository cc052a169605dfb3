"""The random states of all processes, as tensors with one row per process.

The run's own draws have their own generators; these states are for libraries.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .slots import Slot, Slots

_WORDS = 624
_MOST = 2**32 - 1


def random_slots(accelerator: Any) -> Slots:
    """The random states of Python, numpy, PyTorch and the process's GPU."""
    own = {
        "python": (_python, _set_python, _is_python),
        "python_gauss": (_python_gauss, _set_python_gauss, _is_gauss),
        "numpy": (_numpy, _set_numpy, _is_numpy),
        "numpy_gauss": (_numpy_gauss, _set_numpy_gauss, _is_gauss),
        "torch": (torch.get_rng_state, torch.set_rng_state, _is_torch),
    }
    if accelerator.device.type == "cuda":
        device = accelerator.device
        own["cuda"] = (
            partial(torch.cuda.get_rng_state, device),
            partial(torch.cuda.set_rng_state, device=device),
            partial(_is_of, device),
        )
    return {name: _slot(accelerator, *functions) for name, functions in own.items()}


def _slot(accelerator: Any, get: Any, put: Any, fits: Any) -> Slot:
    ranks, rank = accelerator.num_processes, accelerator.process_index
    example = get()

    def gather() -> Tensor:
        row = get()[None]
        gathered: Tensor = row if ranks == 1 else accelerator.gather(row.to(accelerator.device))
        return gathered

    return Slot(
        example.dtype,
        (ranks, *example.shape),
        gather,
        lambda rows: put(rows[rank].clone()),
        lambda rows: all(fits(row.clone()) for row in rows),
    )


def _python() -> Tensor:
    return torch.tensor(random.getstate()[1])


def _set_python(words: Tensor) -> None:
    version, _, gauss = random.getstate()
    random.setstate((version, tuple(words.tolist()), gauss))


def _python_gauss() -> Tensor:
    value = random.getstate()[2]
    return torch.tensor([value is not None, value or 0.0], dtype=torch.float64)


def _set_python_gauss(value: Tensor) -> None:
    version, words, _ = random.getstate()
    random.setstate((version, words, float(value[1]) if value[0] else None))


def _is_python(words: Tensor) -> bool:
    """Whether these are `_WORDS` words and a position among them."""
    return _are_words(words[:-1]) and 0 <= int(words[-1]) <= _WORDS


def _numpy() -> Tensor:
    _, words, position, *_ = _numpy_state()
    return torch.tensor([*words.tolist(), position])


def _set_numpy(words: Tensor) -> None:
    kind, _, _, *gauss = _numpy_state()
    _set_numpy_state(kind, words[:-1].numpy().astype(np.uint32), int(words[-1]), *gauss)


def _numpy_gauss() -> Tensor:
    return torch.tensor(_numpy_state()[3:], dtype=torch.float64)


def _set_numpy_gauss(value: Tensor) -> None:
    _set_numpy_state(*_numpy_state()[:3], int(value[0]), float(value[1]))


def _numpy_state() -> tuple[Any, ...]:
    """The global generator's kind, words, position and cached Gaussian."""
    return tuple(np.random.get_state())  # noqa: NPY002


def _set_numpy_state(*state: Any) -> None:
    np.random.set_state(state)  # noqa: NPY002


def _is_numpy(words: Tensor) -> bool:
    """Check the position, because numpy would read out of bounds if it is too large."""
    return _is_python(words)


def _is_gauss(value: Tensor) -> bool:
    """Whether the value is a flag and the cached Gaussian."""
    return float(value[0]) in (0.0, 1.0) and bool(torch.isfinite(value).all())


def _is_torch(state: Tensor) -> bool:
    return _is_of(torch.device("cpu"), state)


def _is_of(device: torch.device, state: Tensor) -> bool:
    try:
        torch.Generator(device).set_state(state)
    except (RuntimeError, TypeError):
        return False
    return True


def _are_words(words: Tensor) -> bool:
    return bool(((words >= 0) & (words <= _MOST)).all())
