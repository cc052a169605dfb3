"""The trainer's arithmetic: gradients, accumulation, many devices, what a LoRA adds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from easyanimate_core.models.specs import Head
from easyanimate_core.training.config import LoraConfig
from easyanimate_core.training.data.buckets import Draw
from easyanimate_core.training.data.loading import Lost
from easyanimate_core.training.lora import LoraBranch, add_lora, write_lora
from easyanimate_core.training.run import run_training
from easyanimate_core.training.strategies.base import Batch, Losses
from easyanimate_core.training.trainer import Trainer
from easyanimate_core.weights.loading import load_transformer
from easyanimate_core.weights.lora import Lora, LoraSet, attached
from tests.factories import V5, V5_1
from tests.ports import free_port
from tests.training_runs import SHAPE, clips, config, losses, settings, strategy_of, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


def batch_of(strategy, count=2):
    """A prepared batch of the strategy's first clips."""
    draws = [Draw(index, SHAPE, 0) for index in range(count)]
    batch = Batch(0, 0, 1, count, count * SHAPE.tokens, strategy.read(draws))
    strategy.prepare(batch, torch.device("cpu"))
    return batch


def gradients(wanted, **draws):
    strategy = strategy_of(wanted)
    strategy.loss("denoiser", strategy.networks, batch_of(strategy, **draws)).total.backward()
    return {name: p.grad for name, p in strategy.networks["denoiser"].named_parameters()}


def test_gradient_checkpointing_changes_no_gradient(folder, tmp_path):
    plain = gradients(config(tmp_path, folder))
    less = gradients(config(tmp_path, folder, run__gradient_checkpointing=True))
    assert plain.keys() == less.keys()
    for name, gradient in plain.items():
        assert (gradient is None) == (less[name] is None), name
        if gradient is not None:
            assert torch.allclose(gradient, less[name], rtol=1e-5, atol=1e-7), name
    assert sum(gradient is not None for gradient in plain.values()) > 100


class Still(nn.Module):
    """Predicts no velocity, and keeps what it was asked."""

    def forward(self, noisy, timesteps, *_, **__):
        self.noisy, self.times = noisy, timesteps.view(-1, 1, 1, 1, 1) / 1000
        return torch.zeros_like(noisy)


def test_a_share_of_the_loss_counts_the_regions_alone(folder, tmp_path):
    strategy = strategy_of(config(tmp_path, folder, objective={"region_share": 0.25}))
    batch, network = batch_of(strategy), Still()
    found = strategy.loss("denoiser", {"denoiser": network}, batch)
    content = batch.content
    squares = ((network.noisy - content.latents) / network.times).square()
    inside = [
        clip[:, where[0] > 0].mean() for clip, where in zip(squares, content.regions, strict=True)
    ]
    assert 0.05 < content.regions.mean() < 0.95
    assert torch.allclose(found.parts["loss"], squares.mean(), rtol=1e-4)
    assert torch.allclose(found.parts["inside"], sum(inside) / 2, rtol=1e-4)
    assert torch.allclose(found.total, 0.75 * squares.mean() + 0.25 * sum(inside) / 2, rtol=1e-4)


def test_all_devices_train_the_vae_on_single_frames_at_once(folder, tmp_path):
    strategy = strategy_of(
        config(tmp_path, folder, task="vae", data__clips_per_batch=2, vae_objective={"images": 0.5})
    )
    seen = []
    for position in range(12):
        frames = []
        for rank in range(2):
            draws = [Draw(2 * slot + rank, SHAPE, 0) for slot in range(2)]
            batch = Batch(position, rank, 2, 2, 2 * SHAPE.tokens, strategy.read(draws))
            strategy.prepare(batch, torch.device("cpu"))
            frames.append(batch.content.video.shape[2])
        assert frames[0] == frames[1]
        seen.append(frames[0])
    assert set(seen) == {1, SHAPE.frames}


