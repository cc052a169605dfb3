"""Muon against PyTorch's own, and AdamW beside it."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from easyanimate_core.errors import InputError
from easyanimate_core.training.config import OptimizerConfig
from easyanimate_core.training.muon import Muon, block_matrices, orthogonal
from easyanimate_core.training.optimizers import make_optimizer

RATES = {"lr": 0.02, "weight_decay": 0.1}
CONFIG = OptimizerConfig(kind="muon", learning_rate=0.02, weight_decay=0.1)


class Net(nn.Module):
    """Two blocks between an entry and an exit."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Linear(4, 6)
        self.transformer_blocks = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6, bias=False)])
        self.exit = nn.Linear(6, 4)


def random_gradients(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("shape", [(24, 24), (12, 40), (40, 12)])
def test_steps_are_those_of_pytorch(shape, bf16):
    torch.manual_seed(0)
    ours, bias = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(5))
    theirs, their_bias = (nn.Parameter(p.detach().clone()) for p in (ours, bias))
    begin = ours.detach().clone()
    muon = Muon(
        [ours],
        [{"params": [bias], "weight_decay": 0.0}],
        betas=(0.9, 0.99),
        eps=1e-8,
        bf16=bf16,
        **RATES,
    )
    peers = [
        torch.optim.Muon([theirs], 0.02, 0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([their_bias], 0.02, (0.9, 0.99), 1e-8, 0.0),
    ]
    for step in range(8):
        random_gradients([ours, bias], step)
        random_gradients([theirs, their_bias], step)
        muon.step()
        for peer in peers:
            peer.step()
    assert torch.equal(bias, their_bias)
    # Theirs is computed in bfloat16; as theirs so is ours, but for the order of two products.
    assert (ours - theirs).norm() < 0.03 * (ours - begin).norm()


def test_a_run_in_bf16_steps_in_bf16():
    matrix = torch.randn((12, 40), generator=torch.Generator().manual_seed(2))
    net = Net()
    steps = []
    for bf16 in (False, True):
        copy = deepcopy(net)
        random_gradients(copy.parameters(), 0)
        make_optimizer(CONFIG, copy, bf16=bf16).step()
        steps.append(copy.transformer_blocks[0].weight)
    assert not torch.equal(*steps)
    assert torch.allclose(*steps, atol=1e-3)
    assert torch.allclose(orthogonal(matrix), orthogonal(matrix, bf16=True), atol=0.02)


@pytest.mark.parametrize("shape", [(16, 16), (8, 48), (48, 8)])
def test_singular_values_come_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    before, after = (torch.linalg.svdvals(m) for m in (matrix, orthogonal(matrix)))
    assert before.max() / before.min() > 1.5
    assert after.min() > 0.6
    assert after.max() < 1.3
    # It turns nothing: what is left is symmetric and positive in the matrix' own axes.
    turned = orthogonal(matrix) @ matrix.mT
    assert torch.allclose(turned, turned.mT, atol=1e-3 * float(before.max()) ** 2)


def test_only_the_matrices_of_the_blocks_are_its_own():
    net = Net()
    blocks = net.transformer_blocks
    assert [id(p) for p in block_matrices(net)] == [id(blocks[0].weight), id(blocks[1].weight)]
    optimizer = make_optimizer(CONFIG, net)
    counted = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(counted) == sorted(id(p) for p in net.parameters())
    blocks[0].weight.requires_grad_(requires_grad=False)
    assert [id(p) for p in block_matrices(net)] == [id(blocks[1].weight)]


def test_a_state_that_was_read_goes_on_as_before():
    torch.manual_seed(0)
    net, other = Net(), Net()
    first = make_optimizer(CONFIG, net)
    for step in range(3):
        random_gradients(net.parameters(), step)
        first.step()
    other.load_state_dict(net.state_dict())
    second = make_optimizer(CONFIG.model_copy(update={"learning_rate": 1.0}), other)
    second.load_state_dict(deepcopy(first.state_dict()))
    for step in range(3, 6):
        for optimizer, network in ((first, net), (second, other)):
            random_gradients(network.parameters(), step)
            optimizer.step()
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_is_refused_where_it_cannot_work():
    with pytest.raises(InputError, match=r"the network trains none\. Use adamw"):
        make_optimizer(CONFIG, nn.Conv3d(2, 2, 3))
    with pytest.raises(InputError, match="needs whole weights, but FSDP shards them"):
        make_optimizer(CONFIG, Net(), "FSDP")
