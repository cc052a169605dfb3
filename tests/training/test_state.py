"""A state on disk: nothing of it runs code, damage is told by name, a full disk costs nothing."""

import errno
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from easyanimate_core.errors import CheckpointError, EasyAnimateError, MediaError
from easyanimate_core.models.specs import Head
from easyanimate_core.training.checkpoints import Checkpoints
from easyanimate_core.training.state.average import Average
from easyanimate_core.training.state.run_state import RunState
from tests.factories import V5_1, make_link
from tests.training_runs import losses, settings, train

ROOT = Path(__file__).parents[2]
#: With a state after each step, and more in it than a LoRA has.
RUN = {"run__steps": 2, "run__save_every": 1, "run__ema": 0.5}
GOES_ON = {**RUN, "run__steps": 3}
#: The files of accelerate's states, which it unpickles.
PICKLES = (
    "custom_checkpoint_0.pkl", "custom_checkpoint_1.pkl", "optimizer.bin", "random_states_0.pkl",
    "scheduler.bin", "scaler.pt", "sampler.bin", "pytorch_model.bin",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the runs that are killed: sums of several threads round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A run of two steps that was stopped, and what three steps give."""
    place = tmp_path_factory.mktemp("runs")
    train(place / "run", folder, **RUN)
    train(place / "whole", folder, **GOES_ON)
    return place


@pytest.fixture
def output(finished):
    """The run's folder; a copy would be another run."""
    kept = finished / "kept"
    shutil.copytree(finished / "run", kept)
    yield finished / "run"
    shutil.rmtree(finished / "run")
    kept.rename(finished / "run")


class Attack:
    """Its unpickling makes a file, as it could do anything else."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def as_torch_writes(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.fixture
def attack(tmp_path):
    """Pickles that make a file when they are read, as is tried first, and that file."""
    marker = tmp_path / "marker"
    pickles = [write(Attack(marker)) for write in (pickle.dumps, as_torch_writes)]
    for content in pickles:
        with suppress(RuntimeError):  # it runs the pickle, then misses the tensors
            torch.load(io.BytesIO(content), weights_only=False)
        marker.unlink()
    return pickles, marker


def last_state(output):
    return max((output / "checkpoints").glob("step-*"))


def seal(state):
    """What somebody does who has changed a file: sizes and hashes of the index are right again."""
    content = json.loads((state / "state.json").read_text())
    content["files"] = {
        file.name: {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in sorted(state.glob("*.safetensors"))
    }
    write_index(state, content)


def write_index(state, content):
    content.pop("sha256", None)
    text = json.dumps(content, sort_keys=True)
    content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (state / "state.json").write_text(json.dumps(content))


def refused(folder, output, **changes):
    with pytest.raises(EasyAnimateError) as error:
        train(output, folder, **{**GOES_ON, **changes})
    return str(error.value)


def state_of(**parts):
    from accelerate import Accelerator

    nothing = {"networks": {}, "optimizers": {}, "schedules": {}, "average": None}
    return RunState(Accelerator(cpu=True), **{**nothing, **parts})


def test_no_file_of_a_state_is_unpickled(folder, output, attack):
    """Each is replaced by a pickle under its own name, with the index as it was and made to fit."""
    pickles, marker = attack
    state = last_state(output)
    names = sorted(file.name for file in state.iterdir())
    names.remove("data.json")  # only told from: one that is damaged is not believed
    assert names == [
        "average.safetensors", "denoiser-optimizer.safetensors", "denoiser-weights.safetensors",
        "random.safetensors", "state.json",
    ]  # fmt: skip
    for name in names:
        before = {file: file.read_bytes() for file in state.iterdir()}
        for content in pickles:
            (state / name).write_bytes(content)
            assert f"{state} cannot be read" in refused(folder, output)
            if name != "state.json":
                assert name in refused(folder, output)
                seal(state)
                assert f"{name} is not a valid safetensors file" in refused(folder, output)
            for file, own in before.items():
                file.write_bytes(own)
    assert not marker.exists()


def test_pickles_beside_a_state_are_not_looked_at(folder, output, finished, attack):
    pickles, marker = attack
    for name in PICKLES:
        (last_state(output) / name).write_bytes(pickles[1])
    train(output, folder, **GOES_ON)
    assert not marker.exists()
    assert losses(output) == losses(finished / "whole")


@pytest.mark.parametrize("remedy", ["delete", "restart"])
def test_a_state_of_an_earlier_version_is_refused_unopened(
    folder, output, finished, attack, remedy
):
    pickles, marker = attack
    state = last_state(output)
    for file in state.iterdir():
        file.unlink()
    save_file({"x": torch.zeros(1)}, state / "model.safetensors")
    (state / "position.json").write_text('{"step": 2}')
    for name in PICKLES:
        (state / name).write_bytes(pickles[1])
    said = refused(folder, output)
    assert "was written by an earlier version, which used pickles" in said
    assert f"or delete {output / 'checkpoints'} (or pass --restart) to start over" in said
    if remedy == "delete":
        shutil.rmtree(output / "checkpoints")
    train(output, folder, restart=remedy == "restart", **GOES_ON)
    assert losses(output) == losses(finished / "whole")
    assert not marker.exists()


def test_damage_is_told_by_name_and_the_remedy_helps(folder, output, finished):
    state = last_state(output)
    for file in sorted(state.glob("*.safetensors")):
        before = file.read_bytes()
        file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert f"{file.name} is damaged: its SHA-256 is not the one in state.json" in refused(
            folder, output
        )
        file.write_bytes(before[:-1])
        assert f"{file.name} is missing or does not have its original size" in refused(
            folder, output
        )
        file.write_bytes(before)
    (state / "state.json").write_text((state / "state.json").read_text().replace("cpu", "cuda"))
    assert "Delete this folder; then the run resumes after step 1." in refused(folder, output)
    shutil.rmtree(state)
    train(output, folder, **GOES_ON)
    assert losses(output) == losses(finished / "whole")


DEEP = "[" * 100_000 + "]" * 100_000
BAD_INDEX = {
    "nothing": b"",
    "no JSON": b"{",
    "deep": DEEP.encode(),
    "deep in a key": b'{"format": ' + DEEP[:30_000].encode() + b"}",
    "huge number": b'{"step": ' + b"9" * 50_000 + b"}",
    "a list": b"[]",
    "latin-1": b'{"format": "\xe4"}',
    "long": b'{"format": "' + b"x" * 2**20 + b'"}',
}


def test_an_index_of_any_bytes_is_refused(folder, output):
    for name, content in BAD_INDEX.items():
        (last_state(output) / "state.json").write_bytes(content)
        assert "cannot be read" in refused(folder, output), name


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no such files")
def test_what_is_no_file_is_not_waited_for(folder, output):
    for name in ("state.json", "random.safetensors"):
        path = last_state(output) / name
        before = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        assert f"{name} is missing" in refused(folder, output)
        path.unlink()
        make_link(path, "/dev/zero")
        assert f"{name} is missing" in refused(folder, output)
        path.unlink()
        path.write_bytes(before)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "2"}, {"step": True}, {"step": -1}, {"step": 3}, {"step": 10**99}, {"step": None},
        {"ranks": []}, {"ranks": 1.0}, {"device": 7}, {"files": []}, {"files": {}},
        {"files": {"../random.safetensors": {"bytes": 1, "sha256": ""}}},
        {"files": {"random.safetensors": {"bytes": [], "sha256": ""}}},
        {"files": {"random.safetensors": None}}, {"format": "another"},
    ],
    ids=str,
)  # fmt: skip
def test_an_index_with_another_content_is_refused(output, change):
    state = last_state(output)
    write_index(state, json.loads((state / "state.json").read_text()) | change)
    checkpoints = Checkpoints(output / "checkpoints", keep=2)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.load_latest(state_of())


def changed(name, key, value):
    """A test's parameter: a tensor of a file that is another, or a function of what it was."""
    return pytest.param(name, key, value, id=f"{key} {str(value)[:24]}")


FIRST = "proj_out.weight"


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        changed("denoiser-weights", FIRST, None),
        changed("denoiser-weights", "another.weight", torch.zeros(1)),
        changed("denoiser-weights", FIRST, torch.zeros(2**20)),
        changed("denoiser-weights", FIRST, lambda old: old.half()),
        changed("denoiser-weights", FIRST, lambda old: old[0]),
        changed("denoiser-optimizer", f"exp_avg/{FIRST}", None),
        changed("denoiser-optimizer", f"exp_avg/{FIRST}", torch.zeros(3)),
        changed("denoiser-optimizer", "exp_avg/another", torch.zeros(3)),
        changed("denoiser-optimizer", f"step/{FIRST}", torch.tensor(-1.0)),
        changed("denoiser-optimizer", f"step/{FIRST}", torch.tensor(float("nan"))),
        changed("denoiser-optimizer", "learning_rate", lambda old: old * float("inf")),
        changed("denoiser-optimizer", "learning_rate", lambda old: old - 1),
        changed("average", "steps", torch.tensor(-1)),
        changed("average", FIRST, None),
        changed("random", "numpy", lambda old: old.index_fill(1, torch.tensor([624]), 625)),
        changed("random", "numpy", lambda old: old - 2**33),
        changed("random", "python", lambda old: old.index_fill(1, torch.tensor([624]), -1)),
        changed("random", "python_gauss", lambda old: old + float("nan")),
        changed("random", "torch", lambda old: old * 0),
        changed("random", "torch", lambda old: old[:, :-1]),
    ],
)
def test_a_file_of_another_content_is_refused(folder, output, name, key, value):
    """Though its hash is right: nothing is taken that does not fit the network or the run."""
    state = last_state(output)
    path = state / f"{name}.safetensors"
    tensors = load_file(path)
    new = value(tensors[key]) if callable(value) else value
    tensors |= {key: None if new is None else new.contiguous()}
    save_file({k: v for k, v in tensors.items() if v is not None}, path)
    seal(state)
    assert path.name in refused(folder, output)


