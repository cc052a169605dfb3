"""Weight files are mapped once and held no longer than their tensors; small ones never are."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyanimate_core.convert import Conversion, convert
from easyanimate_core.errors import CheckpointError
from easyanimate_core.files import mapped
from easyanimate_core.models.specs import Head
from easyanimate_core.small_model import small_checkpoint
from easyanimate_core.text import (
    PromptEmbeddings,
    TextStates,
    build_text_encoder,
    read_embeddings,
    write_embeddings,
)
from easyanimate_core.text.embedding_cache import EmbeddingCache
from easyanimate_core.text.prompts import EncodedPrompt
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.training.config import ModelConfig
from easyanimate_core.training.data.cache import LatentCache
from easyanimate_core.training.load_or_build import load_vae as load_trained_vae
from easyanimate_core.weights.files import inspect_checkpoint, read_tensor_files
from easyanimate_core.weights.loading import load_transformer, load_vae
from easyanimate_core.weights.lora import Lora, LoraSet
from tests.factories import V5_1

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="Linux tells what a process holds"
)
MIB = 2**20


def mappings():
    """The files that this process has mapped, each as often as it has."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line.partition("/")[2] for line in lines if line.endswith(".safetensors")]


def maps(path):
    return mappings().count(os.path.realpath(path)[1:])


def held(folder):
    """Files that this process has mapped or opened: Windows lets nobody replace them."""
    opened = [os.path.realpath(link)[1:] for link in Path("/proc/self/fd").iterdir()]
    root = os.path.realpath(folder)[1:]
    return [name for name in [*mappings(), *opened] if name.startswith(root)]


