"""Attention that never materialises the full score matrix, on any device.

A video of the usual size has 1.7e10 scores per block: 32 GiB in half precision. Flash kernels never
materialise them. Without one, PyTorch computes the full matrix; above 2^32 bytes a Mac's GPU aborts
or returns wrong results (pytorch/pytorch#149261, #197636), and an AMD card without AOTriton's
kernels runs out of memory. There the same kernel is called for a few heads, or a few queries, at a
time. The softmax is per query, so the result is the same.

Shapes: B batch, N tokens, H heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_efficient_attention, can_use_flash_attention
from torch.utils.checkpoint import checkpoint

#: Scores materialised at a time on such a device: 256 MiB in float32.
MOST_SCORES = 2**26
#: Head dimension of every published model; only for wider heads do kernels depend on it.
_HEAD_DIM = 64


class AttentionFunction(Protocol):
    """Attention kernel: q, k, v as [B, H, N, D] to the concatenated heads [B, N, H * D]."""

    def __call__(self, q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
        """Softmax attention with scale D ** -0.5 and no mask."""


def scaled_dot_product(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
    """The default kernel: whichever implementation PyTorch selects."""
    return bounded_attention(_whole, q_BHND, k_BHND, v_BHND)


def _whole(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND).transpose(1, 2).flatten(2)


def bounded_attention(
    kernel: AttentionFunction, q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor
) -> Tensor:
    """The result of `kernel`, called in parts if PyTorch would materialise too many scores."""
    # The device first: a compiled block then has no rule on its sizes.
    if not holds_scores(q_BHND.device, q_BHND.dtype):
        return kernel(q_BHND, k_BHND, v_BHND)
    if q_BHND[..., 0].numel() * k_BHND.shape[2] <= MOST_SCORES:
        return kernel(q_BHND, k_BHND, v_BHND)
    return attention_in_parts(kernel, q_BHND, k_BHND, v_BHND, most_scores=MOST_SCORES)


def attention_in_parts(
    kernel: AttentionFunction,
    q_BHND: Tensor,
    k_BHND: Tensor,
    v_BHND: Tensor,
    *,
    most_scores: int,
) -> Tensor:
    """The result of `kernel`, called for at most `most_scores` scores (or one query) at a time.

    If gradients are needed, the backward pass recomputes the scores of each part.
    """
    inputs = (q_BHND, k_BHND, v_BHND)
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)

    def part(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Contiguous: a Mac's GPU gets products of large strided matrices wrong (pytorch#197636).
        given = [x.contiguous() for x in (q, k, v)]
        return checkpoint(kernel, *given, use_reentrant=False) if learns else kernel(*given)

    batch, heads, num_queries, _ = q_BHND.shape
    per_head = num_queries * k_BHND.shape[2]
    rows = max(1, most_scores // (heads * per_head))
    beside = max(1, most_scores // per_head)
    queries = max(1, most_scores // k_BHND.shape[2])
    return _joined(0, [
        _joined(2, [
            _joined(1, [
                part(q_BHND[row, head, query], k_BHND[row, head], v_BHND[row, head])
                for query in _ranges(num_queries, queries)
            ])
            for head in _ranges(heads, beside)
        ])
        for row in _ranges(batch, rows)
    ])  # fmt: skip


def holds_scores(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether PyTorch's kernel for such tensors materialises all scores at once.

    CPUs have a flash kernel. CUDA and ROCm can be queried, other devices cannot: a Mac has no such
    kernel, and on Intel, which may have one, calling it in parts costs little.
    """
    if device.type in ("cpu", "meta"):
        return False
    if device.type != "cuda":
        return True
    return not _has_fused_kernel(device, dtype)


def _has_fused_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    x = torch.empty(1, 1, 8, _HEAD_DIM, device=device, dtype=dtype)
    asked = SDPAParams(x, x, x, None, 0.0, False, False)
    return can_use_flash_attention(asked) or can_use_efficient_attention(asked)


# What `torch.compiler.assume_constant_result` does, without importing the compiler.
vars(_has_fused_kernel)["_dynamo_marked_constant"] = True


def _ranges(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))


def _joined(dim: int, parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)