def test_a_state_with_another_part_is_refused(folder, output):
    state = last_state(output)
    wanted = "this run has average, denoiser-optimizer, denoiser-weights"
    (state / "average.safetensors").unlink()
    seal(state)
    assert wanted in refused(folder, output)
    save_file({"x": torch.zeros(1)}, state / "other.safetensors")
    seal(state)
    assert wanted in refused(folder, output)


#: Trains, and is killed by the system before the n-th thing that it does in the folder of states.
TORN = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from easyanimate_core.training.config import read_config
from easyanimate_core.training.run import run_training

CHANGES = ("open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "shutil.rmtree")

def kill_before(number, states):
    seen = []
    def hook(event, arguments):
        if event in CHANGES and str(arguments[0]).startswith(states):
            seen.append(event)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

for path in map(Path, sys.argv[1:]):
    number = int(path.stem)
    child = os.fork()
    if not child:
        kill_before(number, f"{path.with_suffix('')}/checkpoints")
        run_training(read_config(path), report=lambda _: None)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, number
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_kill_while_a_state_is_written_leaves_whole_ones(folder, finished, tmp_path):
    """In the first one, before it has its name, and while the oldest of three is removed."""
    paths = [tmp_path / f"{number}.yaml" for number in (9, 19, 53, 61, 63)]
    for path in paths:
        path.write_text(yaml.safe_dump(settings(path.with_suffix(""), folder, **GOES_ON)))
    subprocess.run([sys.executable, "-c", TORN, *map(str, paths)], cwd=ROOT, check=True)
    kept = []
    for output in (path.with_suffix("") for path in paths):
        states = Checkpoints(output / "checkpoints", keep=2)
        kept.append(states.steps())
        train(output, folder, **GOES_ON)
        assert losses(output) == losses(finished / "whole")
        assert sorted(state.name for state in states.folder.iterdir())[-2:] == [
            "step-00000002", "step-00000003",
        ]  # fmt: skip
        assert not list(states.folder.glob(".*"))
    assert kept == [[], [], [1, 2], [1, 2, 3], [2, 3]]


def test_a_full_disk_leaves_the_state_before_and_the_run_goes_on(folder, output, finished):
    """A limit on the size of files in the disk's place: it, too, is met in the middle of one."""
    resource = pytest.importorskip("resource")
    own = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = {file: file.read_bytes() for file in sorted((output / "checkpoints").rglob("*.*"))}
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, own[1]))
    try:
        with pytest.raises(MediaError) as error:
            train(output, folder, **GOES_ON)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, own)
    said = str(error.value)
    assert f"step-00000003 does not fit: {os.strerror(errno.EFBIG)}" in said
    assert "Once that is fixed, start it again: the run resumes after step 2." in said
    assert before == {
        file: file.read_bytes() for file in sorted((output / "checkpoints").rglob("*.*"))
    }
    train(output, folder, **GOES_ON)
    assert losses(output) == losses(finished / "whole")


