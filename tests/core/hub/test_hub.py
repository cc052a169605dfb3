"""Downloads from a hub on this machine: what is fetched, resumed, checked and refused."""

import os
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from easyanimate_core.errors import DownloadError, InputError
from easyanimate_core.files import moving
from easyanimate_core.hub import (
    LORAS,
    MODELS,
    HuggingFace,
    ModelScope,
    download,
    find_lora,
    find_missing,
    find_model,
    find_places,
    how_to_install,
    install_command,
    model_files,
    model_state,
    named_files,
    published,
    transfer,
)
from tests.emulation import imitated
from tests.emulation.scanner import first_calls_fail, opened_alone
from tests.emulation.windows import emulated
from tests.hub_server import COMMIT, files_of, hub_of

NAME = "EasyAnimateV5.1-7b-zh-InP"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz012345"
#: What is kept of a connection that ends early is whole chunks.
CHUNK = transfer._CHUNK
READ = {
    WEIGHTS: bytes(range(256)) * 8192,  # 2 MiB: several chunks
    "model_index.json": b"{}\n",
    "scheduler/scheduler_config.json": b'{"a": 1}\n',
    "text_encoder/model.safetensors": b"text" * 5000,
    "tokenizer/merges.txt": b"",
    "tokenizer/spiece.model": b"spiece" * 99,
    "transformer/config.json": b'{"in_channels": 33}\n',
    "vae/diffusion_pytorch_model.safetensors": b"vae" * 7000,
}
LEFT = {".gitattributes": b"*", "README.md": b"# x", "a.png": b"png", "vae/model.bin": b"pickle"}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(transfer, "_WAITS", (0.01, 0.01))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    repositories = {f"{owner}/{NAME}": {**READ, **LEFT} for owner in ("alibaba-pai", "PAI")}
    with hub_of(repositories) as server:
        yield server


@pytest.fixture(params=["huggingface", "modelscope"])
def repository(request, hub):
    """`repository()` asks the hub anew."""
    if request.param == "modelscope":
        pytest.importorskip("modelscope_hub", reason="pip install modelscope")
        return lambda: ModelScope(hub.url).open(f"PAI/{NAME}")
    return lambda: HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")


def run(repository, folder, only=(), progress=lambda *_: None):
    """Download; what was said."""
    said = []
    files = model_files(repository.files, only)
    download(find_missing(repository, folder, files), progress, said.append)
    return said


# Whole downloads, from both hubs


def test_what_the_pack_reads_is_fetched(repository, tmp_path):
    steps = []
    run(repository(), tmp_path, progress=lambda *step: steps.append(step))
    assert files_of(tmp_path) == READ
    assert not list(tmp_path.rglob("*.part"))
    total = sum(map(len, READ.values()))
    assert steps[-1] == ("download", total, total)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)


def test_only_some_parts(repository, tmp_path):
    run(repository(), tmp_path, ["vae", "scheduler"])
    assert {path.split("/")[0] for path in files_of(tmp_path)} == {"vae", "scheduler"}
    with pytest.raises(InputError, match=r"no part 'unet'; the parts are scheduler, text_encoder"):
        run(repository(), tmp_path, ["unet"])


def test_a_second_run_reads_and_fetches_nothing(hub, repository, tmp_path):
    run(repository(), tmp_path)
    hub.requests.clear()
    steps = []
    assert run(repository(), tmp_path, progress=lambda *step: steps.append(step)) == []
    assert len(hub.requests) == 1  # the listing
    assert steps == []


def test_files_that_came_another_way_are_checked_once(hub, repository, tmp_path):
    for path, content in READ.items():
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / WEIGHTS).write_bytes(READ[WEIGHTS][::-1])  # of the right size
    steps = []
    said = run(repository(), tmp_path, progress=lambda *step: steps.append(step))
    assert f"{WEIGHTS} is damaged, or from another revision of the repository: removed." in said
    assert files_of(tmp_path) == READ
    stages = Counter(stage for stage, _, _ in steps)
    assert stages["verify"] >= len(READ) - 1
    assert sum("FilePath" in r.path or "resolve" in r.path for r in hub.requests) <= 2
    steps.clear()
    run(repository(), tmp_path, progress=lambda *step: steps.append(step))
    assert steps == []


