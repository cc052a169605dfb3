"""What one evaluation of the denoiser does on a card, traced with fake tensors: no card is needed.

    python -m tools.step_trace [--compute bfloat16]

Counts kernels, arithmetic and the bytes that element-wise kernels read and write for the published
7B at 384x672x49 with guidance, and finds what makes a step slow: waits for the device, and float32
tensors as large as the video's tokens.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.models.geometry import latent_shape
from easyanimate_core.models.specs import LATENT_CHANNELS, TransformerConfig
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel

#: The published 7B for text to video, its latents at 384x672x49 and its text tokens.
MODEL = TransformerConfig(
    in_channels=LATENT_CHANNELS,
    out_channels=LATENT_CHANNELS,
    num_attention_heads=48,
    attention_head_dim=64,
    num_layers=36,
    mmdit_layers=18,
    patch_size=2,
    time_embed_dim=512,
    text_embed_dim=3584,
    add_norm_text_encoder=True,
)
SIZE = latent_shape(49, 384, 672)
TEXT_TOKENS = 256
#: Values of the video's tokens.
TOKEN_VALUES = prod(SIZE) // 4 * MODEL.inner_dim
#: Tensors up to this size stay in a card's cache: an A100's has 40 MB, an H100's 50 MB.
CACHE_BYTES = 2**25
_CORE = "easyanimate_core"
_ATEN = torch.ops.aten
_FLOP = {**flop_registry, _ATEN._addmm_activation: flop_registry[_ATEN.addmm]}
_FREE = ("empty", "empty_like", "new_empty", "detach", "_unsafe_view")


@dataclass
class Trace:
    """What was run: `traffic` in bytes by operation, `flop` by operation, `places` of waits."""

    kernels: int = 0
    cached: int = 0
    traffic: Counter[str] = field(default_factory=Counter)
    flop: Counter[str] = field(default_factory=Counter)
    waits: list[str] = field(default_factory=list)
    wide: list[str] = field(default_factory=list)


class Tracer(TorchDispatchMode):
    """Counts what runs inside, and reports float32 tensors of at least `wide_values` values."""

    def __init__(self, wide_values: int | None = None) -> None:
        super().__init__()
        self.found = Trace()
        self._wide_values = wide_values

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        if func.namespace == "aten" and packet not in _FLOP:
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        name = packet.__name__
        if name in ("_local_scalar_dense", "nonzero", "equal") and _on_card(args):
            self.found.waits.append(f"{name} at {_place()}")
        if name == "_local_scalar_dense":  # no value is known
            return 1
        out = func(*args, **(kwargs or {}))
        given, made = _tensors((args, kwargs)), _tensors(out)
        if _crosses(given, made) and not _is_unawaited(args, kwargs or {}):
            self.found.waits.append(f"{name} between devices at {_place()}")
        if func.is_view or not made or name in _FREE:
            return out
        self.found.kernels += 1
        if packet in _FLOP:
            self.found.flop[name] += _FLOP[packet](*args, **(kwargs or {}), out_val=out)
        else:
            read, written = given, made
            if func._schema.is_mutable and name in ("copy_", "fill_", "zero_"):
                read = given[1:]
            tensors = [*read, *written]
            self.found.traffic[name] += sum(map(_bytes, tensors))
            self.found.cached += sum(_bytes(t) for t in tensors if _is_cached(t))
        for tensor in made:
            is_wide = self._wide_values is not None and tensor.numel() >= self._wide_values
            if is_wide and tensor.dtype is torch.float32:
                self.found.wide.append(f"{name} at {_place()}")
        return out


@contextmanager
def fake_card() -> Iterator[torch.device]:
    """Inside, tensors have no values, and a card can be used that is not there."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        yield torch.device("cuda")


def step(
    config: TransformerConfig = MODEL,
    compute: torch.dtype = torch.bfloat16,
    prepare: Callable[[EasyAnimateTransformer3DModel], Any] = lambda _: None,
) -> Trace:
    """One evaluation for both prompts on a fake card; `prepare` may change the network before."""
    with fake_card() as card:
        network = EasyAnimateTransformer3DModel(config, dtype=compute, device=card)
        prepare(network)
        latents = torch.empty(2, config.out_channels, *SIZE, dtype=compute, device=card)
        text = torch.empty(2, TEXT_TOKENS, config.text_embed_dim, dtype=compute, device=card)
        times, rope = torch.empty(2, device=card), network.rotary_table(latents)
        with Tracer(TOKEN_VALUES) as tracer:
            network(latents, times, text, rope=rope, attention=flash)
    return tracer.found


def flash(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
    """The flash kernel by name, because a fake card has none to choose from."""
    run = torch.ops.aten._scaled_dot_product_flash_attention
    return run(q_BHND, k_BHND, v_BHND)[0].transpose(1, 2).flatten(2)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _on_card(tree: Any) -> bool:
    return any(tensor.device.type == "cuda" for tensor in _tensors(tree))


def _crosses(given: list[Tensor], made: list[Tensor]) -> bool:
    """Whether values travel between devices; a number of the CPU is passed with the kernel."""
    sent = [tensor for tensor in given if tensor.device.type == "cpu"]
    if _on_card(made):
        return any(tensor.ndim > 0 or not _on_card(given) for tensor in sent)
    return _on_card(given) and bool(made)


def _is_unawaited(args: Any, kwargs: dict[str, Any]) -> bool:
    return kwargs.get("non_blocking", False) or args[2:3] == (True,)


def _bytes(tensor: Tensor) -> int:
    """Bytes that are read or written, repetitions once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return prod(size for size, stride in sizes if stride) * tensor.element_size()


def _is_cached(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() <= CACHE_BYTES


def _place() -> str:
    """The innermost line of the package that is running."""
    for frame in reversed(traceback.extract_stack()):
        if _CORE in frame.filename:
            return f"{frame.filename.rpartition(_CORE)[2].lstrip('/')}:{frame.lineno}"
    return "?"


def main() -> None:
    """Print what a step does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--compute", default="bfloat16")
    found = step(compute=getattr(torch, parser.parse_args().compute))
    attention = sum(flop for name, flop in found.flop.items() if "attention" in name)
    print(f"{found.kernels} kernels, {(found.flop.total() - attention) / 1e12:.0f} TFLOP of matrix "
          f"products, {attention / 1e12:.0f} of attention")  # fmt: skip
    print(f"{found.traffic.total() / 1e9:.0f} GB of element-wise traffic, of which "
          f"{found.cached / 1e9:.0f} stay in the card's cache:")  # fmt: skip
    for name, traffic in found.traffic.most_common(12):
        print(f"  {name:24}{traffic / 1e9:8.1f}")
    for place, times in Counter([*found.waits, *found.wide]).items():
        print(f"  {times:4} x {place}")


if __name__ == "__main__":
    main()