def test_what_libraries_draw_goes_on(tmp_path):
    def draw():
        of_numpy = np.random.mtrand._rand  # everybody's
        return [random.random(), random.gauss(0, 1), of_numpy.rand(), of_numpy.randn(),
                *torch.rand(2).tolist()]  # fmt: skip

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    draw()  # an odd count of normal numbers: one is left over
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state_of(), 1)
    wanted = draw()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(6)
    checkpoints.load_latest(state_of())
    assert draw() == wanted


def test_the_scale_of_half_precision_goes_on(tmp_path):
    """accelerate makes a scaler on a graphics card alone."""
    state, checkpoints = state_of(), Checkpoints(tmp_path, keep=1)
    state.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=2)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(3):
        state.accelerator.scaler.scale(weight.sum()).backward()
        state.accelerator.scaler.step(optimizer)
        state.accelerator.scaler.update()
    checkpoints.save(state, 1)
    other = state_of()
    other.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    checkpoints.load_latest(other)
    assert other.accelerator.scaler.state_dict() == state.accelerator.scaler.state_dict()
    assert other.accelerator.scaler.get_scale() == 4.0


@pytest.mark.slow
def test_a_network_that_has_learnt_nothing_yet_goes_on(folder, tmp_path):
    """A discriminator that judges from the third step: its optimiser keeps nothing before."""
    judged = {
        "task": "vae",
        "vae_objective": {
            "adversarial": 0.1, "adversarial_start": 2, "discriminator_channels": 8,
        },
        "data__clips_per_batch": 1, "run__save_every": 1, "validation__videos": 0,
    }  # fmt: skip
    train(tmp_path / "whole", folder, **judged, run__steps=4)
    for steps in (1, 3, 4):
        train(tmp_path / "run", folder, **judged, run__steps=steps)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    ours, whole = (
        load_file(next((tmp_path / name / "result").rglob("*.safetensors")))
        for name in ("run", "whole")
    )
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


