"""install.py as ComfyUI-Manager and as people run it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from easyanimate_core.cli.main import main
from easyanimate_core.files.packages import pip_command
from easyanimate_core.preprocess import KINDS, find_weights
from tests.hub_server import files_of, hub_of

ROOT = Path(__file__).parents[2]
NAME = "EasyAnimateV5.1-7b-zh-InP"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz012345"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
FILES = {
    WEIGHTS: bytes(range(256)) * 8192,
    "transformer/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": b"vae" * 7000,
    "README.md": b"# x",
}
HEAVY = {"torch", "numpy", "transformers", "diffusers", "huggingface_hub", "modelscope", "requests"}
LORA = "EasyAnimateV5-7b-zh-InP-MPS.safetensors"
ANNOTATORS = {file.name: file.name.encode() for kind in KINDS.values() for file in kind.files}


@pytest.fixture
def pack(tmp_path):
    """The pack in a ComfyUI's folder."""
    folder = tmp_path / "ComfyUI" / "custom_nodes" / "ComfyUI-EasyAnimate"
    folder.mkdir(parents=True)
    (tmp_path / "ComfyUI" / "models").mkdir()
    for name in ("install.py", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "easyanimate_core", folder / "easyanimate_core", ignore=ignored)
    return folder


@pytest.fixture
def hub():
    names = ("lllyasviel/Annotators", "yzd-v/DWPose", "Intel/zoedepth-nyu-kitti")
    depth = [f"depth-anything/Depth-Anything-V2-{size}-hf" for size in ("Small", "Base", "Large")]
    repositories = {
        f"alibaba-pai/{NAME}": FILES,
        f"PAI/{NAME}": FILES,
        "alibaba-pai/EasyAnimateV5-Reward-LoRAs": {LORA: b"lora", "b.safetensors": b"b"},
        **dict.fromkeys([*names, *depth], ANNOTATORS),
    }
    with hub_of(repositories) as server:
        yield server


