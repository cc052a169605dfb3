"""Few steps without guidance: the teacher's walk, the student's gradients, runs that go on."""

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

from easyanimate_core.conditioning.condition import Condition
from easyanimate_core.errors import InputError
from easyanimate_core.media import resize_cover
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.sampling import (
    DEFAULT_SCHEDULER,
    FLOW_SHIFT,
    Guidance,
    SamplingRun,
    Schedule,
    make_schedule,
)
from easyanimate_core.settings import DEFAULT_NEGATIVE_PROMPT, Settings
from easyanimate_core.stages import sample_latents
from easyanimate_core.training.config import parse_config
from easyanimate_core.training.data.records import Record, Sample
from easyanimate_core.training.jumps import Trajectory, draw_jumps
from easyanimate_core.training.lora import LoraBranch, without_lora
from easyanimate_core.training.objective import objective_of
from easyanimate_core.training.run import run_training
from easyanimate_core.training.strategies.base import Batch
from easyanimate_core.training.strategies.denoiser import scheduler_config
from easyanimate_core.weights.lora import Lora
from tests.factories import V5, V5_1
from tests.training_runs import losses, settings, strategy_of

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
GUIDANCE, STEPS = 3.0, 4
LORA = {"rank": 2, "alpha": 2.0}
HEADS = [
    (V5_1, Head.T2V), (V5_1, Head.INPAINT), (V5_1, Head.CONTROL), (V5_1, Head.CAMERA),
    (V5, Head.INPAINT), (V5, Head.CONTROL),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.INPAINT)


def plain(output, folder, *, lora=LORA, distill=(), **changes):
    given = {"guidance": GUIDANCE, "jumps": [1], "teacher_steps": STEPS, **dict(distill)}
    base = {"task": "distill", "distill": given, "objective": {"caption_dropout": 0.0}}
    if lora is not None:
        base["model__lora"] = lora
    if "Camera" in str(folder):
        base["data__synthetic__kind"] = "camera"
    return settings(output, folder, **{**base, **changes})


def wanted(*given, **changes):
    return parse_config(plain(*given, **changes))


def ready(config, position=0, *, begun=True, records=None):
    """The strategy and a prepared batch; if it has `begun`, its LoRA changes something."""
    strategy = strategy_of(config, records)
    generator = torch.Generator().manual_seed(2)
    for module in strategy.networks["denoiser"].modules():
        if begun and isinstance(module, LoraBranch):
            module.up.data.normal_(0, 0.1, generator=generator)
    draws = next(strategy.batches(0, 1, position))
    batch = Batch(position, 0, 1, len(draws), 0, strategy.read(draws))
    strategy.prepare(batch, CPU)
    return strategy, batch


def asked(strategy, batch, times):
    """The question about jumps of these times, [clips, 3]."""
    noise = torch.randn(batch.content.latents.shape, generator=torch.Generator().manual_seed(5))
    network = strategy.networks["denoiser"]
    return strategy._ask(network, batch.content, noise, times), noise


def sampled(strategy, batch, noise, scales):
    """What the sampling loop makes of the noise in the teacher's steps, clip by clip."""
    network, content = strategy.networks["denoiser"], batch.content
    version = network.config.version
    config = scheduler_config(strategy._config, network.config)
    made = []
    for row, scale in enumerate(scales):
        schedule = make_schedule(DEFAULT_SCHEDULER[version], config, steps=STEPS)
        if version is V5_1:  # without its last step of almost nothing
            even = torch.linspace(1, 0, STEPS + 1)
            sigmas = FLOW_SHIFT * even / (1 + (FLOW_SHIFT - 1) * even)
            schedule.solver._sigmas = sigmas
            schedule = Schedule(schedule.solver, 1000 * sigmas[:-1], 1.0)
        own = slice(row, row + 1)
        channels = None if content.channels is None else content.channels[own]
        negative = strategy._captions.states([DEFAULT_NEGATIVE_PROMPT], CPU)
        with without_lora(network), torch.no_grad():
            made.append(
                sample_latents(
                    network,
                    SamplingRun(schedule, Guidance(scale), []),
                    text=(negative, content.text.rows(own)),
                    condition=Condition(channels, None),
                    noise=noise[own],
                )
            )
    return torch.cat(made)