def test_a_changed_file_is_noticed_later(repository, tmp_path):
    run(repository(), tmp_path)
    changed = tmp_path / "vae/diffusion_pytorch_model.safetensors"
    before = changed.stat()
    changed.write_bytes(changed.read_bytes()[::-1])
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    said = run(repository(), tmp_path)
    assert said[0].startswith("vae/diffusion_pytorch_model.safetensors is damaged")
    assert files_of(tmp_path) == READ


# Interruptions


def test_a_dropped_connection_is_resumed_in_the_same_run(hub, repository, tmp_path):
    hub.faults.drop[WEIGHTS] = [CHUNK, 0, 2 * CHUNK]
    run(repository(), tmp_path)
    assert files_of(tmp_path) == READ
    ranges = [r.headers.get("range") for r in hub.asked(WEIGHTS)]
    assert ranges == [None, *(f"bytes={n * CHUNK}-" for n in (1, 1, 3))]


def test_a_later_run_resumes(hub, repository, tmp_path):
    hub.faults.drop[WEIGHTS] = [2 * CHUNK, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"cannot be reached|keeps closing") as error:
        run(repository(), tmp_path)
    assert "the same command resumes" in str(error.value)
    assert WEIGHTS not in files_of(tmp_path)
    (part,) = tmp_path.rglob("*.part")
    assert part.read_bytes() == READ[WEIGHTS][: 2 * CHUNK]
    wanted = find_missing(repository(), tmp_path, model_files(repository().files))
    assert wanted.to_fetch == len(READ[WEIGHTS]) - 2 * CHUNK  # the others came before
    hub.requests.clear()
    run(repository(), tmp_path)
    assert [r.headers.get("range") for r in hub.asked(WEIGHTS)] == [f"bytes={2 * CHUNK}-"]
    assert files_of(tmp_path) == READ


def test_a_cancelled_run_resumes(hub, repository, tmp_path):
    def cancel(_, done, total):
        if done > total - len(READ[WEIGHTS]) + 900_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(repository(), tmp_path, progress=cancel)
    (part,) = tmp_path.rglob("*.part")
    there = part.stat().st_size
    assert 900_000 < there < len(READ[WEIGHTS])
    hub.requests.clear()
    run(repository(), tmp_path)
    assert [r.headers.get("range") for r in hub.asked(WEIGHTS)] == [f"bytes={there}-"]
    assert files_of(tmp_path) == READ


def test_a_host_without_ranges_begins_anew(hub, repository, tmp_path):
    hub.faults.no_ranges = True
    hub.faults.drop[WEIGHTS] = [CHUNK]
    steps = []
    run(repository(), tmp_path, progress=lambda *step: steps.append(step))
    assert files_of(tmp_path) == READ
    assert steps[-1][1] == steps[-1][2]


def test_a_busy_host_is_asked_again(hub, repository, tmp_path):
    hub.faults.status[WEIGHTS] = [503, 429]
    run(repository(), tmp_path)
    assert files_of(tmp_path) == READ


def test_two_downloads_into_one_folder(repository, tmp_path):
    from filelock import FileLock

    lock = FileLock(tmp_path / ".easyanimate-download.lock")
    with lock, pytest.raises(DownloadError, match=r"Another download into .* is running"):
        run(repository(), tmp_path)


# Wrong content


def test_damaged_content_is_removed_told_and_fetched_once_more(hub, repository, tmp_path):
    hub.faults.damage.update([WEIGHTS, "transformer/config.json"])
    said = run(repository(), tmp_path)
    for path in (WEIGHTS, "transformer/config.json"):
        assert any(line.startswith(f"{path} arrived damaged") for line in said)
    assert files_of(tmp_path) == READ


def test_content_that_is_damaged_twice_is_refused(hub, repository, tmp_path):
    hub.faults.damage.update({WEIGHTS: 2})
    with pytest.raises(DownloadError, match=r"damaged: its hash is not the published one, twice"):
        run(repository(), tmp_path)
    assert WEIGHTS not in files_of(tmp_path)
    assert not list(tmp_path.rglob("*.part"))


