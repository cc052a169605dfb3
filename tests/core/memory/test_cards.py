"""Device and dtype on machines that are not this one, from what PyTorch says of their cards."""

import re
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from easyanimate_core.cli.main import main
from easyanimate_core.errors import InputError
from easyanimate_core.files.graphics import ADAPTERS, graphics_makers
from easyanimate_core.memory.cards import Card, usual_dtype
from easyanimate_core.memory.devices import (
    card_of,
    device_notes,
    graphics_cards,
    pick_device,
    pick_dtype,
    text_dtype,
)
from easyanimate_core.memory.tested import DEVICES, MEANS, SYSTEMS, evidence_for

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32
CPU = torch.device("cpu")
#: Name, architecture and compute dtype of cards.
CARDS = {
    "GTX 1080": ("NVIDIA GeForce GTX 1080", "sm_61", FULL),
    "P100": ("Tesla P100-PCIE-16GB", "sm_60", FULL),
    "V100": ("Tesla V100-SXM2-32GB", "sm_70", HALF),
    "T4": ("Tesla T4", "sm_75", HALF),
    "RTX 2080": ("NVIDIA GeForce RTX 2080 Ti", "sm_75", HALF),
    "GTX 1660": ("NVIDIA GeForce GTX 1660 SUPER", "sm_75", FULL),
    "GTX 1650": ("NVIDIA GeForce GTX 1650", "sm_75", FULL),
    "T1000": ("NVIDIA T1000 8GB", "sm_75", FULL),
    "MX450": ("NVIDIA GeForce MX450", "sm_75", FULL),
    "A100": ("NVIDIA A100-SXM4-80GB", "sm_80", BRAIN),
    "RTX 3060": ("NVIDIA GeForce RTX 3060", "sm_86", BRAIN),
    "H100": ("NVIDIA H100 80GB HBM3", "sm_90", BRAIN),
    "RTX 5090": ("NVIDIA GeForce RTX 5090", "sm_120", BRAIN),
    "RX 6800": ("AMD Radeon RX 6800", "gfx1030", HALF),
    "RX 7900": ("AMD Radeon RX 7900 XTX", "gfx1100", BRAIN),
    "RX 9070": ("AMD Radeon RX 9070", "gfx1201", BRAIN),
    "MI50": ("AMD Instinct MI50", "gfx906", HALF),
    "MI210": ("AMD Instinct MI210", "gfx90a", BRAIN),
    "MI300X": ("AMD Instinct MI300X", "gfx942", BRAIN),
}
#: The architectures of PyTorch 2.11 for CUDA 13 and 12.6.
CUDA_13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
CUDA_12 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")


def nvidia(name, number, total=24 * 10**9):
    major, minor = divmod(number, 10)
    return SimpleNamespace(name=name, major=major, minor=minor, total_memory=total)


@pytest.fixture
def machine(monkeypatch):
    """`machine(cuda=[...], xpu=[...])`: PyTorch says that it has these cards.

    Tensors stay on the CPU: what is tested is the choice.
    """
    real_empty = torch.empty

    def set_up(*, cuda=(), xpu=(), hip=None, kernels=(), mps=None):
        facts = {"cuda": list(cuda), "xpu": list(xpu)}
        for kind, cards in facts.items():
            module = getattr(torch, kind)
            monkeypatch.setattr(module, "is_available", lambda cards=cards: bool(cards))
            monkeypatch.setattr(module, "device_count", lambda cards=cards: len(cards))
            monkeypatch.setattr(module, "current_device", lambda: 0)
            monkeypatch.setattr(module, "get_device_properties", lambda i, cards=cards: cards[i])
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(kernels))
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps is not None)
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *v: (mps or 0) >= v[0])
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * 10**9)

        def empty(*size, device=None, **how):
            place = torch.device(device or torch.get_default_device())
            if place.index is not None and place.index >= len(facts.get(place.type, [])):
                raise RuntimeError("invalid device ordinal")
            return real_empty(*size, device="meta" if place.type == "meta" else None, **how)

        monkeypatch.setattr(torch, "empty", empty)

    return set_up


@pytest.mark.parametrize("name", CARDS)
def test_the_dtype_is_one_that_the_card_computes_in(name):
    told, architecture, dtype = CARDS[name]
    choice = usual_dtype(Card("cuda:0", told, architecture))
    assert choice.dtype is dtype
    assert choice.why


@pytest.mark.parametrize(
    ("facts", "dtype"),
    [
        ({"device": "xpu:0"}, BRAIN),
        ({"device": "xpu:0", "bfloat16": False}, HALF),
        ({"device": "xpu:0", "bfloat16": False, "float16": False}, FULL),
        ({"device": "mps"}, BRAIN),
        ({"device": "mps", "bfloat16": False}, HALF),
        ({"device": "cpu"}, FULL),
    ],
)
def test_the_dtype_of_other_devices(facts, dtype):
    assert usual_dtype(Card(name="x", **facts)).dtype is dtype