@pytest.mark.parametrize(("version", "head"), HEADS)
def test_the_teacher_walks_as_the_sampling_loop_does(checkpoint, tmp_path, version, head):
    """From noise to the end, the jump's velocity leads to what the loop makes in many steps."""
    strategy, batch = ready(wanted(tmp_path, checkpoint(version, head)))
    times = torch.tensor([[1.0, 0.0, 0.0]]).expand(batch.clips, 3)
    question, noise = asked(strategy, batch, times)
    assert torch.allclose(question.noisy, noise, atol=1e-6)  # zero terminal SNR included
    known = sampled(strategy, batch, noise, [GUIDANCE] * batch.clips)
    trajectory = strategy._trajectory
    places = trajectory.at(times[:, 0]), trajectory.at(times[:, 1])
    reached = trajectory.step(question.noisy, question.target, *places)
    assert torch.allclose(reached, known, rtol=1e-3, atol=1e-4 * float(known.abs().max()))
    one = sampled(strategy, batch, noise, [1.0] * batch.clips)
    assert not torch.allclose(one, known, rtol=0.05)  # the guidance is seen


def test_each_kind_of_mask_can_have_its_guidance(folder, tmp_path):
    masks = {"masks": {"both": 1.0, "region": 1.0}, "condition_dropout": 0.4}
    config = wanted(
        tmp_path, folder, distill={"guidance_of": {"both": 1.0}},
        objective={"caption_dropout": 0.0, **masks},
        data__synthetic__count=12, data__tokens_per_batch=96,
    )  # fmt: skip
    strategy, batch = ready(config)
    scales = batch.content.scales.flatten().tolist()
    hidden = ~batch.content.channels.flatten(1).any(1)
    assert len(scales) == 12 and set(scales) == {1.0, GUIDANCE}
    assert all(
        scale == GUIDANCE for scale, is_hidden in zip(scales, hidden, strict=True) if is_hidden
    )
    for channels, scale in zip(batch.content.channels, scales, strict=True):
        if scale == 1.0:  # first and last frame are known: the first is so as a whole
            assert channels[0, 0].min() == channels[0, 0].max() > 0
    times = torch.tensor([[1.0, 0.0, 0.0]]).expand(12, 3)
    question, noise = asked(strategy, batch, times)
    known = sampled(strategy, batch, noise, scales)
    places = strategy._trajectory.at(times[:, 0]), strategy._trajectory.at(times[:, 1])
    reached = strategy._trajectory.step(question.noisy, question.target, *places)
    assert torch.allclose(reached, known, rtol=1e-3, atol=1e-4 * float(known.abs().max()))
    held_out = strategy._held_out_content(0, strategy._held_out[0], CPU)
    assert held_out.scales.shape == (1, 1, 1, 1, 1)


@pytest.mark.parametrize("version", [V5_1, V5])
def test_a_velocity_is_what_its_step_needs(version):
    objective = objective_of(version, settings_of(version))
    trajectory = Trajectory.of(version, objective.prediction)
    generator = torch.Generator().manual_seed(1)
    latents, velocity = torch.randn((2, 3, 2, 1, 4, 4), generator=generator)
    for start, end in ((1.0, 0.75), (1.0, 0.0), (0.5, 0.25), (0.25, 0.0)):
        now, then = (trajectory.at(torch.full((3,), time)) for time in (start, end))
        reached = trajectory.step(latents, velocity, now, then)
        assert torch.allclose(trajectory.velocity(latents, reached, now, then), velocity, atol=1e-4)
    ends = trajectory.at(torch.zeros(1)).levels
    assert (ends.signal, ends.spread) == (1, 0)


def settings_of(version):
    from easyanimate_core.sampling import PUBLISHED_CONFIG

    return PUBLISHED_CONFIG[version]


def test_v5s_times_are_those_of_its_scheduler():
    objective = objective_of(V5, settings_of(V5))
    trajectory = Trajectory.of(V5, objective.prediction)
    for steps in (2, 4, 8, 20, 50):
        times = 1 - torch.arange(steps) / steps
        known = make_schedule("DDIM", settings_of(V5), steps=steps).timesteps
        assert trajectory.at(times).timesteps.tolist() == known.tolist()


def test_jumps_are_drawn_along_the_whole_way():
    drawn = draw_jumps([2, 4], 0.0, 4000, np.random.default_rng(0))
    lengths = drawn[:, 0] - drawn[:, 1]
    assert set(lengths.mul(4).round().tolist()) == {1.0, 2.0}
    assert lengths.mul(4).allclose(lengths.mul(4).round(), atol=1e-5)
    assert drawn.min() >= 0 and drawn.max() == 1
    quarters = drawn[lengths < 0.3, 0]
    assert float((quarters == 1).float().mean()) == pytest.approx(0.25, abs=0.04)
    places = quarters[quarters < 1]
    assert places.min() == pytest.approx(0.25, abs=0.01)
    assert float(places.mean()) == pytest.approx(0.625, abs=0.02)
    assert torch.equal(drawn, draw_jumps([2, 4], 0.0, 4000, np.random.default_rng(0)))


