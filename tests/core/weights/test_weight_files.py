"""Weights as they lie on people's disks: spellings, half downloads, pointers, pickles, traps."""

import json
import os
import pickle
import re
import shlex
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file

from easyanimate_core.cli.main import main
from easyanimate_core.convert import Conversion, convert, describe_file
from easyanimate_core.errors import CheckpointError, EasyAnimateError, InputError, printable
from easyanimate_core.files.commands import own_command
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.text import check_text_encoder
from easyanimate_core.weights.files import (
    denoiser_files,
    inspect_checkpoint,
    read_denoiser_files,
    read_tensor_files,
)
from easyanimate_core.weights.lora import Lora, LoraSet, matrix_shapes
from easyanimate_core.weights.stored import ScaledWeight, StoredWeights
from tests.factories import V5, V5_1, make_link, quick

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


@pytest.fixture(scope="module")
def tensors(folder):
    return load_file(folder / "transformer" / WEIGHTS)


@pytest.fixture
def copied(checkpoint_copy):
    return checkpoint_copy(V5_1, Head.T2V)


def refusal(path):
    """What `describe` and `read_tensor_files` say, which must be the same kind of answer."""
    with pytest.raises(CheckpointError) as caught:
        describe_file(path)
    return str(caught.value)


# Spellings


@pytest.mark.parametrize(
    "prefix",
    ["", "model.diffusion_model.", "diffusion_model.", "transformer.", "module.", "_orig_mod.",
     "module._orig_mod.", "model.module.", "_orig_mod.transformer."],
)  # fmt: skip
def test_prefixes_that_programs_write(tensors, tmp_path, prefix):
    file = tmp_path / "x.safetensors"
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, file)
    assert describe_file(file)["part"] == "transformer"
    assert read_denoiser_files(file).keys() == tensors.keys()
    convert(file, tmp_path / "out.safetensors", Conversion())
    assert load_file(tmp_path / "out.safetensors").keys() == tensors.keys()


def test_a_checkpoint_folder_with_a_prefix_runs(folder, copied, tensors):
    renamed = {
        f"module.{n.replace('.attn1', '._orig_mod.attn1')}": value for n, value in tensors.items()
    }
    save_file(renamed, copied / "transformer" / WEIGHTS)
    found, wanted = (
        Pipeline.load(path).generate("A dog.", settings=quick()).latents
        for path in (copied, folder)
    )
    assert torch.equal(found, wanted)