def test_another_size_than_the_published_one(hub, repository, tmp_path):
    hub.faults.short.update({WEIGHTS: 1})
    published = len(READ[WEIGHTS])
    said = run(repository(), tmp_path)
    expected = f"has {published - 1} bytes on the host instead of the published {published}"
    assert any(expected in line for line in said)
    assert files_of(tmp_path) == READ
    (tmp_path / WEIGHTS).unlink()
    hub.faults.short.update({WEIGHTS: 2})
    with pytest.raises(DownloadError, match=rf"instead of the published {published}, twice"):
        run(repository(), tmp_path)
    assert WEIGHTS not in files_of(tmp_path)


def test_a_remainder_of_wrong_bytes_does_not_survive(hub, repository, tmp_path):
    hub.faults.drop[WEIGHTS] = [2 * CHUNK, 0, 0, 0]
    with pytest.raises(DownloadError):
        run(repository(), tmp_path)
    (part,) = tmp_path.rglob("*.part")
    part.write_bytes(b"\0" * 2 * CHUNK)
    assert any("arrived damaged" in line for line in run(repository(), tmp_path))
    assert files_of(tmp_path) == READ


@pytest.mark.parametrize("path", ["../up.json", "/etc/up.json", "C:\\up.json", "a/..\\..\\up.json"])
def test_a_path_that_leaves_the_folder_is_refused(hub, path):
    hub.repositories[f"alibaba-pai/{NAME}"][path] = b"{}"
    refused = r"lists a file .*, which (is not inside the repository|not every system can store)"
    with pytest.raises(DownloadError, match=refused):
        HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("transformer/nul.safetensors", "a device on Windows"),
        ("con/config.json", "a device on Windows"),
        ("AUX", "a device on Windows"),
        ("com1.json", "a device on Windows"),
        ("LPT\u00b3.txt", "a device on Windows"),
        ("what?.json", "Windows does not allow \\?"),
        ("config.json:hidden", "Windows does not allow :"),
        ("a*/b.json", "Windows does not allow \\*"),
        ("trailing./b.json", "Windows drops a dot"),
        ("trailing /b.json", "Windows drops a space"),
        ("tab\there.json", "invisible character U\\+0009"),
        ("gnp\u202egpj.json", "invisible character U\\+202E"),
        ("x" * 240 + ".json", "takes 245 bytes"),
        ("字" * 80 + ".json", "takes 245 bytes"),
    ],
)
def test_a_name_that_some_system_cannot_hold_is_refused(hub, repository, path, fault):
    for files in hub.repositories.values():
        files[path] = b"{}"
    with pytest.raises(DownloadError, match=f"which not every system can store: .*{fault}"):
        repository()


# The disk


def test_too_little_room_is_said_before_the_first_byte(hub, tmp_path):
    hub.faults.sizes[WEIGHTS] = 10**18
    with pytest.raises(
        DownloadError, match=r"needs 1000000000\.\d\d GB more, but the disk of"
    ) as e:
        run(HuggingFace(hub.url).open(f"alibaba-pai/{NAME}"), tmp_path)
    assert "Nothing was downloaded" in str(e.value)
    assert files_of(tmp_path) == {}
    assert not hub.asked(".json")


def test_a_disk_that_gets_full_keeps_what_has_arrived(hub, small_disk):
    def fill(_, done, total):
        if done > total - len(READ[WEIGHTS]) + 500_000 and not other.exists():
            other.write_bytes(b"x" * 1_500_000)

    other = small_disk / "other"
    opened = HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")
    with pytest.raises(DownloadError, match=r"The disk of .* is full \(.*the same command resumes"):
        run(opened, small_disk / "m", progress=fill)
    assert WEIGHTS not in files_of(small_disk / "m")
    with pytest.raises(
        DownloadError, match=r"needs [\d.]+ kB more, but the disk of .* has \d+ bytes free"
    ):
        run(opened, small_disk / "m")
    other.unlink()
    hub.requests.clear()
    run(opened, small_disk / "m")
    assert hub.asked(WEIGHTS)[0].headers["range"].startswith("bytes=")
    assert files_of(small_disk / "m") == READ