def test_some_jumps_begin_where_the_student_gets_to():
    drawn = draw_jumps([4], 0.5, 2000, np.random.default_rng(0))
    own = drawn[:, 2] == 1
    assert float(own.float().mean()) == pytest.approx(0.5, abs=0.04)
    starts = drawn[own, 0]
    assert starts.unique().tolist() == [0.25, 0.5, 0.75, 1.0]
    assert all(float((starts == start).float().mean()) > 0.2 for start in (0.25, 1.0))
    assert (drawn[own, 0] - drawn[own, 1]).allclose(torch.tensor(0.25))
    assert len(drawn[~own, 0].unique()) > 500


@pytest.mark.parametrize(("version", "head"), [HEADS[1], HEADS[4]])
def test_its_way_is_its_own_sampling(checkpoint, tmp_path, version, head):
    """With the LoRA, without guidance, and only as far as each clip's start."""
    config = wanted(tmp_path, checkpoint(version, head), distill={"jumps": [STEPS], "own": 1.0})
    strategy, batch = ready(config)
    starts = torch.tensor([1.0, 0.25])[: batch.clips]
    times = torch.stack([starts, starts - 0.25, torch.ones(batch.clips)], 1)
    question, noise = asked(strategy, batch, times)
    network, trajectory = strategy.networks["denoiser"], strategy._trajectory
    content, latents = batch.content, noise[1:]
    with torch.no_grad():
        for time in (1.0, 0.75, 0.5):
            now, then = (trajectory.at(torch.tensor([at])) for at in (time, time - 0.25))
            text = content.text.rows(slice(1, 2))
            velocity = network(
                latents,
                now.timesteps,
                text.text,
                text_t5=text.text_t5,
                condition=content.channels[1:],
            )
            latents = trajectory.step(latents, velocity, now, then)
    assert torch.allclose(question.noisy[0], noise[0], atol=1e-6)
    assert torch.allclose(question.noisy[1:], latents, rtol=1e-3, atol=1e-4)
    assert not question.noisy.requires_grad


