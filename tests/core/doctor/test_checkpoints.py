"""Weights that are damaged in the ways of downloads, and folders that lead nowhere."""

import hashlib
import json
import os
import sys

import pytest

from easyanimate_core.doctor import Folders, State
from easyanimate_core.doctor.checkpoints import find_checkpoints, findings, known_hashes
from easyanimate_core.hub.places import CHECKPOINTS
from easyanimate_core.models.specs import Head
from easyanimate_core.progress import silent
from tests.factories import V5, V5_1

NAME = "EasyAnimateV5.1-7b-zh-InP"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 123456\n" % (b"0" * 64)


@pytest.fixture
def folder(checkpoint_copy):
    return checkpoint_copy(V5_1, Head.INPAINT, f"models/{NAME}")


def examined(root, *, hashes=False, progress=silent, **others):
    folders = Folders({CHECKPOINTS: [root], **others})
    return [*findings(find_checkpoints(folders), folders, hashes=hashes, progress=progress)]


def faults(root, **how):
    return [finding for finding in examined(root, **how) if finding.state is State.WRONG]


def weights(folder, part="transformer"):
    return next((folder / part).glob("*.safetensors"))


@pytest.mark.parametrize("version", [V5, V5_1])
def test_a_whole_checkpoint(checkpoint, version):
    folder = checkpoint(version, Head.T2V)
    found = examined(folder)
    assert [finding.state for finding in found] == [State.OK, State.OK]
    assert f"{folder.name}: {version.value} " in found[0].text
    assert "whole by their headers" in found[0].text
    assert "no hash is known" in found[1].text


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def giant_header(file):
    file.write_bytes((2**62).to_bytes(8, "little") + b"{" * 100)


def as_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "its download was interrupted: download it again"),
        (lambda file: file.write_bytes(b""), "not a valid safetensors file"),
        (giant_header, "its header claims 4611686018427387904 bytes"),
        (lambda file: file.write_bytes(POINTER), "is a git-lfs pointer to a file of 123,456 bytes"),
        (lambda file: file.write_bytes(b"<!DOCTYPE html><p>"), "is a web page, not the file"),
        (lambda file: file.with_name(f"{file.name}.aria2").touch(), "aria2 keeps"),
        (lambda file: file.unlink(), "has no .safetensors file"),
        (as_folder, "has no .safetensors file"),
    ],
)
def test_a_damaged_part_is_told_with_the_command_that_repairs_it(folder, damage, said):
    damage(weights(folder))
    (fault,) = faults(folder.parent)
    assert fault.text.startswith(f"{NAME}/transformer: ")
    assert said in fault.text
    assert f"download {NAME}" in fault.remedy


def test_every_damaged_part_is_told(folder):
    cut(weights(folder, "vae"))
    weights(folder, "text_encoder").write_bytes(POINTER)
    parts = [fault.text.partition(":")[0] for fault in faults(folder.parent)]
    assert parts == [f"{NAME}/vae", f"{NAME}/text_encoder"]


def test_a_missing_tokenizer_and_a_config_of_another_model(folder):
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    (fault,) = faults(folder.parent)
    assert "tokenizer" in fault.text


def record(folder, **entries):
    content = {"wanted": {}, "checked": {}, **entries}
    (folder / ".easyanimate-download.json").write_text(json.dumps(content), encoding="utf-8")


def test_an_unfinished_download_by_its_record(folder):
    record(folder, wanted={"transformer/second.safetensors": 1000})
    (fault,) = faults(folder.parent)
    assert "1 of 1 files of its download are missing or unfinished" in fault.text
    assert f"download {NAME}" in fault.remedy


def test_hashes_that_downloads_have_recorded(folder):
    file = weights(folder)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    path = file.relative_to(folder).as_posix()
    record(folder, checked={path: [digest, 1, 1], "../../etc/passwd": [digest, 1, 1]})
    vae = weights(folder, "vae")
    kept = folder / ".cache" / "huggingface" / "download" / "vae"
    kept.mkdir(parents=True)
    digest = hashlib.sha256(vae.read_bytes()).hexdigest()
    (kept / f"{vae.name}.metadata").write_text(f"commit\n{digest}\n1700000000.0\n")
    assert known_hashes(folder).keys() == {path, f"vae/{vae.name}"}
    assert "2 files are known" in examined(folder.parent)[-1].text

    calls = []
    said = examined(folder.parent, hashes=True, progress=lambda *call: calls.append(call))
    assert "2 files have their published hashes" in said[-1].text
    assert calls[-1][1] == calls[-1][2]

    content = bytearray(vae.read_bytes())
    content[-1] ^= 1
    vae.write_bytes(content)
    assert faults(folder.parent) == []
    (fault,) = faults(folder.parent, hashes=True)
    assert f"1 of 2 files do not have their published hash: vae/{vae.name}" in fault.text


def test_single_files_of_this_model_in_other_folders(tmp_path):
    loras = tmp_path / "loras"
    loras.mkdir()
    (loras / "EasyAnimateV5-x.safetensors").write_bytes(b"")
    (loras / "another.safetensors").write_bytes(b"")
    (fault,) = faults(tmp_path / "none", loras=[loras])
    assert "EasyAnimateV5-x.safetensors" in fault.text


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_loops_of_links_and_hostile_names_end(folder):
    root = folder.parent
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "self").symlink_to(root / "self")
    (root / os.fsdecode(b"\xff\x1b[31m")).mkdir()
    (root / "```").mkdir()
    found = examined(root)
    assert [finding.state for finding in found] == [State.OK, State.OK]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_folder_that_cannot_be_read(folder):
    (folder / "transformer").chmod(0)
    try:
        (fault,) = faults(folder.parent)
    finally:
        (folder / "transformer").chmod(0o700)
    assert "cannot be read" in fault.text