def test_two_networks_in_a_file_are_not_guessed(tensors, tmp_path):
    both = {f"{p}{n}": t.clone() for p in ("model.", "module.") for n, t in tensors.items()}
    save_file({f"transformer.{n}": t for n, t in both.items()}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"same network more than once, under 'transfor"):
        denoiser_files(read_tensor_files(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("prefix", ["student.", "net.ema."])
def test_a_denoiser_under_another_name_is_no_text_encoder(tensors, tmp_path, prefix):
    save_file({prefix + n: tensor for n, tensor in tensors.items()}, tmp_path / "x.safetensors")
    said = refusal(tmp_path / "x.safetensors")
    assert "a denoiser, but not one of EasyAnimate with known tensor names" in said
    assert "text encoder" not in said


def scaled(tensors, ending):
    """The attention's matrices in scaled fp8."""
    found = {}
    for name, tensor in tensors.items():
        if ".attn" in name and name.endswith(".weight") and tensor.ndim == 2:
            scale = tensor.float().abs().max() / 448
            found[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
            found[name.removesuffix("weight") + ending] = scale
        else:
            found[name] = tensor
    return found


@pytest.mark.parametrize("marker", [0, 2])
def test_the_other_spelling_of_scales(tensors, tmp_path, marker):
    ours, theirs = scaled(tensors, "weight_scale"), scaled(tensors, "scale_weight")
    theirs |= {n.replace("scale_weight", "scale_input"): torch.ones(1)
               for n in theirs if n.endswith("scale_weight")}  # fmt: skip
    theirs["scaled_fp8"] = torch.zeros(marker, dtype=torch.float8_e4m3fn)
    found = []
    for name, content, prefix in (("a", ours, ""), ("b", theirs, "model.diffusion_model.")):
        file = tmp_path / f"{name}.safetensors"
        save_file({prefix + n: tensor for n, tensor in content.items()}, file)
        assert describe_file(file)["dtypes"]["F8_E4M3"] > 0
        found.append(StoredWeights(read_denoiser_files(file)))
    assert found[0].keys() == found[1].keys()
    assert any(isinstance(found[1][name], ScaledWeight) for name in found[1])
    for name in found[0]:
        one, other = (weights[name].to(dtype=torch.float32) for weights in found)
        assert torch.equal(one, other)


def test_both_spellings_at_once_are_refused(tensors, tmp_path):
    both = scaled(tensors, "weight_scale") | scaled(tensors, "scale_weight")
    save_file(both, tmp_path / "x.safetensors")
    assert "twice, under two spellings" in refusal(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["x.SAFETENSORS", "x.Safetensors"])
def test_endings_in_any_case(copied, tensors, tmp_path, name):
    save_file(tensors, tmp_path / name)
    assert describe_file(tmp_path / name)["part"] == "transformer"
    (copied / "transformer" / WEIGHTS).rename(copied / "transformer" / name)
    assert inspect_checkpoint(copied).head is Head.T2V
    convert(tmp_path / name, tmp_path / "y.GGUF", Conversion(dtype="q8_0"))
    assert describe_file(tmp_path / "y.GGUF")["dtypes"]["Q8_0"] > 0


# GGUF


def write_gguf(path, tensors, *, fold=False, facts=None):
    writer = gguf.GGUFWriter(path, "easyanimate")
    for name, tensor in tensors.items():
        data = tensor.float().numpy()
        if fold and data.ndim > 1 and data.size % 256 == 0 and data.shape[-1] % 256:
            shape = (facts or {}).get(name, tuple(map(int, data.shape)))
            writer.add_array(f"comfy.gguf.orig_shape.{name}", shape)
            data = data.reshape(-1, 256)
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_tensors_that_a_converter_folded(tensors, tmp_path):
    file = write_gguf(tmp_path / "x.gguf", tensors, fold=True)
    stored = gguf.GGUFReader(file).tensors
    assert any(list(t.shape) != list(reversed(tensors[t.name].shape)) for t in stored)
    assert describe_file(file)["head"] == "T2V"
    found = read_tensor_files(file).map()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor.float())


def test_folded_blocks_are_unpacked_to_the_true_shape(tmp_path):
    values = torch.randn(6, 128, generator=torch.Generator().manual_seed(0))
    data = gguf.quants.quantize(values.reshape(3, 256).numpy(), gguf.GGMLQuantizationType.Q8_0)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "easyanimate")
    writer.add_array("comfy.gguf.orig_shape.a", (6, 8, 16))
    writer.add_tensor("a", data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_tensor_files(tmp_path / "x.gguf").map()["a"]
    assert found.shape == (6, 8, 16)
    assert (found.reshape(6, 128) - values).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(7, 7), (0,), (1 << 30, 2), (-32, -32)])
def test_a_true_shape_of_another_count_is_refused(tensors, tmp_path, shape):
    name = "transformer_blocks.0.attn1.to_q.weight"
    file = write_gguf(tmp_path / "x.gguf", tensors, fold=True, facts={name: shape})
    assert "a different number of values" in refusal(file)


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def header(fields=b"", tensors=b"", *, num_fields=1, num_tensors=0, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_fields) + fields + tensors


def tensor_info(name=b"a", shape=(32,), kind=0, offset=0):
    sides = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", len(shape)) + sides + struct.pack("<IQ", kind, offset)