class Half(torch.nn.Module):
    """Its first layer is not used, so an optimiser keeps nothing of it."""

    def __init__(self):
        super().__init__()
        self.unused, self.used = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.used(x)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RMSprop])
def test_what_an_optimiser_keeps_is_kept_by_name(tmp_path, kind):
    """Not by its place among those with a state, which a parameter without one would shift."""
    states = []
    for steps in (3, 0):
        state = state_of()
        network = Half()
        network, optimizer = state.accelerator.prepare(network, kind(network.parameters(), 0.1))
        states.append(replace(state, networks={"n": network}, optimizers={"n": optimizer}))
        for _ in range(steps):
            network(torch.randn(2, 3)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    Checkpoints(tmp_path, keep=1).save(states[0], 1)
    Checkpoints(tmp_path, keep=1).load_latest(states[1])
    written, taken = (state.optimizers["n"].optimizer.state_dict() for state in states)
    assert written["param_groups"] == taken["param_groups"]
    assert written["state"].keys() == taken["state"].keys()
    for number, kept in written["state"].items():
        assert all(torch.equal(kept[key], taken["state"][number][key]) for key in kept)
    one, other = (state.networks["n"].state_dict() for state in states)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_average_is_kept_by_name(tmp_path):
    networks = [torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)]
    averages = [Average(dict(network.named_parameters()), 0.9) for network in networks]
    averages[0].step()
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state_of(average=averages[0]), 1)
    own = networks[1].weight.clone()
    checkpoints.load_latest(state_of(average=averages[1]))
    with averages[1].in_place():
        assert torch.equal(networks[1].weight, networks[0].weight)
    assert torch.equal(networks[1].weight, own)


@pytest.mark.parametrize(
    "line", ['{"loss": 1}', '{"step": "1"}', '{"step": 1, "loss": "a"}', "[1]", "{", DEEP], ids=len
)
def test_a_log_of_other_rows_is_refused_and_can_be_deleted(folder, output, line):
    log = output / "log.jsonl"
    log.write_text(log.read_text() + line + "\n")
    assert f"{log}, line 3" in refused(folder, output)
    log.unlink()
    train(output, folder, **GOES_ON)
    assert list(losses(output)) == [3]