@pytest.mark.parametrize("lora", [LORA, None])
def test_gradients_are_the_students_alone(folder, tmp_path, lora):
    """They are those of the distance to a constant, however the teacher was evaluated."""
    strategy, batch = ready(wanted(tmp_path, folder, lora=lora))
    network = strategy.networks["denoiser"]
    found = strategy.loss("denoiser", strategy.networks, batch)
    found.total.backward()
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()

    random_noise = []
    ask = strategy._ask
    strategy._ask = lambda *given: random_noise.append(ask(*given)) or random_noise[-1]
    strategy.loss("denoiser", strategy.networks, batch)
    (question,) = random_noise
    content = batch.content
    velocity = network(
        question.noisy, question.timesteps, content.text.text,
        text_t5=content.text.text_t5, condition=content.channels,
    )  # fmt: skip
    (velocity - question.target.detach()).square().mean().backward()
    assert not question.target.requires_grad
    assert sum(float(gradient.abs().sum()) for gradient in gradients.values()) > 0
    for name, gradient in gradients.items():
        known = dict(network.named_parameters())[name].grad
        assert torch.allclose(gradient, known, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("lora", [LORA, None])
def test_the_teacher_stays_what_the_model_was(folder, tmp_path, lora):
    config = wanted(tmp_path, folder, lora=lora)
    targets, students = [], []
    for begun in (False, True):
        strategy, batch = ready(config, begun=begun)
        network = strategy.networks["denoiser"]
        if lora is None and begun:
            for parameter in network.parameters():
                parameter.data.mul_(1.1)
        times = torch.tensor([[1.0, 0.0, 0.0]]).expand(batch.clips, 3)
        question, _ = asked(strategy, batch, times)
        targets.append(question.target)
        content = batch.content
        with torch.no_grad():
            students.append(
                network(
                    question.noisy,
                    question.timesteps,
                    content.text.text,
                    condition=content.channels,
                )
            )
    assert torch.equal(*targets)
    assert not torch.allclose(*students, rtol=1e-2)


def test_copies_that_autocast_made_for_the_teacher_are_not_learned_from(folder, tmp_path):
    flat = []
    for enabled in (False, True):
        strategy, batch = ready(wanted(tmp_path, folder))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            strategy.loss("denoiser", strategy.networks, batch).total.backward()
        grads = [p.grad for p in strategy.networks["denoiser"].parameters() if p.requires_grad]
        assert all(grad is not None for grad in grads)
        flat.append(torch.cat([grad.flatten() for grad in grads]))
    assert torch.cosine_similarity(*flat, dim=0) > 0.9


def pixels_record(frames):
    pixels = torch.rand((frames, 32, 32, 3), generator=torch.Generator().manual_seed(frames))

    def load(shape, start=0):
        return Sample(resize_cover(pixels[start : start + shape.frames], *shape[1:]))

    return Record(str(frames), (f"{frames} frames",), frames, 32, 32, load)


def test_every_shape_learns(folder, tmp_path):
    records = [pixels_record(frames) for frames in (1, 5, 9)]
    given = {"data__tokens": [4, 12], "data__frames": [1, 5, 9], "data__tokens_per_batch": 12}
    strategy, _ = ready(wanted(tmp_path, folder, **given), records=records)
    shapes = set()
    for position in range(8):
        draws = next(strategy.batches(0, 1, position))
        batch = Batch(position, 0, 1, len(draws), 0, strategy.read(draws))
        strategy.prepare(batch, CPU)
        shapes.add(tuple(batch.content.latents.shape[2:]))
        assert strategy.loss("denoiser", strategy.networks, batch).total.isfinite()
    assert {shape[0] for shape in shapes} == {1, 2, 3}
    assert {shape[1] for shape in shapes} >= {2, 4}


RESUMED = {"run__steps": 4, "run__save_every": 2}


@pytest.mark.parametrize(("version", "head"), [HEADS[1], HEADS[3], HEADS[5]])
def test_a_run_that_goes_on_has_the_same_losses(checkpoint, tmp_path, version, head):
    folder = checkpoint(version, head)

    def run(name, **changes):
        config = wanted(
            tmp_path / name, folder, distill={"jumps": [2, 4], "teacher_steps": 2},
            run__accumulate=2, **{**RESUMED, **changes},
        )  # fmt: skip
        return run_training(config, report=lambda _: None)

    (whole,) = run("whole")
    run("parts", run__steps=2)
    (parts,) = run("parts")
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert whole.read_bytes() == parts.read_bytes()


def test_all_weights_resume_with_the_same_teacher(folder, tmp_path):
    for name, stops in (("whole", [4]), ("parts", [2, 4])):
        for steps in stops:
            config = wanted(tmp_path / name, folder, lora=None, **{**RESUMED, "run__steps": steps})
            run_training(config, report=lambda _: None)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


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
def test_a_killed_run_goes_on_with_the_same_losses(folder, tmp_path):
    run_training(wanted(tmp_path / "whole", folder, **RESUMED), report=lambda _: None)
    given = plain(tmp_path / "killed", folder, **RESUMED)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(given))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], cwd=ROOT, capture_output=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    run_training(parse_config(given), report=lambda _: None)
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("lora", [LORA, None])
def test_two_devices_learn_what_one_does(folder, tmp_path, lora):
    given = {"lora": lora, "run__steps": 3, "run__gradient_checkpointing": True}
    run_training(wanted(tmp_path / "one", folder, **given), report=lambda _: None)
    two = plain(tmp_path / "two", folder, **given)
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
    assert found == pytest.approx(known, rel=1e-3)


def test_the_file_is_a_lora_that_says_how_to_sample_with_it(folder, tmp_path):
    config = wanted(
        tmp_path / "run", folder, distill={"jumps": [4, 2, 4]}, run__validate_every=2,
    )  # fmt: skip
    (lora,) = run_training(config, report=lambda _: None)
    with safe_open(lora, "pt") as opened:
        header = opened.metadata()
    assert header["easyanimate.distilled"] == (
        "guidance 3 into jumps of 1/N of the way for N 2, 4; sample in few steps with guidance 1"
    )
    pipeline = Pipeline.load(folder)
    small = Settings(height=32, width=32, frames=5, steps=2, guidance_scale=1)
    made = [
        pipeline.generate("a red circle", settings=small, loras=loras).latents
        for loras in ((), (Lora(lora),))
    ]
    assert not torch.equal(*made)
    assert (tmp_path / "run" / "validation" / "step-00000002.png").is_file()


@pytest.mark.parametrize(
    ("distill", "changes", "said"),
    [
        ({"guidance": 0.5}, {}, "distill.guidance"),
        ({"guidance": 1, "teacher_steps": 1}, {}, "there is nothing to learn"),
        ({"jumps": []}, {}, "distill.jumps"),
        ({"jumps": [4, 0]}, {}, "jumps has 0"),
        ({"guidance_of": {"middle": 1}}, {}, "distill.guidance_of"),
        ({"guidence": 3}, {}, "Did you mean guidance?"),
        ({}, {"task": "inpaint"}, "belong together: set both"),
        ({}, {"model": {"network": {"in_channels": 16}}}, "the teacher is a trained model"),
    ],
)
def test_what_is_wrong_is_refused_by_name(tmp_path, distill, changes, said):
    with pytest.raises(InputError) as error:
        wanted(tmp_path, "checkpoint", lora=None, distill=distill, **changes)
    assert said in str(error.value)