ARRAY, STRING, UINT8 = (struct.pack("<I", number) for number in (9, 8, 0))
HUGE = struct.pack("<Q", 1 << 60)
GGUF_TRAPS = {
    "lists in lists": header(text("a") + ARRAY + (ARRAY + struct.pack("<Q", 1)) * 30_000),
    "a long list": header(text("a") + ARRAY + UINT8 + HUGE),
    "many texts": header(text("a") + ARRAY + STRING + HUGE),
    "texts to the end": header(text("a") + ARRAY + STRING + struct.pack("<Q", 10**6) + bytes(8000)),
    "a long text": header(text("a") + STRING + HUGE),
    "a long key": header(HUGE + b"a"),
    "a key of bytes": header(text(b"\xff\xfe") + STRING + text("a")),
    "a kind of value": header(text("a") + struct.pack("<I", 77)),
    "many fields": header(num_fields=1 << 50),
    "many tensors": header(num_fields=0, num_tensors=1 << 50),
    "an alignment of none": header(text("general.alignment") + struct.pack("<II", 4, 0)),
    "an alignment beyond": header(text("general.alignment") + struct.pack("<II", 4, 1 << 31)),
    "a version": header(version=99),
    "the other order of bytes": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "a kind of tensor": header(tensors=tensor_info(kind=999), num_fields=0, num_tensors=1),
    "no values": header(tensors=tensor_info(shape=(0,)), num_fields=0, num_tensors=1),
    "a huge shape": header(
        tensors=tensor_info(shape=(1 << 62, 1 << 62)), num_fields=0, num_tensors=1
    ),
    "beyond the end": header(tensors=tensor_info(offset=1 << 60), num_fields=0, num_tensors=1),
    "many dimensions": header(tensors=tensor_info(shape=(1,) * 500), num_fields=0, num_tensors=1),
    "half a block": header(tensors=tensor_info(shape=(33,), kind=8), num_fields=0, num_tensors=1),
    "twice": header(tensors=tensor_info() * 2, num_fields=0, num_tensors=2) + bytes(400),
    "one piece as many": header(
        tensors=b"".join(tensor_info(b"%d" % n) for n in range(100)), num_fields=0, num_tensors=100
    ) + bytes(400),
    "nothing": b"GGUF",
}  # fmt: skip


@pytest.mark.parametrize("content", GGUF_TRAPS.values(), ids=GGUF_TRAPS)
def test_gguf_headers_are_bounded(tmp_path, content):
    (tmp_path / "x.gguf").write_bytes(content)
    assert "x.gguf is not a valid GGUF file" in refusal(tmp_path / "x.gguf")


# Safetensors


def raw(path, header, data=b""):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    return path