class Lines:
    """A strategy with two small networks, which learn to be the mean of what they are shown."""

    def __init__(self, clips):
        self.clips, self.lost = clips, Lost()
        self.networks = {name: nn.Linear(3, 1) for name in ("first", "second")}
        for network in self.networks.values():
            nn.init.constant_(network.weight, 0.5)
            nn.init.zeros_(network.bias)

    def batches(self, rank, ranks, position):  # noqa: ARG002
        while True:
            yield [Draw(position * self.clips + i, SHAPE, 0) for i in range(self.clips)]
            position += 1

    def read(self, draws):
        return torch.stack([torch.tensor([1.0, d.index % 7, d.index % 3]) for d in draws])

    def prepare(self, batch, device):
        pass

    def loss(self, name, networks, batch):
        error = (networks[name](batch.content) - batch.content.mean(1, keepdim=True)).square()
        return Losses(error.mean(), {f"{name}_loss": error.mean()})

    def write_result(self, networks, weights, folder, step):  # noqa: ARG002
        return []


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_accumulated_batches_are_one_larger_batch(tmp_path, schedule):
    from easyanimate_core.training.run import _accelerator

    trained = []
    for clips_per_batch, accumulate in ((8, 1), (2, 4)):
        wanted = config(
            tmp_path / f"{accumulate}", "checkpoint", run__steps=3, run__accumulate=accumulate,
            optimizer__schedule=schedule,
        )  # fmt: skip
        strategy = Lines(clips_per_batch)
        accelerator = _accelerator(wanted)
        Trainer(wanted, strategy, accelerator, report=lambda _: None).train()
        trained.append(strategy.networks)
    for name, network in trained[0].items():
        assert (network.weight - 0.5).abs().max() > 0.005
        assert torch.allclose(network.weight, trained[1][name].weight, atol=1e-6), name
        assert torch.allclose(network.bias, trained[1][name].bias, atol=1e-6), name


ONE_MACHINE = [["--standalone", "--nproc_per_node", "2"]]
TWO_MACHINES = [
    ["--nnodes", "2", "--node_rank", str(rank), "--nproc_per_node", "1",
     "--master_addr", "127.0.0.1", "--master_port"]
    for rank in range(2)
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("machines", [ONE_MACHINE, TWO_MACHINES], ids=["one machine", "two"])
def test_two_processes_are_one_with_twice_the_batch(folder, tmp_path, machines):
    """By PyTorch's launcher: on a CPU accelerate's starts several processes with MPI alone."""
    changes = {"run__steps": 3, "data__synthetic__count": 8}
    train(tmp_path / "one", folder, **changes, data__tokens_per_batch=32)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings(tmp_path / "two", folder, **changes)))
    port = [] if machines is ONE_MACHINE else [str(free_port())]
    launchers = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options, *port,
             "-m", "easyanimate_core", "train", str(path)],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        )
        for options in machines
    ]  # fmt: skip
    for launcher in launchers:
        _, errors = launcher.communicate()
        assert launcher.returncode == 0, errors[-3000:]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(two) == [1, 2, 3]
    assert two == pytest.approx(one, rel=1e-4)


def test_bf16_rounds_and_keeps_whole_weights(folder, tmp_path):
    for precision in ("no", "bf16"):
        train(tmp_path / precision, folder, run__steps=3, run__precision=precision)
    whole, rounded = losses(tmp_path / "no"), losses(tmp_path / "bf16")
    assert rounded == pytest.approx(whole, rel=0.02)
    assert rounded != whole
    (file,) = (tmp_path / "bf16" / "result" / "transformer").glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float32}


def test_one_clip_is_learnt(folder, tmp_path):
    train(
        tmp_path / "run", folder, run__steps=40, data__synthetic__count=1,
        optimizer__learning_rate=3e-3, objective={"caption_dropout": 0.0},
    )  # fmt: skip
    course = list(losses(tmp_path / "run").values())
    assert sum(course[-8:]) < 0.7 * sum(course[:8])