@pytest.mark.parametrize(
    ("architecture", "kernels", "can"),
    [
        ("sm_61", CUDA_13, False),
        ("sm_61", CUDA_12, True),
        ("sm_70", CUDA_13, False),
        ("sm_89", CUDA_13, True),
        ("sm_90", ("sm_80", "sm_86"), False),
        ("sm_90", ("sm_80", "compute_80"), True),
        ("sm_120", CUDA_12, False),
        ("sm_121", CUDA_13, True),
        ("gfx1100", ("gfx1030", "gfx1100"), True),
        ("gfx1036", ("gfx1030", "gfx1100"), False),
        ("gfx1103", ("gfx11-generic",), True),
        ("sm_75", (), True),
    ],
)
def test_a_card_needs_kernels_of_its_architecture(architecture, kernels, can):
    assert Card("cuda:0", "x", architecture, kernels=kernels).has_kernels is can


def test_the_card_that_was_asked_decides_not_the_current_one(machine):
    machine(cuda=[nvidia("NVIDIA H100", 90), nvidia("Tesla T4", 75)], kernels=CUDA_13)
    assert pick_dtype("auto", pick_device("cuda:0")) is BRAIN
    assert pick_dtype("auto", pick_device("cuda:1")) is HALF
    assert pick_dtype("bfloat16", pick_device("cuda:1")) is BRAIN
    assert pick_dtype("auto", pick_device("cuda")) is BRAIN


def test_auto_takes_the_first_card_that_pytorch_can_use_and_tells_of_the_others(machine):
    old, new = nvidia("Tesla V100", 70), nvidia("NVIDIA GeForce RTX 2080", 75)
    machine(cuda=[old, new, new], kernels=CUDA_13)
    device = pick_device()
    assert device == torch.device("cuda:1")
    others, without = device_notes("auto", device, HALF)
    assert (
        "cuda:1 is used; also available: cuda:2 (NVIDIA GeForce RTX 2080). Choose with --device."
        in others
    )
    assert "cuda:0 (Tesla V100, sm_70) cannot be used" in without
    assert "https://download.pytorch.org/whl/cu126" in without
    assert device_notes("cuda:1", device, HALF) == ()


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
@pytest.mark.parametrize(
    ("number", "kernels", "remedy"),
    [(61, CUDA_13, "the build for CUDA 12.6"), (120, CUDA_12, "Install a newer one")],
)
def test_a_card_that_pytorch_was_not_built_for_is_refused(machine, name, number, kernels, remedy):
    machine(cuda=[nvidia("a card", number)], kernels=kernels)
    with pytest.raises(InputError, match=remedy):
        pick_device(name)


def test_amd_s_architecture_decides(machine):
    facts = nvidia("AMD Radeon RX 6800", 103)
    facts.gcnArchName = "gfx1030:sramecc+:xnack-"
    machine(cuda=[facts], hip="6.4", kernels=("gfx1030", "gfx1100"))
    assert torch.cuda.is_bf16_supported()  # true of every AMD card
    assert pick_dtype("auto", pick_device()) is HALF
    assert card_of(torch.device("cuda")).architecture == "gfx1030"


def test_an_intel_card_is_used_where_there_is_no_other(machine):
    arc = SimpleNamespace(
        name="Intel Arc B580", total_memory=12 * 10**9, has_fp16=True, has_bfloat16_conversions=True
    )
    machine(xpu=[arc, arc])
    device = pick_device()
    assert (device, pick_dtype("auto", device)) == (torch.device("xpu"), BRAIN)
    assert pick_device("xpu:1") == torch.device("xpu:1")
    assert "also available: xpu:1 (Intel Arc B580)" in device_notes("auto", device, BRAIN)[0]
    with pytest.raises(InputError, match="'xpu:2' cannot be used here"):
        pick_device("xpu:2")
    machine(cuda=[nvidia("Tesla T4", 75)], xpu=[arc], kernels=CUDA_13)
    assert pick_device() == torch.device("cuda")


@pytest.mark.parametrize(("macos", "dtype", "text"), [(13, HALF, FULL), (14, BRAIN, BRAIN)])
def test_a_mac_computes_in_bfloat16_from_macos_14_on(machine, macos, dtype, text):
    machine(mps=macos)
    device = pick_device()
    assert (device.type, pick_dtype("auto", device)) == ("mps", dtype)
    assert text_dtype(dtype, device) is text


def test_text_encoders_are_never_in_float16():
    assert text_dtype(HALF, CPU) is BRAIN
    assert [text_dtype(dtype, CPU) for dtype in (BRAIN, FULL)] == [BRAIN, FULL]


def test_bfloat16_that_is_only_imitated_is_told(machine):
    machine(cuda=[nvidia("Tesla T4", 75)], kernels=CUDA_13)
    (note,) = device_notes("cuda:0", torch.device("cuda:0"), BRAIN)
    assert "which does not support it" in note
    assert "Use --dtype float16 on this card" in note
    assert device_notes("cpu", CPU, BRAIN) == ()


def test_hardware_that_pytorch_cannot_use_is_named(machine, monkeypatch):
    machine()
    monkeypatch.setattr(
        "easyanimate_core.memory.devices.graphics_makers", lambda: ("NVIDIA", "Intel")
    )
    notes = device_notes("auto", pick_device(), FULL)
    assert [("NVIDIA" in note, "Intel" in note) for note in notes] == [(True, False), (False, True)]
    assert all("install the build for it (https://pytorch.org" in note for note in notes)
    assert device_notes("cpu", CPU, FULL) == ()