def test_a_disk_that_is_too_small(hub, small_disk):
    hub.repositories[f"alibaba-pai/{NAME}"][WEIGHTS] = b"x" * 5_000_000
    with pytest.raises(DownloadError, match="Nothing was downloaded"):
        run(HuggingFace(hub.url).open(f"alibaba-pai/{NAME}"), small_disk)


# Refusals


@pytest.mark.parametrize("status", [401, 403])
def test_no_access(hub, status, tmp_path):
    hub.faults.status["api"] = status
    with pytest.raises(DownloadError, match=rf"HTTP {status}.*log in with: hf auth login"):
        HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")
    hub.faults.status = {WEIGHTS: [status]}
    with pytest.raises(DownloadError, match=rf"resolve/{COMMIT}/{WEIGHTS} denies access"):
        run(HuggingFace(hub.url).open(f"alibaba-pai/{NAME}"), tmp_path)


def test_no_access_on_modelscope(hub):
    pytest.importorskip("modelscope_hub", reason="pip install modelscope")
    hub.faults.status["api"] = 403
    with pytest.raises(DownloadError, match=r"HTTP 403.*log in with: modelscope login"):
        ModelScope(hub.url).open(f"PAI/{NAME}")


@pytest.mark.parametrize("make", [HuggingFace, ModelScope])
def test_a_repository_that_does_not_exist(hub, make):
    if make is ModelScope:
        pytest.importorskip("modelscope_hub", reason="pip install modelscope")
    with pytest.raises(DownloadError, match=r"no/such does not exist \(HTTP 404\)"):
        make(hub.url).open("no/such")


