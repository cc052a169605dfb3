"""The training's attention against PyTorch's, forwards and backwards."""

import pytest
import torch

from easyanimate_core.models.transformer import scaled_dot_product
from easyanimate_core.training import attention
from easyanimate_core.training.attention import training_attention


def learned(kernel, *, bf16):
    """The result, and the gradients of query, key and value."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn((2, 3, 17, 8), generator=generator).requires_grad_() for _ in range(3)]
    wanted = torch.randn((2, 17, 24), generator=generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = kernel(*inputs)
    (out.float() * wanted).sum().backward()
    return [out.detach(), *(x.grad for x in inputs)]


def equal(some, others):
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("bf16", [False, True])
def test_it_learns_as_pytorch_does(bf16):
    exact = learned(scaled_dot_product, bf16=False)
    ours, theirs = (
        max(
            float((a - b).norm() / b.norm())
            for a, b in zip(learned(kernel, bf16=bf16), exact, strict=True)
        )
        for kernel in (training_attention, scaled_dot_product)
    )
    assert ours <= 1.5 * theirs
    assert (theirs > 0.001) is bf16


def test_long_sequences_keep_the_fused_kernel(monkeypatch):
    fused = learned(scaled_dot_product, bf16=True)
    assert not equal(learned(training_attention, bf16=True), fused)
    monkeypatch.setattr(attention, "_MOST_SCORES", 2 * 3 * 17 * 17 - 1)
    assert equal(learned(training_attention, bf16=True), fused)