def sparse(path, count, size):
    """`count` tensors of `size` bytes, all zeros, which take no room on the disk."""
    header = {
        f"t{i}": {"dtype": "U8", "shape": [size], "data_offsets": [i * size, (i + 1) * size]}
        for i in range(count)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        opened.truncate(8 + len(text) + count * size)
    return path


@pytest.fixture
def all_mapped(monkeypatch):
    """Every file counts as large."""
    monkeypatch.setattr(mapped, "SMALL_BYTES", 0)


# One map


@pytest.fixture(params=[False, True], ids=["torch", "python"])
def both_kinds(request, monkeypatch):
    """Of map: PyTorch's, and Python's, which is Windows'."""
    monkeypatch.setattr(mapped, "BY_PYTHON", request.param)


@pytest.mark.usefixtures("both_kinds")
def test_a_file_has_one_map_while_its_tensors_are_kept(tmp_path):
    file = sparse(tmp_path / "large.safetensors", 8, 256 * MIB)
    parts = [read_tensor_files(file).map() for _ in range(2)]  # as of two networks in one file
    assert maps(file) == 0
    kept = [dict(part) for part in parts]
    assert maps(file) == 1
    del kept[0]["t0"]
    kept.pop()
    assert maps(file) == 1
    assert not kept[0]["t7"][-1]
    kept.clear()
    assert maps(file) == 0


@pytest.mark.usefixtures("both_kinds")
def test_a_part_that_is_kept_keeps_the_map_and_no_more(tmp_path):
    file = sparse(tmp_path / "large.safetensors", 4, 64 * MIB)
    tensors = read_tensor_files(file).map()
    row = torch.nn.Parameter(tensors["t1"][:4], requires_grad=False)
    assert row.untyped_storage().nbytes() == 64 * MIB
    assert {maps(file) for name in tensors if tensors[name].numel()} == {1}
    row.data[0] = 7  # ComfyUI writes patched weights in place
    assert tensors["t1"][0] == 7
    del row
    assert maps(file) == 0
    assert tensors["t1"][0] == 0


@pytest.fixture
def tiny(checkpoint):
    return checkpoint(V5_1, Head.T2V)


@pytest.mark.usefixtures("all_mapped", "both_kinds")
def test_networks_map_every_file_once(tiny):
    info = inspect_checkpoint(tiny)
    networks = [load(info) for load in (load_transformer, load_vae, load_transformer, load_vae)]
    networks += build_text_encoder(tiny, V5_1, use_attention_mask=True).networks
    files = list(tiny.rglob("*.safetensors"))
    assert len(files) == 3
    assert {file: maps(file) for file in files} == dict.fromkeys(files, 1)
    networks.clear()
    assert held(tiny) == []


@pytest.mark.usefixtures("all_mapped")
@pytest.mark.parametrize("how", [{"dtype": torch.float16}, {"quantization": "qint8"}])
def test_weights_that_are_converted_leave_no_map(tiny, how):
    """So while they are converted no more of the file is in memory than the tensor that is."""
    seen = []
    network = load_transformer(
        inspect_checkpoint(tiny), progress=lambda *_: seen.append(held(tiny)), **how
    )
    assert len(seen) > 50
    assert not any(seen)
    assert not network.proj.weight.is_meta


@pytest.mark.usefixtures("all_mapped")
@pytest.mark.parametrize("dtype", ["keep", "fp8"])
def test_converting_holds_nothing(tiny, tmp_path, dtype):
    seen = []
    target = tmp_path / "x.safetensors"
    convert(tiny, target, Conversion(dtype=dtype), progress=lambda *_: seen.append(held(tiny)))
    assert len(seen) > 50
    assert not any(seen)


_LIMITED = """
import resource, sys
from pathlib import Path
import torch
from easyanimate_core.weights.files import read_tensor_files
from easyanimate_core.errors import CheckpointError
from easyanimate_core.files import mapped

mapped.BY_PYTHON = sys.argv[3] == "python"
file, share = Path(sys.argv[1]), float(sys.argv[2])
status = Path("/proc/self/status").read_text().splitlines()
taken = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (taken + int(share * file.stat().st_size),) * 2)
try:
    kept = dict(read_tensor_files(file).map())
    print(len(kept))
except CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("share", "kind", "said"),
    [(1.25, "torch", "8")]
    + [(0.5, kind, "The system does not have the memory to map {file} (2.1 GB).")
       for kind in ("torch", "python")],
)  # fmt: skip
def test_loading_takes_the_files_size_of_promised_memory(tmp_path, share, kind, said):
    """Windows promises memory for every map; the limit on a process's data counts it alike."""
    file = sparse(tmp_path / "large.safetensors", 8, 256 * MIB)
    command = [sys.executable, "-c", _LIMITED, str(file), str(share), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(said.format(file=file)), done.stdout


# Files that are written again


def states():
    return TextStates(torch.rand(1, 4, 8), None)


def cached_prompt(folder):
    cache = EmbeddingCache(folder, "encoder")
    cache.write("A dog.", EncodedPrompt(states(), ("",)))
    return cache.read("A dog.")


def embeddings(folder):
    write_embeddings(folder / "x.safetensors", PromptEmbeddings(states(), states()))
    return read_embeddings(folder / "x.safetensors")


def latents(folder):
    cache = LatentCache(folder, "encoder")
    cache.write(torch.rand(4, 8), "clip")
    return cache.read("clip")


def trained_vae(folder):
    make_tiny(folder / "tiny", version=V5_1, head=Head.T2V)
    return load_trained_vae(ModelConfig(checkpoint=folder / "tiny"))


def lora(folder):
    down, up = torch.rand(2, 64), torch.rand(32, 2)
    name = "transformer_blocks.0.attn1.to_q"
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    save_file(tensors, folder / "x.safetensors")
    shapes = {name: (32, 64)}
    return LoraSet.read([Lora(folder / "x.safetensors")], shapes)


@pytest.mark.usefixtures("all_mapped")
@pytest.mark.parametrize("read", [cached_prompt, embeddings, latents, trained_vae, lora])
def test_what_may_be_written_again_is_not_held(tmp_path, read):
    value = read(tmp_path)
    assert value is not None
    assert list(tmp_path.rglob("*.safetensors"))
    assert held(tmp_path) == []


def test_small_checkpoints_are_not_held(tmp_path):
    make_tiny(tmp_path / "tiny", version=V5_1, head=Head.T2V)
    folders = [small_checkpoint(Head.INPAINT), tmp_path / "tiny"]
    loaded = [load(inspect_checkpoint(f)) for f in folders for load in (load_transformer, load_vae)]
    assert len(loaded) == 4
    assert [held(folder) for folder in folders] == [[], []]


@pytest.mark.parametrize("small", [0, 2**40])
@pytest.mark.parametrize("how", ["map", "read"])
def test_a_file_that_was_written_again_is_not_mixed_with_what_was_read(
    tmp_path, monkeypatch, small, how
):
    monkeypatch.setattr(mapped, "SMALL_BYTES", small)
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(4), "b": torch.zeros(4)}, file)
    tensors = getattr(read_tensor_files(file), how)()
    first = tensors["a"]
    save_file({"a": torch.ones(4), "b": torch.ones(4)}, tmp_path / "new")
    os.utime(tmp_path / "new", ns=(0, 0))
    try:
        (tmp_path / "new").replace(file)
    except PermissionError:
        pytest.skip("nobody may replace what is mapped here")
    with pytest.raises(CheckpointError, match=r"x\.safetensors was rewritten after"):
        tensors["b"]
    assert torch.equal(read_tensor_files(file).map()["a"], torch.ones(4))
    assert torch.equal(first, torch.zeros(4))