def entry(shape=(), offsets=(0, 0), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


TRAPS = {
    "control characters": {"\x1b[31mred": entry((1,), (0, 4))},
    "an end of text": {"proj.weight\0": entry((1,), (0, 4))},
    "turned writing": {"a\u202eb": entry((1,), (0, 4))},
    "a long name": {"a" * 10_000: entry((1,), (0, 4))},
    "overflow": {"a": entry((1 << 62, 1 << 62), (0, 4))},
    "a hole": {"a": entry((1,), (0, 4)), "b": entry((1,), (8, 12))},
    "nesting": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "no JSON": b"{nothing",
    "two of a name": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
    "a kind": {"a": entry((1,), (0, 4), "Q99")},
    "negative": {"a": entry((-1,), (0, 4))},
}


@pytest.mark.parametrize("content", TRAPS.values(), ids=TRAPS)
def test_safetensors_headers_that_hurt_are_refused(tmp_path, content):
    said = refusal(raw(tmp_path / "x.safetensors", content, bytes(12)))
    assert "x.safetensors" in said
    assert printable(said) == said


def test_a_header_without_end_is_not_read(tmp_path):
    with (tmp_path / "x.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 90_000_000) + b"{")
        file.truncate(100_000_000)
    assert "its header claims 90000000 bytes" in refusal(tmp_path / "x.safetensors")


def test_tensors_without_values_are_refused(copied, tensors):
    name = "transformer_blocks.0.attn1.norm_q.weight"
    save_file(tensors | {name: torch.zeros(0)}, copied / "transformer" / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"norm_q.weight with values, which is \(0,\)"):
        inspect_checkpoint(copied)


@pytest.mark.parametrize("name", ["\x1b[2Jevil", "proj.weight\0", "extra.weight"])
def test_describe_refuses_what_generate_refuses(copied, tensors, capsys, name):
    save_file(tensors | {name: torch.zeros(1)}, copied / "transformer" / WEIGHTS)
    assert main(["describe", str(copied)]) == 2
    said = capsys.readouterr().err
    options = ["--model", str(copied), "--prompt", "x", "--output", str(copied / "o.mp4")]
    assert main(["generate", *options]) == 2
    assert capsys.readouterr().err == said
    assert printable(said, keep="\n") == said


def test_describe_reads_the_text_encoder_s_headers(checkpoint_copy, capsys):
    copy = checkpoint_copy(V5, Head.T2V)
    check_text_encoder(copy, V5, use_attention_mask=True)
    file = next((copy / "text_encoder_2").glob("*.safetensors"))
    content = load_file(file)
    content.pop("encoder.final_layer_norm.weight")
    save_file(content, file)
    assert main(["describe", str(copy)]) == 2
    assert "do not fit the mT5 text encoder. 1 missing" in capsys.readouterr().err


def test_metadata_are_shown_without_controls(tensors, tmp_path, capsys):
    metadata = {"modelspec.title": "a\x1b]0;title\x07\nb", "easyanimate.\x1bx": "y"}
    save_file(tensors, tmp_path / "x.safetensors", metadata)
    assert main(["describe", str(tmp_path / "x.safetensors")]) == 0
    said = capsys.readouterr().out
    assert r"a\x1b]0;title\x07\nb" in said
    assert printable(said, keep="\n") == said


def test_errors_hold_no_control_characters():
    said = str(EasyAnimateError("a\x1b[2J \u202e \x7f \udc80\n是 \u200d"))
    assert said == "a\\x1b[2J \\u202e \\x7f \\udc80\n是 \u200d"


# Folders and their index


def index_of(copy, file):
    content = {"weight_map": dict.fromkeys(load_file(copy / "transformer" / WEIGHTS), file)}
    (copy / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name",
    ["../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "..\\x.safetensors",
     "C:x.safetensors", "x\0.safetensors", "n" * 300 + ".safetensors", "..", ".", "", "~/x",
     "config.json", "é" * 200 + ".safetensors"],
)  # fmt: skip
def test_an_index_names_files_of_its_folder_only(copied, tmp_path, name):
    (tmp_path / "copy" / "transformer" / "sub").mkdir()
    for place in ("copy", "copy/transformer/sub"):
        shutil.copy(copied / "transformer" / WEIGHTS, tmp_path / place / "x.safetensors")
    index_of(copied, name)
    with pytest.raises(CheckpointError, match=r"index.json lists the file .*(plain file name|end)"):
        inspect_checkpoint(copied)


def test_links_of_the_hugging_face_cache_are_followed(copied, tmp_path):
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = tmp_path / "models--a--b" / "snapshots" / "rev"
    blobs.mkdir(parents=True)
    for number, file in enumerate(path for path in copied.rglob("*") if path.is_file()):
        link = snapshot / file.relative_to(copied)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, blobs / str(number))
        make_link(link, os.path.relpath(blobs / str(number), link.parent))
    convert(snapshot, tmp_path / "out", Conversion())
    assert inspect_checkpoint(tmp_path / "out").head is Head.T2V
    blob = (snapshot / "transformer" / WEIGHTS).resolve()
    Path(f"{blob}.incomplete").touch()
    with pytest.raises(CheckpointError, match="not completely downloaded"):
        inspect_checkpoint(snapshot)


def test_convert_takes_no_file_of_elsewhere_along(copied, tmp_path):
    (tmp_path / "secret").write_text("mine")
    make_link(copied / "tokenizer" / "notes.txt", tmp_path / "secret")
    with pytest.raises(CheckpointError, match=r"notes.txt is a link to .*secret, outside"):
        convert(copied, tmp_path / "out", Conversion())
    assert not (tmp_path / "out").exists()


def test_convert_takes_linked_parts_along(copied, tmp_path):
    shutil.move(copied / "text_encoder", copied / "elsewhere")
    make_link(copied / "text_encoder", copied / "elsewhere")
    convert(copied, tmp_path / "out", Conversion())
    assert any((tmp_path / "out" / "text_encoder").glob("*.safetensors"))


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_names_that_no_file_can_have(name, tmp_path):
    for read in (inspect_checkpoint, read_tensor_files, describe_file):
        with pytest.raises(CheckpointError, match=r"does not exist|is not a folder"):
            read(tmp_path / name)


# Downloads


@pytest.mark.parametrize(
    "suffix",
    [".aria2", ".part", ".incomplete", ".crdownload", ".!ut", ".!qB", ".st", ".PARTIAL", ".tmp"],
)
def test_a_download_that_has_not_ended(folder, copied, suffix):
    file = copied / "transformer" / WEIGHTS
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    control = Path(f"{file}{suffix}")
    control.write_bytes(b"\1")
    with pytest.raises(CheckpointError) as caught:
        Pipeline.load(copied)
    assert f"{WEIGHTS} is not completely downloaded: " in str(caught.value)
    assert f" keeps {control.name} next to it until it is." in str(caught.value)
    assert f"download the file again and remove {control.name}" in str(caught.value)
    shutil.copy(folder / "transformer" / WEIGHTS, file)
    control.unlink()
    Pipeline.load(copied)


def test_other_files_beside_are_no_downloads(copied):
    for name in ("other.safetensors.part", f"x{WEIGHTS}.part", f"{WEIGHTS}.json", "README.part"):
        (copied / "transformer" / name).touch()
    inspect_checkpoint(copied)


def test_what_huggingface_hub_is_fetching_into_the_folder(copied):
    place = copied / ".cache" / "huggingface" / "download" / "transformer"
    place.mkdir(parents=True)
    (place / "other.safetensors.abc.incomplete").touch()
    inspect_checkpoint(copied)
    (place / f"{WEIGHTS}.abc.incomplete").touch()
    with pytest.raises(CheckpointError, match=r"huggingface_hub keeps .* until it is"):
        inspect_checkpoint(copied)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n".format("0" * 64)


@pytest.mark.parametrize(
    "name",
    [f"transformer/{WEIGHTS}", f"vae/{WEIGHTS}", "transformer/config.json",
     "tokenizer/vocab.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
     "text_encoder/config.json", "scheduler/scheduler_config.json"],
)  # fmt: skip
def test_pointers_of_git_lfs(copied, capsys, name):
    if not (copied / name).is_file():
        pytest.skip("this tokenizer has other files")
    (copied / name).write_text(POINTER)
    assert main(["describe", str(copied)]) == 2
    said = capsys.readouterr().err
    assert f"{Path(name).name} is a git-lfs pointer to a file of 12,345 bytes" in said
    assert "lfs pull" not in said
    (copied / ".git").mkdir()
    assert main(["describe", str(copied)]) == 2
    assert f'git -C "{copied.resolve()}" lfs pull' in capsys.readouterr().err


def test_the_remedy_for_a_pointer_works(checkpoint_copy, tmp_path, capsys):
    """A checkpoint that was cloned without git-lfs, and the command that the refusal names."""
    if shutil.which("git") is None or shutil.which("git-lfs") is None:
        pytest.skip("git-lfs is not installed here")
    environment = {**os.environ, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*words, **more):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(
            ["git", *who, *map(str, words)], check=True, capture_output=True, env=environment | more
        )

    there, here = checkpoint_copy(V5_1, Head.T2V), tmp_path / "clone"
    git("lfs", "install")
    git("-C", there, "init")
    git("-C", there, "lfs", "track", "*.safetensors")
    git("-C", there, "add", ".")
    git("-C", there, "commit", "-m", "a checkpoint")
    git("clone", f"file://{there}", here, GIT_LFS_SKIP_SMUDGE="1")
    assert main(["describe", str(here)]) == 2
    said = capsys.readouterr().err
    remedy = re.search(r"run: (git -C .* lfs pull) - or", said)[1]
    subprocess.run(shlex.split(remedy), check=True, capture_output=True, env=environment)
    assert main(["describe", str(here)]) == 0


@pytest.mark.parametrize("ending", ["safetensors", "gguf", "bin"])
def test_pointers_and_pages_in_place_of_a_file(tmp_path, ending):
    file = tmp_path / f"x.{ending}"
    file.write_text(POINTER)
    assert "a git-lfs pointer" in refusal(file)
    file.write_text("<!DOCTYPE html><html>")
    assert "is a web page, not the file" in refusal(file)


# Pickles


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


PICKLES = {
    "plain": lambda tensors: tensors,
    "state_dict": lambda tensors: {"epoch": 3, "state_dict": tensors, "optimizer": {"lr": 1.0}},
    "module": lambda tensors: {"module": {f"module.{n}": t for n, t in tensors.items()}},
    "beside": lambda tensors: {**tensors, "step": 7},
    "parameters": lambda tensors: {n: torch.nn.Parameter(t) for n, t in tensors.items()},
}


@pytest.mark.parametrize("ending", ["bin", "pt", "pth", "ckpt", "PT"])
@pytest.mark.parametrize("wrap", PICKLES.values(), ids=PICKLES)
def test_convert_reads_pickles_of_tensors(tensors, tmp_path, ending, wrap):
    source, target = tmp_path / f"x.{ending}", tmp_path / "y.safetensors"
    torch.save(wrap(tensors), source, _use_new_zipfile_serialization=ending != "pt")
    said = refusal(source)
    assert said.endswith(own_command("convert", source, source.with_suffix(".safetensors")))
    result = convert(source, target, Conversion())
    found = load_file(target)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    left = [note for note in result.notes if note.startswith("Skipped")]
    assert left == (
        ["Skipped, because they are not part of the network: step."]
        if wrap is PICKLES["beside"]
        else []
    )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["top", "inside", "instead"])
def test_a_pickle_that_does_something_does_nothing(tensors, tmp_path, capsys, zipped, place):
    trap, source = Trap(tmp_path / "made"), tmp_path / "x.bin"
    content = {"top": {**tensors, "x": trap}, "inside": {"state_dict": tensors, "x": [trap]},
               "instead": trap}[place]  # fmt: skip
    torch.save(content, source, _use_new_zipfile_serialization=zipped)
    assert main(["convert", str(source), str(tmp_path / "y.safetensors")]) == 2
    said = capsys.readouterr().err
    assert "objects that could run code, which are refused" in said
    assert "mkdir" in said
    assert "weights_only" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.bin"]


def test_pickles_of_other_kinds_are_refused(tensors, tmp_path):
    source, target = tmp_path / "x.bin", tmp_path / "y.safetensors"
    view = {**tensors, "proj.weight": torch.zeros(1).expand(1 << 40)}
    sparse = {**tensors, "proj.bias": torch.zeros(4, 4).to_sparse()}
    for content, message in (
        (view, "claims 1099511627776 values, more than are stored"),
        (sparse, "not a plain tensor"),
        ([1, 2], "contains a list, not a network's tensors"),
        ({"a": 1}, "contains 0 tensors; other entries: a"),
        ({**tensors, "proj.bias": torch.zeros(2, dtype=torch.complex64)}, "is torch.complex64"),
    ):
        torch.save(content, source)
        with pytest.raises(CheckpointError, match=message):
            convert(source, target, Conversion())
    source.write_bytes(pickle.dumps({"a": np.zeros(3)}))
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors"):
        convert(source, target, Conversion())
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    with pytest.raises(CheckpointError, match="is a compressed archive"):
        convert(source, target, Conversion())
    torch.jit.script(torch.nn.Linear(2, 2)).save(source)
    with pytest.raises(CheckpointError, match="or a TorchScript program"):
        convert(source, target, Conversion())
    assert not target.exists()


@pytest.mark.parametrize("num_shards", [1, 2])
def test_the_remedy_for_a_pickled_text_encoder_works(copied, capsys, num_shards):
    """Its words are followed: the command that the error names makes the checkpoint run."""
    place = copied / "text_encoder"
    file = next(place.glob("*.safetensors"))
    content = list(load(file.read_bytes()).items())
    file.unlink()
    weight_map = {}
    for number in range(num_shards):
        name = f"pytorch_model-{number + 1:05d}-of-{num_shards:05d}.bin"
        name = "pytorch_model.bin" if num_shards == 1 else name
        torch.save(dict(content[number::num_shards]), place / name)
        weight_map |= dict.fromkeys((n for n, _ in content[number::num_shards]), name)
    if num_shards > 1:
        text = json.dumps({"weight_map": weight_map})
        (place / "pytorch_model.bin.index.json").write_text(text)
    assert main(["describe", str(copied)]) == 2
    said = capsys.readouterr().err
    source, target = shlex.split(said)[-2:]
    assert main(["convert", source, target]) == 0
    assert main(["describe", str(copied)]) == 0
    Pipeline.load(copied, embedding_cache=False).generate("A dog.", settings=quick())


def test_tied_tensors_are_written_twice(checkpoint, tmp_path):
    folder = checkpoint(V5, Head.T2V) / "text_encoder_2"
    content = load_file(next(folder.glob("*.safetensors")))
    content["encoder.embed_tokens.weight"] = content["shared.weight"]
    torch.save(content, tmp_path / "x.bin")
    convert(tmp_path / "x.bin", tmp_path / "y.safetensors", Conversion())
    found = load_file(tmp_path / "y.safetensors")
    assert torch.equal(found["shared.weight"], found["encoder.embed_tokens.weight"])


def test_a_pickle_under_the_name_of_safetensors(tensors, tmp_path):
    source = tmp_path / "x.safetensors"
    torch.save(tensors, source)
    said = refusal(source)
    found, target = shlex.split(said)[-2:]
    convert(found, target, Conversion())
    assert describe_file(Path(target))["part"] == "transformer"


def test_a_pickled_lora_keeps_its_alpha(folder, tmp_path):
    layer = "base_model.model.transformer_blocks.0.attn1.to_q.lora_"
    content = {f"{layer}A.weight": torch.ones(4, 32), f"{layer}B.weight": torch.ones(32, 4)}
    source, target = tmp_path / "in" / "adapter_model.bin", tmp_path / "style.safetensors"
    source.parent.mkdir()
    torch.save(content, source)
    (source.parent / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 16}))
    convert(source, target, Conversion())
    shapes = matrix_shapes(inspect_checkpoint(folder).transformer_files)
    loras = LoraSet.read([Lora(target)], shapes)
    assert float(loras.delta(loras.modules[0])[0, 0]) == 16
    with safe_open(target, "pt") as file:
        assert file.metadata()["easyanimate.part"] == "lora"
    with pytest.raises(InputError, match="is a lora; fp8 is only for the transformer"):
        convert(source, tmp_path / "z.safetensors", Conversion(dtype="fp8"))
