"""A Mac's GPU, played by the CPU: what PyTorch's MPS backend refuses is refused, the rest computed.

`with AppleGPU() as gpu:` gives a device "mps" in inference mode, which "auto" finds. Its tensors
hold tensors of the CPU. Refused are float64 and float8, operations without an MPS kernel in
PyTorch's own table (`native_functions.yaml`, which comes with it), tensors of both places in one
operation, and attention with more scores than a limit. Not played: the precision, the speed and the
faults of kernels.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import lru_cache
from math import prod
from pathlib import Path
from unittest.mock import patch

import torch
import torchgen
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ABSENT = {
    torch.float64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
}  # fmt: skip
_DIRECT = {
    torch.Tensor.__getitem__, torch.Tensor.__setitem__, torch.Tensor.__int__,
    torch.Tensor.__float__, torch.Tensor.contiguous, torch.Tensor.copy_, torch.Tensor.nonzero,
}  # fmt: skip
#: Copies between the places, and arguments that PyTorch itself brings over.
_MAY_MIX = ("copy_", "_to_copy", "to", "index", "index_put_", "_index_put_impl_", "cpu")
_ATTENTION = "scaled_dot_product_attention"
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


class AppleTensor(torch.Tensor):
    """A tensor of the device "mps"; `inner` is the one on the CPU."""

    gpu = None

    @staticmethod
    def __new__(cls, inner):
        _refuse_dtype(inner.dtype)
        wrapped = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="mps:0",
        )
        wrapped.inner = inner
        return wrapped

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        # From inside of another kind of tensor, such as optimum-quanto's.
        return cls.gpu.__torch_dispatch__(func, types, args, kwargs)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        # These ask the device itself in PyTorch's C++, before any operation is called.
        if func is torch._has_compatible_shallow_copy_type:
            return False  # a module that is moved gets new parameters
        if func in _DIRECT:
            out = func(*tree_map(_inner, args), **(kwargs or {}))
            return tree_map(lambda x: cls(x) if isinstance(x, torch.Tensor) else x, out)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    def __repr__(self, **_):
        return f"AppleTensor({tuple(self.shape)}, {self.dtype})"


class AppleGPU(TorchDispatchMode):
    """Computes on "mps".

    Args:
        most_scores: Of a call of attention; more of them abort the program on a Mac.
        bfloat16: Whether macOS is new enough to have it.
        memory: Bytes that the GPU may take of the machine's memory.

    `used` are the operations that were run there, `scores` those of the largest call of attention.
    """

    def __init__(self, most_scores=2**30, *, bfloat16=True, memory=12 * 10**9):
        super().__init__()
        self._facts = {
            (torch.backends.mps, "is_available"): lambda: True,
            (torch.backends.mps, "is_macos_or_newer"): lambda *_: bfloat16,
            (torch.mps, "recommended_max_memory"): lambda: memory,
            (torch.mps, "empty_cache"): lambda: None,
            (torch.mps, "synchronize"): lambda: None,
        }
        self.most_scores = most_scores
        self.used = set()
        self.scores = 0

    def __enter__(self):
        with ExitStack() as facts:
            for (place, name), answer in self._facts.items():
                facts.enter_context(patch.object(place, name, answer))
            self._undo = facts.pop_all()
        AppleTensor.gpu = self
        return super().__enter__()

    def __exit__(self, *error):
        self._undo.close()
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        leaves = tree_leaves((args, kwargs or {}))
        here = [leaf for leaf in leaves if isinstance(leaf, AppleTensor)]
        asked = next((leaf.type for leaf in leaves if isinstance(leaf, torch.device)), None)
        if not here and asked != "mps":
            return func(*args, **(kwargs or {}))
        args, kwargs = _on_cpu((args, kwargs or {}))
        if asked != "cpu":
            self._check(name, leaves, here)
        by_inner = {id(leaf.inner): leaf for leaf in here}
        args, kwargs = tree_map(_inner, args), tree_map(_inner, kwargs)
        out = self.run(func, args, kwargs) if asked != "cpu" else func(*args, **kwargs)
        if asked == "cpu":
            return tree_map(lambda x: x.clone() if id(x) in by_inner else x, out)

        def wrapped(x):
            if not isinstance(x, torch.Tensor):
                return x
            if id(x) in by_inner:
                return by_inner[id(x)]
            return AppleTensor(x)

        if name in _MAY_MIX and not here and isinstance(args[0], torch.Tensor) and asked is None:
            return out
        return tree_map(wrapped, out)

    def _check(self, name, leaves, here):
        if name not in _MAY_MIX:
            strange = [x for x in leaves if isinstance(x, torch.Tensor)
                       and not isinstance(x, AppleTensor) and x.ndim]  # fmt: skip
            if strange and here:
                raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        if name == _ATTENTION:
            query, key = here[0], here[1]
            scores = prod(query.shape[:-1]) * key.shape[-2]
            self.scores = max(self.scores, scores)
            if scores > self.most_scores:
                raise RuntimeError(f"{scores} scores: total bytes of NDArray > 2**32")

    def run(self, func, args, kwargs):
        """An operation on tensors of the CPU; one that is made of others is taken apart."""
        name = func.name().removeprefix("aten::")
        # Sizes are worked out in Python: PyTorch has two of these, and the other is the kernel.
        name = name.removesuffix(".vec")
        if func._can_decompose() and name != _ATTENTION and not name.startswith("upsample"):
            with _Inside(self):
                return func._op_dk(_COMPOSITE, *args, **kwargs)
        if not has_kernel(name):
            raise NotImplementedError(f"The operator 'aten::{name}' is not implemented for MPS")
        self.used.add(name)
        out = func(*args, **kwargs)
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor):
                _refuse_dtype(made.dtype)
        return out


class _Inside(TorchDispatchMode):
    """Sees what an operation is made of."""

    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.gpu.run(func, args, kwargs or {})


def _refuse_dtype(dtype):
    if dtype in ABSENT:
        raise TypeError(f"The MPS backend does not have support for {dtype}")


def _inner(x):
    return x.inner if isinstance(x, AppleTensor) else x


def _on_cpu(arguments):
    return tree_map(lambda x: torch.device("cpu") if isinstance(x, torch.device) else x, arguments)


@lru_cache(maxsize=1)
def _table():
    path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    rows = yaml.load(path.read_text(encoding="utf-8"), loader)
    return {row["func"].partition("(")[0]: row for row in rows}


def has_kernel(name):
    """Whether MPS has a kernel for an operation, or it is made of others."""
    row = _table()[name]
    if "structured_delegate" in row:
        return has_kernel(row["structured_delegate"])
    keys = [key.strip() for keys in row.get("dispatch", {}) for key in keys.split(",")]
    plain = [key for key in keys if not key.startswith(("Quantized", "Nested", "Sparse"))]
    return not plain or "MPS" in plain or any(key.startswith("Composite") for key in plain)