# Headers

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.float8_e8m0fnu,
]  # fmt: skip


@pytest.mark.parametrize("small", [0, 2**40])
@pytest.mark.parametrize("how", ["map", "read"])
def test_tensors_are_those_that_the_library_reads(tmp_path, monkeypatch, small, how):
    monkeypatch.setattr(mapped, "SMALL_BYTES", small)
    content = torch.arange(48, dtype=torch.uint8)
    tensors = {str(dtype): content.view(dtype).reshape(2, -1) for dtype in DTYPES[:11]}
    tensors |= {str(dtype): content.view(dtype) for dtype in DTYPES[12:]}
    tensors |= {"bool": content % 2 == 0, "scalar": torch.tensor(3.0), "empty": torch.empty(0, 4)}
    file = tmp_path / "x.safetensors"
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, file, {"a": "b"})
    files, wanted = read_tensor_files(file), load_file(file)
    assert files.metadata == {"a": "b"}
    assert files.keys() == wanted.keys() == tensors.keys()
    found = getattr(files, how)()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape == files[name].shape
        assert (
            found[name].numpy(force=True).tobytes() == tensor.numpy(force=True).tobytes()
            if (tensor.dtype not in (torch.bfloat16, *DTYPES[4:6], DTYPES[-1]))
            else torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8))
        )


def entry(start, end, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "size", "fault"),
    [
        ({"a": entry(0, 16)}, 20, "its tensors take 16 bytes, but the file has 20"),
        ({"a": entry(0, 16)}, 12, "its tensors take 16 bytes, but the file has 12"),
        ({"a": entry(0, 16), "b": entry(20, 36)}, 36, "'b' does not begin where"),
        ({"a": entry(0, 16), "b": entry(8, 24)}, 24, "'b' does not begin where"),
        ({"a": entry(0, 16), "b": entry(0, 16)}, 16, "'b' does not begin where"),
        ({"a": entry(4, 20)}, 20, "'a' does not begin where"),
        ({"a": entry(0, 12)}, 12, "'a' has 12 bytes for [4] of F32"),
        ({"a": entry(0, 0, (0, 2**62, 2**62))}, 0, "'a' has an impossibly large shape"),
        ({"a": entry(0, 4, [1] * 60)}, 4, "'a' has an impossibly large shape"),
        ({"a": entry(0, 16, (-2, -2))}, 16, "'a' has no valid shape or data_offsets"),
        ({"a": entry(0, 4, (True,))}, 4, "'a' has no valid shape or data_offsets"),
        (
            {"a": entry(0, 16) | {"data_offsets": [16]}},
            16,
            "'a' has no valid shape or data_offsets",
        ),
        ({"a": entry(0, 16) | {"shape": None}}, 16, "'a' has no valid shape or data_offsets"),
        ({"a": entry(0, 16, dtype="F31")}, 16, "'a' has the unknown dtype 'F31'"),
        ({"a": [0, 16]}, 16, "'a' has the unknown dtype None"),
        ({"__metadata__": {"a": 1}}, 0, "__metadata__ holds values other than text"),
        ({"__metadata__": ["a"]}, 0, "__metadata__ holds values other than text"),
        ([], 0, "its header holds a list"),
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path, header, size, fault):
    text = json.dumps(header).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    with pytest.raises(CheckpointError) as caught:
        read_tensor_files(file)
    assert f"is not a valid safetensors file ({fault}" in str(caught.value)


@pytest.mark.parametrize("length", [0, 3, 40, 2**32, 2**63, 2**64 - 1])
def test_a_header_of_another_length_is_refused(tmp_path, length):
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", length) + b'{"a":{"dtype":"U8"}}')
    with pytest.raises(CheckpointError, match="is not a valid safetensors file"):
        read_tensor_files(file)
