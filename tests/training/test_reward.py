"""Rewards train a LoRA: gradients through the sampling loop, the tie, what is said and refused."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from easyanimate_core.errors import HeadError, InputError
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.sampling import DEFAULT_SCHEDULER, make_schedule
from easyanimate_core.scores import plain
from easyanimate_core.settings import Settings
from easyanimate_core.training.config import parse_config
from easyanimate_core.training.lora import LoraBranch
from easyanimate_core.training.prompts import find_prompts, read_prompts
from easyanimate_core.training.reward_config import RewardConfig
from easyanimate_core.training.run import make_strategy, run_training
from easyanimate_core.training.strategies.base import Batch
from easyanimate_core.training.strategies.denoiser import scheduler_config
from easyanimate_core.training.unrolled import Plan
from easyanimate_core.weights.lora import Lora
from tests.factories import V5, V5_1
from tests.training_runs import losses, settings

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
PROMPTS = ["a red circle", "a blue square", "a green star", "a cross moves left"]
STEPS = 3


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(PROMPTS) + "\n")
    return path


def plain_settings(output, folder, prompts, reward=(), **changes):
    given = {
        "rewards": {"saturation": {}}, "frames": 5, "height": 32, "width": 32, "steps": STEPS,
        "guidance": 2.0, "decoded": None, "tie": 0.0, **dict(reward),
    }  # fmt: skip
    return settings(
        output, folder,
        **{
            "task": "reward", "reward": given,
            "data": {"manifest": str(prompts), "tokens_per_batch": 16},
            "model__lora": {"rank": 2, "alpha": 2.0}, "optimizer__learning_rate": 0.003,
            **changes,
        },
    )  # fmt: skip


def wanted(*given, **changes):
    return parse_config(plain_settings(*given, **changes))


def ready(config, position=0, *, begun=True):
    """The strategy and a prepared batch; if it has `begun`, its LoRA changes something."""
    strategy = make_strategy(config, find_prompts(config))
    generator = torch.Generator().manual_seed(2)
    for module in strategy.networks["denoiser"].modules():
        if begun and isinstance(module, LoraBranch):
            module.up.data.normal_(0, 0.1, generator=generator)
    draws = next(strategy.batches(0, 1, position))
    batch = Batch(position, 0, 1, len(draws), 0, strategy.read(draws))
    strategy.prepare(batch, CPU)
    return strategy, batch


def gradients(config):
    strategy, batch = ready(config)
    strategy.loss("denoiser", strategy.networks, batch).total.backward()
    return gradients_of(strategy)


def gradients_of(strategy):
    """By name; what the last block of a V5 denoiser says of the text is used by nothing."""
    return {
        name: torch.zeros(()) if parameter.grad is None else parameter.grad
        for name, parameter in strategy.networks["denoiser"].named_parameters()
        if parameter.requires_grad
    }


def reference(config, learned, *, through=True):
    """The same by a loop of its own, which keeps the graph of the steps in `learned`."""
    strategy, batch = ready(config)
    network, content = strategy.networks["denoiser"], batch.content
    version, latents = network.config.version, content.noise
    schedule = make_schedule(
        DEFAULT_SCHEDULER[version], scheduler_config(config, network.config), steps=STEPS
    )
    empty = strategy._captions.states([""], CPU)
    for step, timestep in enumerate(schedule.timesteps):
        shown = latents if through else latents.detach()
        times = timestep.float().expand(len(latents))
        channels = strategy._nothing(len(latents), CPU)

        def ask(states, shown=shown, times=times, channels=channels):
            t5 = None if states.text_t5 is None else states.text_t5.expand(len(shown), -1, -1)
            text = states.text.expand(len(shown), -1, -1)
            return network(shown, times, text, text_t5=t5, condition=channels)

        negative = ask(empty)
        velocity = negative + 2.0 * (ask(content.text) - negative)
        if step not in learned:
            velocity = velocity.detach()
        latents = schedule.solver.step(velocity, latents, [])
    vae = strategy._load_vae(CPU)
    frames = (vae.decode(latents / vae.config.scaling_factor) / 2 + 0.5).clamp(0, 1)
    chroma = frames.amax(1) - frames.amin(1)
    (1 - chroma.flatten(1).mean(1)).mean().backward()
    return gradients_of(strategy)


def assert_alike(found, known):
    assert found.keys() == known.keys()
    assert sum(float(gradient.abs().sum()) for gradient in known.values()) > 0
    for name, gradient in known.items():
        tolerance = 1e-3 * float(gradient.abs().max()) + 1e-9
        assert torch.allclose(found[name], gradient, rtol=2e-3, atol=tolerance), name


@pytest.mark.parametrize(
    ("version", "head"), [(V5_1, Head.T2V), (V5_1, Head.INPAINT), (V5, Head.T2V)]
)
def test_gradients_are_those_of_the_whole_unrolled_loop(
    checkpoint, tmp_path, prompts, version, head
):
    config = wanted(tmp_path, checkpoint(version, head), prompts, reward={"backprop": STEPS})
    assert_alike(gradients(config), reference(config, {0, 1, 2}))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("through", [True, False])
def test_gradients_flow_through_the_last_steps_only(folder, tmp_path, prompts, count, through):
    config = wanted(
        tmp_path, folder, prompts, reward={"backprop": count, "through_inputs": through}
    )
    learned = set(range(STEPS - count, STEPS))
    found = gradients(config)
    assert_alike(found, reference(config, learned, through=through))
    whole = reference(config, set(range(STEPS)), through=through)
    assert any(not torch.allclose(found[name], whole[name], rtol=0.05) for name in whole)


def test_checkpointing_changes_no_gradient(folder, tmp_path, prompts):
    given = {"backprop": 2, "tie": 1.0}
    plainly = gradients(wanted(tmp_path, folder, prompts, reward=given))
    less = wanted(tmp_path, folder, prompts, reward=given, run__gradient_checkpointing=True)
    assert_alike(gradients(less), plainly)


def test_copies_that_autocast_made_without_a_graph_are_not_learned_from(folder, tmp_path, prompts):
    config = wanted(tmp_path, folder, prompts)
    exact = gradients(config)
    strategy, batch = ready(config)
    with torch.autocast("cpu", torch.bfloat16):
        strategy.loss("denoiser", strategy.networks, batch).total.backward()
    rounded = gradients_of(strategy)
    flat = [torch.cat([g.flatten() for g in each.values()]) for each in (exact, rounded)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.9


def test_losses_are_weighted_distances_from_the_targets(folder, tmp_path, prompts):
    rewards = {"saturation": {"weight": 2.0}, "sharpness": {"weight": 0.5, "target": 0.01}}
    strategy, batch = ready(
        wanted(tmp_path, folder, prompts, reward={"rewards": rewards, "tie": 3})
    )
    found = strategy.loss("denoiser", strategy.networks, batch)
    saturation, sharpness = (found.parts[f"reward_{name}"] for name in rewards)
    assert sharpness > 0.01  # both clips are above this target: the loss is what is above it
    known = 2 * (1 - saturation) + 0.5 * (sharpness - 0.01) + 3 * found.parts["drift"]
    assert found.parts["drift"] > 0
    assert torch.allclose(found.total, known, rtol=1e-4)


def test_the_steps_that_learn_are_drawn_by_seed_and_batch():
    def plans(**given):
        config = RewardConfig(rewards={"saturation": {}}, steps=8, frames=17, **given)
        return [Plan.drawn(config, np.random.default_rng(seed)) for seed in range(60)]

    assert {plan.learned for plan in plans(backprop=3)} == {frozenset({5, 6, 7})}
    drawn = {plan.learned for plan in plans(backprop=3, choice="up_to")}
    assert drawn == {frozenset({7}), frozenset({6, 7}), frozenset({5, 6, 7})}
    anywhere = plans(backprop=2, choice="anywhere")
    assert all(len(plan.learned) == 2 for plan in anywhere)
    assert frozenset().union(*(plan.learned for plan in anywhere)) == frozenset(range(8))
    assert anywhere == plans(backprop=2, choice="anywhere")
    assert {plan.first for plan in plans()} == {0}
    assert {plan.first for plan in plans(decoded=2, random_start=True)} == {0, 1, 2, 3}
    assert {plan.tied for plan in plans(tie=0)} == {None}
    assert {plan.tied for plan in plans()} == set(range(8))


def test_frames_from_a_drawn_one_on_are_those_of_the_whole_clip(folder, tmp_path, prompts):
    given = {"frames": 17, "decoded": 2, "random_start": True}
    strategy, _ = ready(wanted(tmp_path, folder, prompts, reward=given))
    latents = torch.randn(1, 16, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    latents.requires_grad_(requires_grad=True)
    vae = strategy._load_vae(CPU)
    whole = vae.decode(latents.detach() / vae.config.scaling_factor).transpose(1, 2) / 2 + 0.5
    part = strategy._frames(latents, 2)
    assert part.shape == (1, 8, 3, 32, 32)
    assert torch.allclose(part, whole[:, 5:13].clamp(0, 1), atol=1e-4)
    part.sum().backward()
    used = latents.grad.abs().sum((0, 1, 3, 4))
    assert used[:2].eq(0).all() and used[2:4].gt(0).all() and used[4] == 0


def test_a_reward_rises_and_the_tie_holds_it_back(folder, tmp_path, prompts):
    def descended(tie):
        """The parts of the loss of one batch, whose gradients are followed again and again."""
        config = wanted(tmp_path, folder, prompts, reward={"tie": tie, "backprop": 2})
        strategy, batch = ready(config, begun=False)
        network, rows = strategy.networks["denoiser"], []
        optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 0.01)
        for _ in range(8):
            found = strategy.loss("denoiser", strategy.networks, batch)
            rows.append({name: float(value) for name, value in found.parts.items()})
            found.total.backward()
            optimizer.step()
            optimizer.zero_grad()
        return rows

    free, tied = descended(1e-9), descended(300.0)
    assert free[0]["drift"] == tied[0]["drift"] == 0  # the LoRA begins at nothing
    rises = [rows[-1]["reward_saturation"] - rows[0]["reward_saturation"] for rows in (free, tied)]
    assert rises[0] > 2 * abs(rises[1])
    assert rises[0] > 1e-4
    assert free[-1]["drift"] > 2 * tied[-1]["drift"] > 0


def test_validation_and_samples_show_what_is_gained(folder, tmp_path, prompts):
    said = []
    config = wanted(
        tmp_path / "run", folder, prompts, run__steps=4, run__validate_every=2, sample__every=2,
        sample__steps=1, validation__clips=1, reward={"rewards": {"saturation": {}}, "tie": 1.0},
    )  # fmt: skip
    (lora,) = run_training(config, report=said.append)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    gains = [r["validation_reward_saturation_gain"] for r in rows if "step" in r and any(
        "gain" in name for name in r)]  # fmt: skip
    assert len(gains) == 2 and gains[1] != 0
    assert any("measures 1 prompt that training does not see" in line for line in said)
    account = next(line for line in said if line.startswith("What will be trained"))
    assert "data: 3 prompts, and no clips" in account
    assert "rewards: saturation up to 1, weight 1" in account
    assert "gradients flow through the last step and 2 of 2 latent frames" in account
    assert "a tie of weight 1 to the model without the LoRA" in account
    shown = {path.name for path in (tmp_path / "run" / "validation").iterdir()}
    assert {"step-00000002.png", "step-00000002-0.mp4", "step-00000004.png"} <= shown
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 2
    assert (tmp_path / "run" / "curves.png").is_file()

    # The file is a LoRA like any other: kohya's names, which ComfyUI's own loader matches.
    tensors = load_file(lora)
    first = "lora_unet_transformer_blocks_0_attn1_to_q"
    parts = {"lora_down.weight", "lora_up.weight", "alpha"}
    assert {name for name in tensors if name.startswith(f"{first}.")} == {
        f"{first}.{part}" for part in parts
    }
    with safe_open(lora, "pt") as opened:
        header = opened.metadata()
    assert header["ss_steps"] == "4" and header["ss_network_dim"] == "2"
    assert json.loads(header["easyanimate.rewards"]) == {"saturation": 1.0}
    pipeline = Pipeline.load(folder)
    small = Settings(height=32, width=32, frames=5, steps=1)
    made = [
        pipeline.generate(PROMPTS[0], settings=small, loras=loras).latents
        for loras in ((), (Lora(lora),))
    ]
    assert not torch.equal(*made)


RESUMED = {"run__steps": 4, "run__save_every": 2}
DRAWN = {"backprop": 2, "choice": "anywhere", "tie": 1.0}


def test_a_run_that_goes_on_has_the_same_losses(folder, tmp_path, prompts):
    def run(name, **changes):
        config = wanted(
            tmp_path / name, folder, prompts, reward=DRAWN, run__accumulate=2,
            **{**RESUMED, **changes},
        )  # fmt: skip
        return run_training(config, report=lambda _: None)

    (whole,) = run("whole")
    run("parts", run__steps=2)
    (parts,) = run("parts")
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert whole.read_bytes() == parts.read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
from easyanimate_core.training.config import read_config
from easyanimate_core.training.run import run_training

def progress(stage, done, total):
    if (stage, done) == ("train", 3):
        os.kill(os.getpid(), signal.SIGKILL)

run_training(read_config(Path(sys.argv[1])), progress=progress)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_losses(folder, tmp_path, prompts):
    run_training(
        wanted(tmp_path / "whole", folder, prompts, reward=DRAWN, **RESUMED),
        report=lambda _: None,
    )
    given = plain_settings(tmp_path / "killed", folder, prompts, reward=DRAWN, **RESUMED)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(given))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], cwd=ROOT, capture_output=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    run_training(parse_config(given), report=lambda _: None)
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")


def test_values_that_are_not_finite_end_the_run_by_name(folder, tmp_path, prompts):
    strategy, batch = ready(wanted(tmp_path, folder, prompts))
    for module in strategy.networks["denoiser"].modules():
        if isinstance(module, LoraBranch):
            module.up.data.fill_(float("nan"))
    found = strategy.loss("denoiser", strategy.networks, batch)
    assert found.total.isnan()
    found.total.backward()
    given = plain_settings(
        tmp_path / "run", folder, prompts, run__steps=3, optimizer__learning_rate=1e30
    )
    with pytest.raises(InputError, match="is not finite: training has diverged"):
        run_training(parse_config(given), report=lambda _: None)


@pytest.mark.parametrize(
    ("reward", "changes", "said"),
    [
        ({"rewards": {"beauty": {}}}, {}, "there is no reward beauty; there are saturation,"),
        ({"rewards": {}}, {}, "reward.rewards"),
        ({"rewards": {"hps": {"clip": "c"}}}, {}, "hps needs file: HPS_v2.1_compressed.pt"),
        ({"rewards": {"clip": {}}}, {}, "clip needs clip: a CLIP of transformers"),
        ({"rewards": {"sharpness": {"file": "a"}}}, {}, "sharpness reads no file: omit it"),
        ({"rewards": {"sharpness": {"wieght": 1}}}, {}, "Did you mean weight?"),
        ({"backprop": 4}, {}, "backprop is 4, more than the 3 steps"),
        ({"decoded": 3}, {}, "decoded is 3, but 5 frames have 2 latent ones"),
        ({"random_start": True}, {}, "random_start has no choice"),
        ({"frames": 6}, {}, "the length must be 4n + 1"),
        ({}, {"task": "vae"}, "the VAE has no LoRA"),
        ({}, {"task": "text_to_video"}, "belong together"),
        ({}, {"model": {"checkpoint": "c"}}, "rewards train a LoRA: set `model.lora`"),
        ({}, {"data__tokens": [8]}, "the size of what is sampled is in `reward`"),
        ({}, {"objective": {"shift": 3.0}}, "of `objective`, set only empty_captions"),
    ],
)
def test_what_is_wrong_is_refused_by_name(tmp_path, reward, changes, said):
    with pytest.raises(InputError) as error:
        wanted(tmp_path, "checkpoint", "prompts.txt", reward=reward, **changes)
    assert said in str(error.value)


def test_the_section_is_required(tmp_path):
    given = plain_settings(tmp_path, "checkpoint", "prompts.txt")
    del given["reward"]
    with pytest.raises(InputError, match="belong together: set both"):
        parse_config(given)


def test_missing_weights_and_other_heads_are_refused_before_anything_is_trained(
    folder, checkpoint, tmp_path, prompts
):
    rewards = {"rewards": {"hps": {"file": str(tmp_path / "no.pt"), "clip": str(tmp_path)}}}
    config = wanted(tmp_path / "run", folder, prompts, reward=rewards)
    with pytest.raises(InputError, match=r"There is no file .*no.pt \(file of hps\): it needs"):
        run_training(config, report=lambda _: None)
    assert not (tmp_path / "run").exists()
    control = wanted(tmp_path / "run", checkpoint(V5_1, Head.CONTROL), prompts)
    with pytest.raises(HeadError, match=r"the Control head\. Choose a T2V or InP checkpoint"):
        run_training(control, report=lambda _: None)


def test_doubts_have_remedies(folder, tmp_path, prompts):
    said = []
    config = wanted(
        tmp_path / "run", folder, prompts,
        reward={"tie": 0.0, "decoded": 1, "rewards": {"steadiness": {}, "saturation": {}}},
    )  # fmt: skip
    run_training(config, dry_run=True, report=said.append)
    warnings = [line for line in said if line.startswith("warning")]
    assert any("reward.tie is 0" in line for line in warnings)
    assert any("steadiness compares frames" in line for line in warnings)


def test_prompts_are_read_from_lines_texts_and_manifests(tmp_path):
    lines = tmp_path / "a.txt"
    lines.write_text("one\n\n  two \none\n", encoding="utf-8-sig")
    assert read_prompts(lines) == ["one", "two"]
    texts = tmp_path / "a.json"
    texts.write_text(json.dumps(["one", {"file_path": "x.mp4", "text": "two"}]))
    assert read_prompts(texts) == ["one", "two"]
    for content, said in (
        ("[]", "has no prompt"),
        ('[{"caption": "a"}]', "rename that to text"),
        ("[3]", "it must be text"),
        ("{", "a.json"),
    ):
        texts.write_text(content)
        with pytest.raises(InputError, match=said):
            read_prompts(texts)
    with pytest.raises(InputError, match="does not exist"):
        read_prompts(tmp_path / "none.txt")


def test_synthetic_captions_are_prompts(folder, tmp_path):
    config = wanted(
        tmp_path, folder, "-", data={"synthetic": {"count": 3, "languages": ["en"]}},
        validation__clips=2,
    )  # fmt: skip
    found = find_prompts(config)
    assert (len(found.records), len(found.held_out)) == (3, 2)
    assert not {r.identity for r in found.records} & {r.identity for r in found.held_out}
    assert plain.saturation(torch.zeros(1, 1, 3, 4, 4)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("version", [V5_1, V5])
def test_two_devices_learn_what_one_does(checkpoint, tmp_path, prompts, version):
    folder = checkpoint(version, Head.T2V)
    given = {"reward": DRAWN, "run__steps": 3, "run__gradient_checkpointing": True}
    one = plain_settings(tmp_path / "one", folder, prompts, **given)
    run_training(parse_config(one), report=lambda _: None)
    two = plain_settings(tmp_path / "two", folder, prompts, **given)
    two["data"]["tokens_per_batch"] = 8
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(two))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         "-m", "easyanimate_core", "train", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found, known = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert list(found) == [1, 2, 3]
    assert found == pytest.approx(known, rel=1e-4)
