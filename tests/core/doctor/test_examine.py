"""Sections that do not end each other, results that are wrong, and cancelling."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from easyanimate_core.cli.bars import ProgressBars
from easyanimate_core.cli.main import main
from easyanimate_core.doctor import Examination, Folders, Host, State, fine, is_page, parity, runs
from easyanimate_core.doctor.recordings import RECORDINGS
from easyanimate_core.models.transformer.kernel import scaled_dot_product
from easyanimate_core.progress import silent

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


def broken():
    yield fine("the first")
    raise OSError("a broken driver")


def test_a_section_that_fails_is_told_and_the_others_go_on():
    host = Host("ComfyUI", broken, scaled_dot_product, lambda _: None)
    sections = {s.title: s.findings for s in Examination(quick=True, host=host).sections()}
    assert [*sections] == [
        "Versions", "ComfyUI", "Device", "Attention", "Folders", "Weights", "Memory",
    ]  # fmt: skip
    first, last = sections["ComfyUI"]
    assert (first.text, last.state) == ("the first", State.WRONG)
    assert "cannot be examined: OSError: a broken driver" in last.text
    assert "/issues" in last.remedy


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_results_of_this_machine_are_the_originals(dtype):
    found = [*parity.findings(parity.compute_on(CPU, dtype), silent)]
    assert [f.text for f in found if f.state is not State.OK] == []
    names = [part.name for part in parity.parts()]
    assert {f"{part} {version}" for part in ("denoiser", "VAE") for version in ("V5", "V5.1")} < {
        *names
    }
    assert len(found) == len(names) * (1 if dtype is torch.float32 else 2)


@pytest.mark.parametrize("factor", [1.01, float("nan"), float("inf")])
def test_wrong_results_are_told(monkeypatch, factor):
    """A kernel that is one percent off, or gives what is not a number."""
    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *x: real(*x) * factor
    )
    found = [*parity.findings(parity.compute_on(CPU, torch.float32), silent)]
    wrong = [f for f in found if f.state is State.WRONG]
    assert any(f.text.startswith("denoiser V5.1, float32 on cpu: ") for f in wrong)
    assert all(f.remedy for f in wrong)


def test_a_recording_that_is_damaged_is_told(monkeypatch, tmp_path):
    copy = shutil.copytree(RECORDINGS, tmp_path / "recordings")
    (copy / "vae" / "v5.1.safetensors").write_bytes(b"")
    monkeypatch.setattr(parity, "RECORDINGS", copy)
    found = [*parity.findings(runs.Compute(), silent)]
    wrong = [f.text for f in found if f.state is State.WRONG]
    assert len(wrong) == 2  # the VAE, and the run that decodes
    assert "Install the pack again" in wrong[0]


class CancelledError(Exception):
    pass


@pytest.mark.slow
def test_cancelling_ends_it():
    def cancel(*_):
        raise CancelledError

    titles = []
    with pytest.raises(CancelledError):
        titles += [section.title for section in Examination(progress=cancel).sections()]


SIGNALS = [("SIGINT", 130), ("SIGTERM", 143)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), SIGNALS)
def test_a_signal_between_two_checks_leaves_no_page(tmp_path, monkeypatch, capsys, name, status):
    # Whoever runs the tests may have switched one off, as nohup does.
    number = getattr(signal, name)
    usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    before = signal.signal(number, usual)
    shown = ProgressBars.__call__

    def interrupt(self, stage, done, total):
        shown(self, stage, done, total)
        if (stage, done) == ("parity", 2):
            signal.raise_signal(number)

    monkeypatch.setattr(ProgressBars, "__call__", interrupt)
    try:
        assert main(["doctor", "--output", str(tmp_path / "page.md")]) == status
    finally:
        signal.signal(number, before)
    said = capsys.readouterr()
    assert said.err.endswith("\nStopped. No partial file was left.\n")
    assert "Traceback" not in said.out + said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="its processes get no such signals")
@pytest.mark.parametrize(("name", "status"), SIGNALS)
def test_a_signal_while_packages_are_imported_ends_that_process_too(tmp_path, name, status):
    process = psutil.Popen(
        [sys.executable, "-m", "easyanimate_core", "doctor", "--output", tmp_path / "page.md"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Background jobs of a shell, and so their children, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until = time.monotonic() + 60
    while not (importing := process.children()):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    said = process.communicate(timeout=60)
    assert process.returncode == status
    assert said == ("", "\nStopped. No partial file was left.\n")
    assert not psutil.wait_procs(importing, timeout=10)[1]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_exist_or_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    folders = Folders({"loras": [tmp_path / "none"]}, {"output": tmp_path / "file" / "x"})
    sections = {s.title: s for s in Examination(folders, quick=True).sections()}
    texts = [f.text for f in sections["Folders"].findings]
    assert any("none does not exist" in text for text in texts)


def test_the_command_and_its_page(tmp_path, capsys):
    page = tmp_path / "doctor.md"
    assert main(["doctor", "--quick", "--output", str(page)]) == 0
    assert is_page(page)
    assert "no problem" in capsys.readouterr().out
    assert main(["doctor", "--quick", "--output", str(page)]) == 2
    assert "--force" in capsys.readouterr().err
    damaged = tmp_path / "models" / "x" / "transformer"
    damaged.mkdir(parents=True)
    words = ["--models", str(tmp_path / "models"), "--output", str(page), "--force"]
    assert main(["doctor", "--quick", *words]) == 1
    assert "WRONG x/transformer: " in page.read_text(encoding="utf-8")


def test_a_device_that_is_not_here(capsys):
    assert main(["doctor", "--quick", "--device", "cuda:99"]) == 1
    said = capsys.readouterr().out
    assert "WRONG The device 'cuda:99' cannot be used here" in said
    assert "\nMemory\n" in said