def test_no_network(hub):
    hub.stop()
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:\d+ cannot be reached \(.*HF_ENDPOINT"):
        HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")


def test_a_missing_library_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    with pytest.raises(DownloadError, match=r"Install it with: .* -m pip install modelscope$"):
        ModelScope().open(f"PAI/{NAME}")


def test_a_file_that_has_gone(hub):
    files = HuggingFace(hub.url).open(f"alibaba-pai/{NAME}").files
    with pytest.raises(DownloadError, match=r"no longer has the file gone\.pth"):
        named_files(files, ["model_index.json", "gone.pth"])


# Tokens


def test_a_token_stays_with_the_hub(hub, tmp_path, monkeypatch, capfd):
    """It goes to no other host, and a password of ~/.netrc does not take its place."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    opened = HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")
    assert TOKEN not in repr(opened.address(WEIGHTS))
    run(opened, tmp_path / "m")
    sent = {host: [r for r in hub.requests if r.host == host] for host in ("hub", "cdn")}
    assert {r.headers.get("authorization") for r in sent["hub"]} == {f"Bearer {TOKEN}"}
    assert {r.path.split("/")[-1] for r in sent["cdn"]} == {
        path.split("/")[-1] for path in READ if path.endswith((".safetensors", ".model"))
    }
    assert all("authorization" not in r.headers and TOKEN not in str(r) for r in sent["cdn"])
    assert TOKEN not in "".join(capfd.readouterr())


# The zoo and the folders


def test_the_zoo_is_whole():
    assert len(MODELS) == 21
    assert [m.name for m in MODELS.values() if not m.seen] == [
        "EasyAnimateV5.1-7b-zh-Control-diffusers"
    ]
    for name, model in MODELS.items():
        assert model.repo("huggingface") == f"alibaba-pai/{name}"
        assert (model.layout == "diffusers") == (model.sources == ("huggingface",))
    assert MODELS["EasyAnimateV5-12b-zh-InP"].repo("modelscope") == "PAI/EasyAnimateV5-12b-zh-InP"
    assert MODELS[NAME].memory == "16 GB: 384x672x49, 24 GB: 768x1344x25, 40 GB: 768x1344x49"
    with pytest.raises(InputError, match="is not on modelscope; it is on huggingface"):
        MODELS["EasyAnimateV5.1-7b-zh-diffusers"].repo("modelscope")
    assert len(LORAS) == 4


def test_unknown_names_say_the_near_ones():
    with pytest.raises(InputError, match=rf"'easyanimatev5.1-7b-INP'.*Did you mean .*{NAME}"):
        find_model("easyanimatev5.1-7b-INP")
    with pytest.raises(InputError, match=r"Did you mean .*EasyAnimateV5-7b-zh-InP-MPS"):
        find_lora("V5-7b-InP-MPS.safetensors")
    assert find_lora("EasyAnimateV5-7b-zh-InP-MPS.safetensors").gigabytes == 1.12


def test_state_of_a_model(hub, tmp_path):
    model, folder = MODELS[NAME], tmp_path / NAME
    opened = HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")
    assert model_state(model, [tmp_path]) == "no"
    run(opened, folder, ["vae"])
    assert model_state(model, [tmp_path]) == "partly"
    run(opened, folder)
    assert model_state(model, [tmp_path / "other", tmp_path]) == "whole"
    (folder / WEIGHTS).unlink()
    assert model_state(model, [tmp_path]) == "partly"


def comfyui(folder, extra=""):
    pack = folder / "custom_nodes" / "pack"
    pack.mkdir(parents=True)
    (folder / "models").mkdir()
    if extra:
        (folder / "extra_model_paths.yaml").write_text(extra)
    return pack


def test_places(tmp_path):
    pack = comfyui(tmp_path / "comfy")
    places = find_places(pack, {})
    models = tmp_path / "comfy" / "models"
    assert places.folders("EasyAnimate") == [models / "EasyAnimate"]
    assert places.folders("loras") == [models / "loras"]
    assert find_places(tmp_path, {}).base is None
    linked = {"COMFYUI_FOLDERS_BASE_PATH": str(tmp_path / "comfy")}
    assert find_places(tmp_path / "elsewhere", linked).base == tmp_path / "comfy"


def test_places_of_extra_model_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("DISK", str(tmp_path / "disk"))
    extra = """
easyanimate:
    base_path: $DISK/models
    EasyAnimate: EasyAnimate
    loras: |
        a
        b
other:
    base_path: shared
    is_default: true
    EasyAnimate: EA
empty:
"""
    places = find_places(comfyui(tmp_path / "comfy", extra), {})
    models, disk = tmp_path / "comfy" / "models", tmp_path / "disk" / "models"
    shared = tmp_path / "comfy" / "shared"
    assert places.folders("EasyAnimate") == [
        shared / "EA",
        disk / "EasyAnimate",
        models / "EasyAnimate",
    ]
    assert places.folders("loras") == [models / "loras", disk / "a", disk / "b"]
    assert places.folders("controlnet_aux") == [models / "controlnet_aux"]


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- b",
        "easyanimate: {EasyAnimate: [a]}",
        "a: text",
        "base_path: /models\nloras: x",
        "a:\n\tloras: x",
        'a:\n  base_path: "C:\\stable-diffusion"',
        "a: {loras: !!binary aGk=}",
        "a: &a [*a]",
        "a: {base_path: 5}",
        "a: {loras: 2024-01-01, base_path: [x]}",
    ],
)
def test_a_broken_file_of_extra_paths_is_told(tmp_path, text):
    places = find_places(comfyui(tmp_path, text), {})
    assert "extra_model_paths.yaml cannot be read" in places.problem
    assert places.folders("EasyAnimate") == [Path(tmp_path, "models", "EasyAnimate")]


# Files that another program holds, as Windows guards them


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(moving, "_WAITS", (0.01,))
    with emulated():
        yield


@imitated
@pytest.mark.usefixtures("windows")
def test_a_first_refusal_changes_nothing_of_a_download(hub, tmp_path):
    repository = HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")
    with first_calls_fail() as refused:
        said = run(repository, tmp_path)
    assert len(refused) > len(READ)
    assert files_of(tmp_path) == READ
    assert not [line for line in said if "holds" in line]
    hub.requests.clear()
    assert run(repository, tmp_path) == []


@imitated
@pytest.mark.usefixtures("windows")
def test_what_cannot_take_its_place_is_not_fetched_again(hub, tmp_path):
    """As a file of another state that ComfyUI uses; the others come all the same."""
    held = tmp_path / WEIGHTS
    held.parent.mkdir()
    held.write_bytes(b"older")
    repository = HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")
    said = []
    files = model_files(repository.files)
    told = r"cannot be replaced: .*Close it and run .*; the downloaded file is kept"
    with held.open(), pytest.raises(DownloadError, match=told):
        download(find_missing(repository, tmp_path, files), lambda *_: None, said.append)
    assert f"{WEIGHTS} is held by another program: trying again at the end." in said
    assert {**files_of(tmp_path), WEIGHTS: READ[WEIGHTS]}.items() >= READ.items()
    assert held.read_bytes() == b"older"
    hub.requests.clear()
    run(repository, tmp_path)
    assert not hub.requests
    assert files_of(tmp_path) == READ


@imitated
@pytest.mark.usefixtures("windows")
def test_a_damaged_file_in_use_is_told(hub, tmp_path):
    repository = HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")
    run(repository, tmp_path)
    (tmp_path / WEIGHTS).write_bytes(READ[WEIGHTS][::-1])
    with (
        (tmp_path / WEIGHTS).open(),
        pytest.raises(DownloadError, match="close it; the same command resumes"),
    ):
        run(repository, tmp_path)


@imitated
@pytest.mark.usefixtures("windows")
def test_a_record_that_is_held_stops_no_download(hub, tmp_path):
    repository = HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")
    run(repository, tmp_path, ["vae"])
    with (tmp_path / ".easyanimate-download.json").open():
        run(repository, tmp_path)
    assert files_of(tmp_path) == READ


@imitated
@pytest.mark.usefixtures("windows")
def test_a_scanner_that_holds_what_has_just_come_costs_nothing_of_it(hub, tmp_path):
    """Large files reach 100 % and are looked at then, for longer than anybody waits."""
    repository = HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")
    scanned = []

    def look(stage, done, total):
        if (stage, done) == ("download", total):  # the largest comes last
            (part,) = tmp_path.rglob("*.part")
            scanned.append(part.open("rb"))

    with pytest.raises(DownloadError, match="the downloaded file is kept"):
        run(repository, tmp_path, progress=look)
    scanned[0].close()
    hub.requests.clear()
    run(repository, tmp_path)
    assert not hub.requests
    assert files_of(tmp_path) == READ


@imitated
@pytest.mark.usefixtures("windows")
def test_a_record_that_a_program_has_for_itself_stops_no_download(hub, tmp_path):
    repository = HuggingFace(hub.url).open(f"alibaba-pai/{NAME}")
    with opened_alone(tmp_path / ".easyanimate-download.new"):
        run(repository, tmp_path)
    assert files_of(tmp_path) == READ


# How to get a model


def test_the_command_downloads_what_it_names(hub, tmp_path):
    command = install_command(NAME, tmp_path / "models")
    done = subprocess.run(
        shlex.split(command),
        env={**os.environ, "HF_ENDPOINT": hub.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models" / NAME / WEIGHTS).read_bytes() == READ[WEIGHTS]


def test_how_to_install():
    shown = how_to_install(NAME, command=f"python install.py {NAME}", node=True)
    assert shown == f"Run python install.py {NAME} (30 GB), or the node EasyAnimate Download Model"
    lora = "EasyAnimateV5-7b-zh-InP-MPS"
    assert how_to_install(lora, node=True) == f"Run {install_command(lora)} (1.12 GB)"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (NAME, NAME),
        (f"videos\\{NAME.lower()}\\", NAME),
        ("a/EasyAnimateV5-7b-zh-InP-MPS.safetensors", "EasyAnimateV5-7b-zh-InP-MPS"),
        (f"{NAME}-mine", None),
        ("", None),
    ],
)
def test_published(text, name):
    found = published(text)
    assert (found and found.name) == name
