"""Attention that is called for some of the scores at a time gives what one call gives."""

import pytest
import torch
import torch.nn.functional as F

from easyanimate_core.models.transformer import kernel, scaled_dot_product
from easyanimate_core.models.transformer.kernel import attention_in_parts, holds_scores
from tests.apple_gpu import AppleGPU

ROUNDING = 1e-6


def whole(q, k, v):
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Watched:
    """The kernel, and the scores of each call."""

    def __init__(self):
        self.scores = []

    def __call__(self, q, k, v):
        self.scores.append(q[..., 0].numel() * k.shape[2])
        return whole(q, k, v)


def inputs(batch, heads, queries, keys, dim=8):
    """As the denoiser hands them over: heads in the middle of memory."""
    generator = torch.Generator().manual_seed(queries)
    shapes = [(batch, number, heads, dim) for number in (queries, keys, keys)]
    return [torch.randn(shape, generator=generator).transpose(1, 2) for shape in shapes]


@pytest.mark.parametrize("most_scores", [1, 40, 37 * 37, 2 * 37 * 41, 5 * 37 * 37, 10**9])
@pytest.mark.parametrize("shape", [(3, 5, 37, 37), (1, 4, 37, 11), (2, 3, 5, 41), (4, 1, 1, 1)])
def test_parts_give_what_the_whole_gives(shape, most_scores):
    q, k, v = inputs(*shape)
    watched = Watched()
    out = attention_in_parts(watched, q, k, v, most_scores=most_scores)
    assert (out - whole(q, k, v)).abs().max() < ROUNDING
    # One query is never divided.
    assert max(watched.scores) <= max(most_scores, shape[3])
    assert sum(watched.scores) == shape[0] * shape[1] * shape[2] * shape[3]
    assert len(watched.scores) == 1 or most_scores < sum(watched.scores)


def test_parts_are_as_large_as_they_may_be():
    watched = Watched()
    attention_in_parts(watched, *inputs(2, 6, 32, 32), most_scores=3 * 32 * 32)
    assert watched.scores == [3 * 32 * 32] * 4


def learned(attention, given):
    inputs = [x.clone().requires_grad_() for x in given]
    out = attention(*inputs)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [x.grad for x in inputs]


def test_parts_learn_what_the_whole_learns_and_keep_no_scores():
    kept = []

    def in_parts(q, k, v):
        return attention_in_parts(softmax_attention, q, k, v, most_scores=2 * 37 * 37)

    def softmax_attention(q, k, v):
        scores = torch.softmax(q * q.shape[-1] ** -0.5 @ k.mT, dim=-1)
        return (scores @ v).transpose(1, 2).flatten(2)

    def keep(x):
        kept.append(tuple(x.shape[-2:]))
        return x

    with torch.inference_mode(False), torch.enable_grad():
        given = [x.clone() for x in inputs(2, 3, 37, 37)]
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            mine = learned(in_parts, given)
        theirs = learned(whole, given)
    for ours, other in zip(mine, theirs, strict=True):
        assert (ours - other).abs().max() < 10 * ROUNDING
    assert kept
    assert (37, 37) not in kept


@pytest.mark.parametrize(("most", "parts"), [(2 * 3 * 37 * 37, 1), (2 * 3 * 37 * 37 - 1, 2)])
def test_a_device_without_a_fused_kernel_gets_parts(monkeypatch, most, parts):
    """Where PyTorch has such a kernel the call is made whole, whatever its size."""
    monkeypatch.setattr(kernel, "MOST_SCORES", most)
    given = inputs(2, 3, 37, 37)
    watched = Watched()
    with AppleGPU(most_scores=most) as gpu:
        out = scaled_dot_product(*(x.to("mps") for x in given)).cpu()
        kernel.bounded_attention(watched, *(x.to("mps") for x in given))
    assert (out - whole(*given)).abs().max() < ROUNDING
    assert gpu.scores <= most
    assert len(watched.scores) == parts
    watched = Watched()
    kernel.bounded_attention(watched, *given)
    assert len(watched.scores) == 1


def test_the_stand_in_refuses_what_a_mac_cannot():
    given = inputs(2, 3, 37, 37)
    with AppleGPU(most_scores=100), pytest.raises(RuntimeError, match="total bytes of NDArray"):
        whole(*(x.to("mps") for x in given))


@pytest.mark.parametrize(
    ("device", "holds"),
    [("cpu", False), ("meta", False), ("mps", True), ("xpu", True), ("privateuseone", True)],
)
def test_devices_that_hold_all_scores(device, holds):
    assert holds_scores(torch.device(device), torch.float16) is holds


@pytest.mark.parametrize("fused", [True, False])
def test_a_card_is_asked_for_its_kernels(monkeypatch, fused):
    """As an AMD card without AOTriton answers, and one with it."""
    asked = []

    def answer(parameters):
        asked.append(parameters.query.dtype)
        return fused

    monkeypatch.setattr(kernel, "can_use_flash_attention", lambda _: False)
    monkeypatch.setattr(kernel, "can_use_efficient_attention", answer)
    monkeypatch.setattr(torch, "empty", lambda *shape, **_: torch.zeros(shape).half())
    assert holds_scores(torch.device("cuda"), torch.float16) is not fused
    assert asked == [torch.float16]


def test_parts_are_compiled_in_one_graph(monkeypatch):
    monkeypatch.setattr(kernel, "MOST_SCORES", 37 * 37)
    monkeypatch.setattr(kernel, "holds_scores", lambda *_: True)
    compiled = torch.compile(scaled_dot_product, fullgraph=True, backend="eager")
    given = inputs(2, 3, 37, 37)
    assert (compiled(*given) - whole(*given)).abs().max() < ROUNDING