def test_the_mean_of_the_weights_is_what_is_written(folder, tmp_path):
    """The decay warms up: it is 0 at the first step and 2 / 11 at the second."""
    first, second, mean = (
        final_weights(tmp_path / name, folder, run__steps=steps, run__ema=ema)
        for name, steps, ema in (("first", 1, 0.0), ("second", 2, 0.0), ("mean", 2, 0.5))
    )
    for name, weight in mean.items():
        assert torch.allclose(weight, 2 / 11 * first[name] + 9 / 11 * second[name], atol=1e-6), name
    assert (first["proj_out.weight"] - second["proj_out.weight"]).abs().max() > 1e-3


def final_weights(output, folder, **changes):
    (result,) = train(output, folder, **changes)
    return load_file(next(result.glob("*.safetensors")))


def transformer(pipeline, version=V5_1, head=Head.T2V):
    return load_transformer(pipeline(version, head).info, dtype=torch.float32)


def velocity(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    text_dim = network.config.text_embed_dim
    text = torch.randn(1, 7, text_dim, generator=generator)
    t5 = None
    if network.config.text_embed_dim_t5:
        t5 = torch.randn(1, 5, network.config.text_embed_dim_t5, generator=generator)
    latents = torch.randn(1, 16, 2, 4, 4, generator=generator)
    with torch.no_grad():
        return network(latents, torch.tensor([300.0]), text, text_t5=t5)


def drawn_lora(network, layers=("attention", "feed_forward")):
    """A LoRA beside the network's layers that changes something."""
    wanted = LoraConfig(rank=4, alpha=2.0, layers=layers)
    names = add_lora(network, wanted, seed=1)
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, LoraBranch):
            module.up.data.normal_(0, 0.1, generator=generator)
    return wanted, names


@pytest.mark.parametrize("version", [V5_1, V5])
def test_a_lora_file_acts_as_the_branches_that_were_trained(pipeline, tmp_path, version):
    network = transformer(pipeline, version)
    plain = velocity(network)
    add_lora(network, LoraConfig(rank=4, alpha=2.0), seed=1)
    assert torch.equal(velocity(network), plain)  # nothing changes at first
    network = transformer(pipeline, version)
    wanted, changed = drawn_lora(network)
    trained = velocity(network)
    assert (trained - plain).abs().max() > 1e-3
    path = tmp_path / "lora.safetensors"
    write_lora(network.state_dict(), wanted, {"format": "pt"}, path)
    network = transformer(pipeline, version)
    shapes = {
        name.removesuffix(".weight"): tuple(p.shape)
        for name, p in network.named_parameters()
        if p.ndim == 2
    }
    loras = LoraSet.read((Lora(path),), shapes)
    assert set(loras.modules) == set(changed)
    with attached(network, loras, device=torch.device("cpu"), dtype=torch.float32):
        assert torch.allclose(velocity(network), trained, atol=1e-5)


def test_a_lora_file_has_names_that_every_reader_knows(pipeline, tmp_path):
    network = transformer(pipeline)
    wanted, changed = drawn_lora(network, ("attention",))
    write_lora(network.state_dict(), wanted, {"format": "pt"}, tmp_path / "lora.safetensors")
    tensors = load_file(tmp_path / "lora.safetensors")
    first = "lora_unet_transformer_blocks_0_attn1_to_q"
    assert {name for name in tensors if name.startswith(f"{first}.")} == {
        f"{first}.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    assert len(tensors) == 3 * len(changed)
    assert all(".attn" in name for name in changed)
    assert tensors[f"{first}.alpha"] == 2.0
    assert tensors[f"{first}.lora_down.weight"].shape[0] == 4


def test_clips_in_memory_are_trained_on(folder, tmp_path):
    wanted = config(tmp_path / "run", folder, data__synthetic=None)
    run_training(wanted, records=clips(), report=lambda _: None)
    train(tmp_path / "synthetic", folder)
    assert losses(tmp_path / "run") == losses(tmp_path / "synthetic")


WATCHED = ("easyanimate_core.training", "accelerate", "pydantic", "tensorboard", "matplotlib")


@pytest.mark.parametrize(
    "does",
    [
        "import easyanimate_core.pipeline",
        "from easyanimate_core.cli.main import build_parser as build; build()",
    ],
)
def test_inference_imports_no_training(does):
    script = f"import sys\n{does}\nprint(*[name for name in {WATCHED} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