def environment(tmp_path, hub=None, **more):
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("HF_", "COMFYUI", "MODELSCOPE"))
    }
    kept |= {"HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "home" / "hf")}
    if hub is not None:
        kept |= {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
    return {**kept, "PYTHONIOENCODING": "utf-8", **more}


def install(pack, *arguments, options=(), **env):
    return subprocess.run(
        [sys.executable, *options, "install.py", *arguments],
        cwd=pack,
        env=env or None,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


# Without arguments, as ComfyUI-Manager runs it


def test_folders_are_made_and_nothing_else_happens(pack, tmp_path):
    models = pack.parents[1] / "models"
    for _ in range(2):
        done = install(pack, **environment(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
        assert f"folder   {models / 'EasyAnimate'}" in done.stdout
    made = {path.name for path in models.iterdir()}
    assert made == {"EasyAnimate", "controlnet_aux"}
    assert not any(files_of(models))


def test_it_is_quick_and_imports_nothing_heavy(pack, tmp_path):
    times = []
    for _ in range(3):
        started = time.perf_counter()
        done = install(pack, options=("-X", "importtime"), **environment(tmp_path))
        times.append(time.perf_counter() - started)
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "easyanimate_core" in imported
    assert imported & HEAVY == set()
    assert min(times) < 1


def test_missing_packages_are_named_with_the_command(pack, tmp_path):
    requirements = "# c\ndiffusers>=999.1\nno-such-package>=2\ncontrolnet-aux>=0.0.1\n"
    (pack / "requirements.txt").write_text(requirements)
    done = install(pack, **environment(tmp_path))
    assert re.search(r"missing: diffusers 999\.1 or newer; \d+\.\d+\S* is installed", done.stdout)
    assert "missing: no-such-package 2 or newer; none is installed" in done.stdout
    assert pip_command("diffusers>=999.1", "no-such-package>=2") in done.stdout
    assert "package  controlnet-aux 0." in done.stdout
    assert done.returncode == 0


def test_folders_of_extra_model_paths(pack, tmp_path):
    comfyui = pack.parents[1]
    file = comfyui / "extra_model_paths.yaml"
    file.write_text(f"easyanimate:\n    base_path: {tmp_path / 'disk'}\n    EasyAnimate: EA\n")
    done = install(pack, **environment(tmp_path))
    assert f"missing: the folder {tmp_path / 'disk' / 'EA'} from extra_model_paths" in done.stdout
    assert not (tmp_path / "disk").exists()  # the disk may be another one that is not there now
    (tmp_path / "disk" / "EA").mkdir(parents=True)
    assert f"folder   {tmp_path / 'disk' / 'EA'}" in install(pack, **environment(tmp_path)).stdout
    file.write_text("a: [")
    done = install(pack, **environment(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "extra_model_paths.yaml cannot be read" in done.stdout


def break_models(pack):
    (pack.parents[1] / "models").rmdir()
    (pack.parents[1] / "models").write_text("no folder")
    (pack.parents[1] / "main.py").touch()


def break_core(pack):
    (pack / "easyanimate_core" / "hub" / "places.py").write_text("def (")


def break_requirements(pack):
    (pack / "requirements.txt").unlink()


@pytest.mark.parametrize("damage", [break_models, break_core, break_requirements])
def test_a_broken_folder_is_no_failed_installation(pack, tmp_path, damage):
    damage(pack)
    done = install(pack, **environment(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"could not be checked: \w+Error: |cannot be created: ", done.stdout)


def test_outside_comfyui(tmp_path):
    done = install(ROOT, **environment(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "is not in a ComfyUI's custom_nodes: no folder was created" in done.stdout
    done = install(ROOT, NAME, **environment(tmp_path))
    assert done.returncode == 2
    assert "set the folder with --to DIR" in done.stderr


# With names


def test_a_model_goes_where_comfyui_looks(pack, tmp_path, hub):
    done = install(pack, NAME, "--only", "vae", **environment(tmp_path, hub))
    assert done.returncode == 0, done.stderr
    folder = pack.parents[1] / "models" / "EasyAnimate" / NAME
    assert files_of(folder) == {path: FILES[path] for path in FILES if path.startswith("vae/")}
    done = install(pack, "--list", **environment(tmp_path))
    (row,) = re.findall(rf"^{NAME} .*$", done.stdout, re.MULTILINE)
    assert row.split()[1:8] == ["V5.1", "7B", "InP", "30", "GB", "Apache-2.0", "partly"]
    assert "16 GB: 384x672x49" in row
    assert done.stdout.count(" GB  installed: no") == 4  # the LoRAs


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_tokens_are_used_and_never_printed(pack, tmp_path, hub, source):
    if source == "modelscope":
        pytest.importorskip("modelscope_hub", reason="pip install modelscope")
    env = environment(tmp_path, hub, HF_TOKEN=TOKEN, MODELSCOPE_API_TOKEN=TOKEN)
    to = tmp_path / "to"
    done = install(pack, NAME, "--source", source, "--to", str(to), **env)
    assert done.returncode == 0, done.stderr
    assert "to fetch: 2.12 MB, free: " in done.stdout
    assert files_of(to / NAME) == {p: c for p, c in FILES.items() if p != "README.md"}
    fetched = [r for r in hub.requests if "resolve" in r.path or "FilePath" in r.path]
    tokens = {host: {r.headers.get("authorization") for r in fetched if r.host == host}
              for host in ("hub", "cdn")}  # fmt: skip
    assert tokens == {"hub": {f"Bearer {TOKEN}"}, "cdn": {None}}
    assert not [r for r in hub.requests if r.host == "cdn" and TOKEN in str(r)]
    assert TOKEN not in done.stdout + done.stderr
    hub.faults.status["api"] = 403
    done = install(pack, NAME, "--source", source, "--to", str(to), **env)
    assert done.returncode == 2
    assert "denies access (HTTP 403)" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_the_same_command_resumes(pack, tmp_path, hub, how):
    hub.faults.stall[WEIGHTS] = 1_000_000
    folder = tmp_path / "to" / NAME / "transformer"
    process = subprocess.Popen(
        [sys.executable, "install.py", NAME, "--to", str(tmp_path / "to")],
        cwd=pack,
        env=environment(tmp_path, hub),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        # A shell's background jobs, and so their children, ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        parts = list(folder.glob(".*.part")) if folder.is_dir() else []
        if parts and parts[0].stat().st_size >= 700_000:
            break
        time.sleep(0.05)
    process.send_signal(how)
    _, said = process.communicate(timeout=30)
    if how != signal.SIGKILL:
        assert process.returncode == 128 + how
        assert said.endswith("Stopped. The same command resumes.\n")
    there = parts[0].stat().st_size
    assert not (tmp_path / "to" / NAME / WEIGHTS).exists()
    hub.requests.clear()
    done = install(pack, NAME, "--to", str(tmp_path / "to"), **environment(tmp_path, hub))
    assert done.returncode == 0, done.stderr
    assert [r.headers.get("range") for r in hub.asked(WEIGHTS)] == [f"bytes={there}-"]
    assert (tmp_path / "to" / NAME / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_loras(pack, tmp_path, hub):
    loras = pack.parents[1] / "models" / "loras"
    done = install(pack, "--loras", LORA, **environment(tmp_path, hub))
    assert done.returncode == 0, done.stderr
    assert files_of(loras) == {LORA: b"lora"}
    done = install(pack, "--loras", **environment(tmp_path, hub))
    assert done.returncode == 2
    assert "no longer has the file EasyAnimateV5-12b-zh-InP-HPS2.1.safetensors" in done.stderr


def test_annotators_go_where_the_detectors_look(pack, tmp_path, hub):
    kinds = "canny,hed,scribble_hed,openpose,depth_anything_v2:Large"
    done = install(pack, "--annotators", kinds, **environment(tmp_path, hub))
    assert done.returncode == 0, done.stderr
    assert "canny needs no weights." in done.stdout
    folder = pack.parents[1] / "models" / "controlnet_aux"
    one, depth = "lllyasviel/Annotators", "depth-anything/Depth-Anything-V2-Large-hf"
    names = ["ControlNetHED.pth", "body_pose_model.pth", "facenet.pth", "hand_pose_model.pth"]
    wanted = {f"{one}/{n}" for n in names} | {
        f"{depth}/{n}" for n in ("config.json", "model.safetensors")
    }
    assert set(files_of(folder)) == wanted
    for kind in (KINDS["hed"], KINDS["depth_anything_v2"]):
        options = kind.complete({"size": "Large"} if kind.options else {})
        assert find_weights(kind, options, [folder])


def test_all_annotators(pack, tmp_path, hub):
    done = install(
        pack, "--annotators", "all", "--to", str(tmp_path / "a"), **environment(tmp_path, hub)
    )
    assert done.returncode == 0, done.stderr
    wanted = {f"{f.repo}/{f.name}" for k in KINDS.values() for f in k.files_for()}
    assert set(files_of(tmp_path / "a")) == wanted
    assert "depth-anything/Depth-Anything-V2-Small-hf/model.safetensors" in wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["EasyAnimateV5.1-7b-InP"],
            r"No model is called .* Did you mean EasyAnimateV5\.1-7b-zh-InP",
        ),
        (["--loras", "HPS2.1"], r"No LoRA is called 'HPS2\.1'"),
        (["--annotators", "edges"], r"The kind 'edges' is unknown; available are canny, "),
        (["--annotators", "hed:Large"], r"hed has only one network"),
        (["--annotators", "depth_anything_v2:Giant"], r"size is 'Giant'; it must be Small or"),
        (
            ["--annotators", "hed", "--source", "modelscope"],
            r"weights are only on huggingface; omit --source",
        ),
        (["--only", "vae"], r"--only is for models; add the name"),
        (["--source", "modelscope"], r"Nothing to download"),
        ([f"{NAME}-diffusers", "--source", "modelscope"], r"is not on modelscope"),
    ],
)
def test_refusals(tmp_path, capsys, arguments, message):
    assert main(["download", *arguments, "--to", str(tmp_path)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_presumed_repository_is_named_as_such(pack, tmp_path, hub):
    name = "EasyAnimateV5.1-7b-zh-Control-diffusers"
    done = install(pack, name, "--to", str(tmp_path), **environment(tmp_path, hub))
    assert done.returncode == 2
    assert "does not exist (HTTP 404)" in done.stderr
    assert "only presumed from its siblings" in done.stderr