def test_makers_of_graphics_on_linux(tmp_path):
    for number, vendor in enumerate(["0x8086\n", "0x10de\n", "0x1234\n", "0x10de\n", "\xff"]):
        folder = tmp_path / f"card{number}" / "device"
        folder.mkdir(parents=True)
        (folder / "vendor").write_bytes(vendor.encode("latin-1"))
    assert graphics_makers(tmp_path) == ("NVIDIA", "Intel")
    assert graphics_makers(tmp_path / "none") == ()


def test_makers_of_graphics_on_windows(monkeypatch):
    ids = {
        "0000": r"PCI\VEN_10DE&DEV_2684",
        "0001": r"pci\ven_1002&dev_744c",
        "Configuration": None,
    }

    def open_key(parent, name):
        return nullcontext(ADAPTERS if parent == "machine" else name)

    def query(adapter, value):
        assert value == "MatchingDeviceId"
        if ids[adapter] is None:
            raise PermissionError(adapter)
        return ids[adapter], 1

    registry = SimpleNamespace(
        HKEY_LOCAL_MACHINE="machine", OpenKey=open_key, QueryValueEx=query,
        QueryInfoKey=lambda _: (len(ids), 0, 0), EnumKey=lambda _, index: list(ids)[index],
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "winreg", registry)
    monkeypatch.setattr(sys, "platform", "win32")
    assert graphics_makers() == ("NVIDIA", "AMD")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("H100", "bfloat16: the card computes in it"),
        ("RTX 2080", "float16: sm_75 only emulates bfloat16, in float32"),
        ("GTX 1660", "float32: float16 gives NaN on a NVIDIA GeForce GTX 1660 SUPER"),
    ],
)
def test_doctor_tells_what_a_run_uses_and_why(machine, capsys, name, said):
    told, architecture, dtype = CARDS[name]
    facts = nvidia(told, int(architecture.removeprefix("sm_")), 11 * 10**9)
    machine(cuda=[facts, facts], kernels=CUDA_13)
    assert main(["doctor", "--quick"]) == 0
    lines = capsys.readouterr().out
    assert f"cuda:0, {told}, {architecture}" in lines
    assert "11.0 GB, dedicated" in lines
    assert said in lines
    assert ("VAE in float32, text encoders in bfloat16" in lines) is (dtype is HALF)
    assert str(evidence_for(graphics_cards()[0])) in lines
    assert "note  Only cuda:0 is used; also available: cuda:1" in lines


def test_doctor_of_a_mac(machine, capsys):
    machine(mps=14)
    assert main(["doctor", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "shared with the CPU, 12.0 GB of it for the GPU" in said
    assert "qint8, qint4; not qfloat8" in said
    assert "in parts" in said
    assert "Apple (MPS): emulated" in said


def test_doctor_of_this_machine(capsys):
    assert main(["doctor", "--quick", "--device", "cpu", "--dtype", "bfloat16"]) == 0
    said = capsys.readouterr().out
    assert "bfloat16, as requested; the default is float32" in said
    assert "CPU: run; " in said
    assert "Linux: run; " in said or sys.platform != "linux"


def test_doctor_names_the_remedy_where_no_card_can_be_used(machine, capsys):
    machine(cuda=[nvidia("NVIDIA GeForce GTX 1080", 61)], kernels=CUDA_13)
    assert main(["doctor", "--quick"]) == 1
    said = capsys.readouterr().out
    assert "WRONG cuda:0 (NVIDIA GeForce GTX 1080, sm_61) cannot be used" in said
    assert "the build for CUDA 12.6" in said
    assert "--device cpu" in said
    assert "1 problem" in said


@pytest.mark.parametrize(
    ("cuda", "said"),
    [
        (None, r"WRONG This machine has NVIDIA graphics hardware that this PyTorch .* cannot use"),
        (
            "12.8",
            r"WRONG PyTorch was built for CUDA 12\.8 but cannot use this machine's NVIDIA card",
        ),
    ],
)
def test_doctor_tells_why_an_nvidia_card_is_not_used(machine, monkeypatch, capsys, cuda, said):
    """A build for CPUs that another pack installed, and a driver that is too old or missing."""
    machine()
    monkeypatch.setattr(torch.version, "cuda", cuda)
    for place in ("memory.devices", "doctor.card"):
        monkeypatch.setattr(f"easyanimate_core.{place}.graphics_makers", lambda: ("NVIDIA",))
    assert main(["doctor", "--quick"]) == 1
    told = capsys.readouterr().out
    assert re.search(said, told)
    assert "https://pytorch.org/get-started/locally" in told
    assert ("nvidia-smi" in told) is (cuda is not None)


def test_what_was_tested_is_told_by_one_of_three_words():
    rows = [*SYSTEMS.values(), *DEVICES]
    assert {row.means for row in rows} == set(MEANS)
    assert len({row.platform for row in rows}) == len(rows)
