"""`convert`: round trips, formats, what is refused, and that a target is whole or not there."""

import json
import os
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from easyanimate_core.cli.main import main
from easyanimate_core.convert import (
    Conversion,
    Fidelity,
    convert,
    describe_file,
    open_source,
    probe,
    write_report,
)
from easyanimate_core.convert.options import DTYPES, PARTS
from easyanimate_core.convert.probe import PROBES
from easyanimate_core.errors import CheckpointError, EasyAnimateError, InputError
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.tasks import ImageToVideo
from easyanimate_core.weights.files import (
    inspect_checkpoint,
    key_maps_transformer,
    read_tensor_files,
)
from easyanimate_core.weights.files.detect import Layout
from easyanimate_core.weights.stored import STORAGE_FORMATS, may_be_quantized, to_storage
from tests.factories import V5, V5_1, lora_tensors, pixels, quick

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
LAYER = "transformer_blocks.0.attn1.to_q.weight"
SCALED = list(STORAGE_FORMATS)
GGUF_KINDS = {"q8_0": 0.008, "q5_1": 0.04, "q5_0": 0.06, "q4_1": 0.08, "q4_0": 0.12}


@pytest.fixture(scope="session")
def source(checkpoint):
    return checkpoint(V5_1, Head.INPAINT)


def tensors_of(path):
    files = read_tensor_files(path)
    mapped = files.map()
    return {name: mapped[name].clone() for name in files}


def check_equal(first, second):
    assert set(first) == set(second)
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype, name
        assert torch.equal(tensor, second[name]), name


def metadata_of(file):
    with safe_open(file, framework="pt") as opened:
        return opened.metadata()


def in_folder(path):
    return sorted(item.name for item in path.iterdir())


# Round trips


@pytest.mark.parametrize(
    ("part", "layout"),
    [
        ("transformer", None),
        ("transformer", Layout.DIFFUSERS),
        ("vae", None),
        ("text_encoder", None),
    ],
)
@pytest.mark.parametrize("shard", [None, 100_000])
def test_folder_file_folder_is_bit_exact(source, tmp_path, part, layout, shard):
    first = source / part
    if layout:
        convert(source, tmp_path / "start", Conversion(part=part, layout=layout))
        first = tmp_path / "start"
    result = convert(first, tmp_path / "one.safetensors", Conversion())
    convert(
        tmp_path / "one.safetensors",
        tmp_path / "back",
        Conversion(max_shard_bytes=shard),
    )
    assert result.layers == ()
    check_equal(tensors_of(tmp_path / "back"), tensors_of(first))
    stated = [json.loads((path / "config.json").read_text()) for path in (first, tmp_path / "back")]
    assert stated[0] == stated[1]
    assert (len(list((tmp_path / "back").glob("*.safetensors"))) > 1) == (shard is not None)


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2"])
def test_the_text_encoders_of_v5_go_round(checkpoint, tmp_path, part):
    folder = checkpoint(V5, Head.T2V)
    convert(folder, tmp_path / "one.safetensors", Conversion(part=part))
    single = load_file(tmp_path / "one.safetensors")
    if part == "text_encoder_2":
        model = (folder / "tokenizer_2" / "spiece.model").read_bytes()
        assert bytes(single.pop("spiece_model").tolist()) == model
    check_equal(single, tensors_of(folder / part))
    convert(tmp_path / "one.safetensors", tmp_path / "back", Conversion())
    check_equal(tensors_of(tmp_path / "back"), tensors_of(folder / part))


def test_a_single_file_makes_a_checkpoint_with_the_other_parts(checkpoint_copy, source, tmp_path):
    convert(source, tmp_path / "one.safetensors", Conversion())
    folder = checkpoint_copy(V5_1, Head.T2V)
    convert(tmp_path / "one.safetensors", folder / "transformer", Conversion(force=True))
    found, stated = inspect_checkpoint(folder), inspect_checkpoint(source)
    assert found.transformer == stated.transformer


def test_layouts_there_and_back(source, tmp_path):
    convert(source, tmp_path / "diffusers", Conversion(layout=Layout.DIFFUSERS))
    info = inspect_checkpoint(tmp_path / "diffusers")
    assert info.layout is Layout.DIFFUSERS
    convert(tmp_path / "diffusers", tmp_path / "original", Conversion(layout=Layout.ORIGINAL))
    assert inspect_checkpoint(tmp_path / "original").layout is Layout.ORIGINAL
    check_equal(
        tensors_of(tmp_path / "original" / "transformer"), tensors_of(source / "transformer")
    )


def test_fp32_and_back_is_exact(source, tmp_path):
    wide = convert(source, tmp_path / "wide.safetensors", Conversion(dtype="fp32"))
    assert wide.relative_rms == 0
    convert(tmp_path / "wide.safetensors", tmp_path / "back.safetensors", Conversion(dtype="bf16"))
    check_equal(load_file(tmp_path / "back.safetensors"), load_file(source / WEIGHTS))


def test_a_file_that_comfyui_saved_loses_its_prefix(source, tmp_path):
    plain = load_file(source / WEIGHTS)
    saved = {f"model.diffusion_model.{name}": tensor for name, tensor in plain.items()}
    saved["first_stage_model.x"] = torch.zeros(1)
    save_file(saved, tmp_path / "saved.safetensors")
    convert(tmp_path / "saved.safetensors", tmp_path / "one.safetensors", Conversion())
    check_equal(load_file(tmp_path / "one.safetensors"), plain)


# Whole checkpoints


@pytest.mark.parametrize("dtype", SCALED)
def test_a_whole_checkpoint_generates_nearly_the_same(source, tmp_path, dtype):
    shard = 50_000 if dtype == "int8" else None
    convert(source, tmp_path / "small", Conversion(dtype=dtype, max_shard_bytes=shard))
    results = [
        Pipeline.load(path).generate("A dog.", ImageToVideo(start=pixels(1)), quick()).latents
        for path in (source, tmp_path / "small")
    ]
    difference = ((results[1] - results[0]).norm() / results[0].norm()).item()
    assert 0 < difference < {"fp8": 0.03, "fp8-channel": 0.03, "int8": 0.01}[dtype]
    others = [p for p in source.rglob("*") if p.is_file() and p.parent.name != "transformer"]
    assert others
    for path in others:  # copies: editing one leaves the other as it is
        copy = tmp_path / "small" / path.relative_to(source)
        assert copy.read_bytes() == path.read_bytes()
        assert not copy.samefile(path)


# Formats


@pytest.mark.parametrize("dtype", SCALED)
def test_only_attention_and_feed_forward_are_quantised(source, tmp_path, dtype):
    result = convert(source, tmp_path / "one.safetensors", Conversion(dtype=dtype))
    written, plain = load_file(tmp_path / "one.safetensors"), load_file(source / WEIGHTS)
    quantised = {name for name, tensor in plain.items() if may_be_quantized(name, tensor.shape)}
    assert {layer.name for layer in result.layers} == quantised
    assert result.bytes_after == (tmp_path / "one.safetensors").stat().st_size
    for name, tensor in plain.items():
        if name not in quantised:
            assert torch.equal(written[name], tensor)
            continue
        expected = to_storage(tensor, dtype)
        assert torch.equal(written[name].float(), expected.values.float())
        scale = written[name.replace(".weight", ".weight_scale")]
        assert torch.equal(scale, expected.scale)
        note = bytes(written[name.replace(".weight", ".comfy_quant")].tolist())
        assert json.loads(note) == {"format": STORAGE_FORMATS[dtype].note}
    extra = set(written) - set(plain)
    assert len(extra) == 2 * len(quantised)


@pytest.mark.parametrize("dtype", SCALED)
def test_the_same_format_again_is_not_rounded_again(source, tmp_path, dtype):
    convert(source, tmp_path / "one.safetensors", Conversion(dtype=dtype))
    for other, wanted in (("two", dtype), ("three", "keep")):
        target = tmp_path / f"{other}.safetensors"
        assert convert(tmp_path / "one.safetensors", target, Conversion(dtype=wanted)).layers == ()
        check_equal(load_file(target), load_file(tmp_path / "one.safetensors"))


def test_errors_are_those_of_what_is_read_back(source, tmp_path):
    result = convert(source, tmp_path / "one.safetensors", Conversion(dtype="fp8-channel"))
    reader = open_source(tmp_path / "one.safetensors").open()
    plain = load_file(source / WEIGHTS)
    for layer in result.layers:
        before, after = plain[layer.name].float(), reader[layer.name].to(dtype=torch.float32)
        assert layer.relative_rms == pytest.approx(((after - before).norm() / before.norm()).item())
        assert layer.largest == pytest.approx((after - before).abs().max().item())
        cosine = torch.cosine_similarity(after.flatten(), before.flatten(), dim=0).item()
        assert layer.cosine == pytest.approx(cosine, abs=1e-6)
    assert [x.relative_rms for x in result.worst_first] == sorted(
        (x.relative_rms for x in result.layers), reverse=True
    )


@pytest.mark.parametrize("dtype", ["fp16", *SCALED])
def test_metadata_say_where_a_file_comes_from(source, tmp_path, dtype):
    convert(source, tmp_path / "one.safetensors", Conversion(dtype=dtype))
    metadata = metadata_of(tmp_path / "one.safetensors")
    assert metadata["easyanimate.source"] == source.name
    assert metadata["easyanimate.source_sha256"] == open_source(source).header_sha256()
    assert metadata["easyanimate.dtype"] == dtype
    assert metadata["easyanimate.version"] == "V5.1"
    assert metadata["easyanimate.head"] == "InP"
    assert metadata["modelspec.architecture"] == "easyanimate-v5.1-inp"
    stated = json.loads((source / "transformer" / "config.json").read_text())
    assert json.loads(metadata["easyanimate.config"]) == stated


def test_the_config_in_the_metadata_is_used(checkpoint_copy, tmp_path):
    """norm_eps is not told by any tensor."""
    folder = checkpoint_copy(V5_1, Head.T2V)
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"norm_eps": 1e-3}))
    convert(folder, tmp_path / "one.safetensors", Conversion())
    assert open_source(tmp_path / "one.safetensors").transformer.norm_eps == 1e-3


def test_describe_shows_a_single_file(source, tmp_path, capsys):
    convert(source, tmp_path / "one.safetensors", Conversion(dtype="int8"))
    assert main(["describe", str(tmp_path / "one.safetensors")]) == 0
    said = capsys.readouterr().out
    for part in ("EasyAnimate V5.1, 0.113M, InP head", "I8 ", "BF16 ", f"{source.name}\n"):
        assert part in said
    convert(source, tmp_path / "one.gguf", Conversion(dtype="q4_0"))
    facts = describe_file(tmp_path / "one.gguf")
    assert (facts["version"], facts["head"], facts["size"]) == ("V5.1", "InP", "0.113M")
    assert set(facts["dtypes"]) == {"Q4_0", "BF16"}
    assert facts["metadata"]["easyanimate.source"] == source.name


# GGUF


@pytest.mark.parametrize("dtype", GGUF_KINDS)
def test_gguf_is_what_the_library_makes_of_it(source, tmp_path, dtype):
    result = convert(source, tmp_path / "one.gguf", Conversion(dtype=dtype))
    assert 0 < result.relative_rms < GGUF_KINDS[dtype]
    plain = load_file(source / WEIGHTS)
    reader = gguf.GGUFReader(tmp_path / "one.gguf")
    assert reader.fields["general.architecture"].contents() == "easyanimate"
    assert reader.fields["easyanimate.head"].contents() == "InP"
    assert [tensor.name for tensor in reader.tensors] == list(plain)
    mine = open_source(tmp_path / "one.gguf").open()
    for tensor in reader.tensors:
        weight, shape = plain[tensor.name], tuple(reversed(tensor.shape.tolist()))
        assert shape == tuple(weight.shape)
        if not may_be_quantized(tensor.name, shape):
            assert tensor.tensor_type is gguf.GGMLQuantizationType.BF16
            assert torch.equal(mine[tensor.name], weight)
            continue
        assert tensor.tensor_type.name == dtype.upper()
        expected = gguf.quants.quantize(weight.float().numpy(), tensor.tensor_type)
        assert (tensor.data == expected).all()
        back = torch.from_numpy(gguf.quants.dequantize(expected, tensor.tensor_type))
        assert torch.equal(mine[tensor.name].to(dtype=torch.float32), back.reshape(shape))
        assert mine[tensor.name].shape == weight.shape


@pytest.mark.parametrize("dtype", ["keep", "bf16", "fp16", "fp32"])
def test_plain_gguf_goes_back_exactly(source, tmp_path, dtype):
    convert(source, tmp_path / "one.gguf", Conversion(dtype=dtype))
    convert(tmp_path / "one.gguf", tmp_path / "back", Conversion(dtype="bf16"))
    back, plain = tensors_of(tmp_path / "back"), load_file(source / WEIGHTS)
    for name, tensor in plain.items():
        lost = 1e-6 if dtype == "fp16" else 0  # float16's smallest numbers
        assert (back[name].float() - tensor.float()).abs().max() <= lost


def test_k_quants_of_other_programs_are_read(source, tmp_path):
    """The library cannot write them: random blocks are as good as any."""
    plain = load_file(source / WEIGHTS)
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "pig")
    kind = gguf.GGMLQuantizationType.Q4_K
    generator = torch.Generator().manual_seed(0)
    name, shape = "wide.weight", (4, 512)
    for other, tensor in plain.items():
        writer.add_tensor(other, tensor.float().numpy())
    blocks = torch.randint(0, 100, (4, 2 * 144), generator=generator, dtype=torch.uint8).numpy()
    writer.add_tensor(name, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    files = read_tensor_files(tmp_path / "one.gguf")
    assert files[name].dtype == "Q4_K"
    assert files[name].shape == shape
    expected = torch.from_numpy(gguf.quants.dequantize(blocks, kind))
    assert torch.equal(files.map()[name], expected)
    with pytest.raises(CheckpointError, match=r"1 unexpected: wide\.weight"):
        open_source(tmp_path / "one.gguf")


def test_rows_that_do_not_fill_blocks_stay_bf16(checkpoint_copy, tmp_path, monkeypatch):
    monkeypatch.setattr("easyanimate_core.convert.target._BLOCK", 64)
    folder = checkpoint_copy(V5_1, Head.T2V)
    result = convert(folder, tmp_path / "one.gguf", Conversion(dtype="q8_0"))
    assert any("not divisible by 32 and stay bf16" in note for note in result.notes)
    kinds = {x.name: x.tensor_type.name for x in gguf.GGUFReader(tmp_path / "one.gguf").tensors}
    assert kinds[LAYER] == "BF16"
    assert kinds["transformer_blocks.0.ff.net.2.weight"] == "Q8_0"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.9])
def test_a_truncated_gguf_is_refused(source, tmp_path, share):
    convert(source, tmp_path / "one.gguf", Conversion(dtype="q8_0"))
    data = (tmp_path / "one.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"cut\.gguf is not a valid GGUF file"):
        open_source(tmp_path / "cut.gguf")


# Refusals


def refused(source, target, said, **options):
    before = in_folder(target.parent)
    with pytest.raises(EasyAnimateError) as caught:
        convert(source, target, Conversion(**options))
    assert said in str(caught.value)
    assert in_folder(target.parent) == before


def test_what_does_not_fit_is_refused(source, tmp_path):
    one = tmp_path / "one.safetensors"
    refused(source, one, "q8_0 is a GGUF type", dtype="q8_0")
    refused(source, tmp_path / "one.gguf", "GGUF has no int8", dtype="int8")
    refused(source, one, "vae; fp8 is only for the transformer", part="vae", dtype="fp8")
    refused(source, tmp_path / "v.gguf", "vae; GGUF is only for the transformer", part="vae")
    refused(source, one, "the same in both layouts", part="vae", layout=Layout.DIFFUSERS)
    refused(source / "vae", one, "is a vae, not a transformer", part="transformer")
    refused(source, one, "Only a folder can have shards", max_shard_bytes=1000)
    refused(source, source / "vae" / "x", "overlap")
    refused(source, source, "overlap", force=True)
    refused(source / "vae", source, "overlap", force=True)
    refused(tmp_path / "nowhere", one, "does not exist")
    convert(source, tmp_path / "q.gguf", Conversion(dtype="q8_0"))
    refused(tmp_path / "q.gguf", one, "is stored as Q8_0")
    for options, said in (
        ({"dtype": "fp4"}, "dtype is 'fp4'; it must be one of keep"),
        ({"part": "unet"}, "part is 'unet'"),
        ({"max_shard_bytes": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=said):
            Conversion(**options)


def test_an_existing_target_needs_force(source, tmp_path):
    file, folder = tmp_path / "one.safetensors", tmp_path / "folder"
    for target in (file, folder):
        convert(source, target, Conversion())
        refused(source, target, "already exists. Name another output", dtype="fp32")
    convert(source, file, Conversion(dtype="fp32", force=True))
    assert load_file(file)[LAYER].dtype == torch.float32
    convert(source, folder, Conversion(dtype="fp32", force=True))
    assert load_file(folder / WEIGHTS)[LAYER].dtype == torch.float32
    (tmp_path / "dir.safetensors").mkdir()
    refused(source, tmp_path / "dir.safetensors", "is a folder; name a file", force=True)
    assert in_folder(tmp_path) == ["dir.safetensors", "folder", "one.safetensors"]


def test_fp16_overflow_is_refused_by_name(checkpoint_copy, tmp_path):
    folder = checkpoint_copy(V5_1, Head.T2V)
    tensors = load_file(folder / WEIGHTS)
    tensors["proj_out.bias"][3] = 70000
    tensors[LAYER][2, 2] = -1e9
    tensors["norm_final.weight"][0] = 65280  # the last bfloat16 that fits
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="2 tensors have values beyond 65504") as caught:
        convert(folder, tmp_path / "one.safetensors", Conversion(dtype="fp16"))
    assert "proj_out.bias" in str(caught.value)
    assert LAYER in str(caught.value)
    assert "norm_final" not in str(caught.value)
    assert in_folder(tmp_path) == ["copy"]


@pytest.mark.parametrize("stored", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float64])
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_casts_of_other_widths_are_converted(checkpoint_copy, tmp_path, stored, dtype):
    folder = checkpoint_copy(V5_1, Head.T2V)
    tensors = load_file(folder / WEIGHTS)
    tensors[LAYER] = tensors[LAYER].to(stored)
    save_file(tensors, folder / WEIGHTS)
    convert(folder, tmp_path / "one.safetensors", Conversion(dtype=dtype))
    found = load_file(tmp_path / "one.safetensors")[LAYER]
    plain = tensors[LAYER].float()
    wanted = plain.half() if dtype == "fp16" else to_storage(plain, dtype).values
    assert torch.equal(found, wanted)


def test_a_float64_beyond_float32_overflows_too(checkpoint_copy, tmp_path):
    folder = checkpoint_copy(V5_1, Head.T2V)
    tensors = load_file(folder / WEIGHTS)
    tensors[LAYER] = tensors[LAYER].double()
    tensors[LAYER][1, 1] = 1e300
    save_file(tensors, folder / WEIGHTS)
    refused(folder, tmp_path / "one.safetensors", "1 tensors have values beyond", dtype="fp16")


def test_a_weight_that_is_not_finite_is_named(checkpoint_copy, tmp_path):
    folder = checkpoint_copy(V5_1, Head.T2V)
    tensors = load_file(folder / WEIGHTS)
    tensors[LAYER][2, 2] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    for dtype in SCALED:
        refused(folder, tmp_path / "one.safetensors", f"{LAYER} cannot be quantised", dtype=dtype)


def test_a_full_disk_is_told_before(source, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("easyanimate_core.weights.files.writer.shutil.disk_usage", lambda _: usage)
    for name in ("one.safetensors", "one.gguf", "folder"):
        with pytest.raises(CheckpointError, match="GB are free on that disk"):
            convert(source, tmp_path / name, Conversion(part="transformer"))
    assert in_folder(tmp_path) == []


def test_a_source_that_is_not_complete_is_refused(checkpoint_copy, tmp_path):
    folder = checkpoint_copy(V5_1, Head.T2V)
    tensors = load_file(folder / WEIGHTS)
    del tensors[LAYER]
    save_file(tensors, folder / WEIGHTS)
    refused(folder, tmp_path / "one.safetensors", f"1 missing: {LAYER}")


def test_a_vae_without_config_makes_no_folder(source, tmp_path):
    convert(source, tmp_path / "vae.safetensors", Conversion(part="vae"))
    save_file(load_file(tmp_path / "vae.safetensors"), tmp_path / "bare.safetensors")
    refused(tmp_path / "bare.safetensors", tmp_path / "vae", "has no config")


# Whole or not there


@pytest.mark.parametrize("target", ["one.safetensors", "one.gguf", "folder"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_stop_leaves_nothing(source, tmp_path, target, error):
    def stop(_, done, total):
        if done == total // 2:
            raise error("stopped")

    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else EasyAnimateError):
        convert(source, tmp_path / target, Conversion(), progress=stop)
    assert in_folder(tmp_path) == []


def test_a_stop_keeps_what_was_to_be_replaced(source, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    for target in (tmp_path / "one.safetensors", tmp_path / "folder"):
        convert(source, target, Conversion())
        with pytest.raises(KeyboardInterrupt):
            convert(source, target, Conversion(dtype="fp32", force=True), progress=stop)
    check_equal(load_file(tmp_path / "one.safetensors"), load_file(source / WEIGHTS))
    check_equal(load_file(tmp_path / "folder" / WEIGHTS), load_file(source / WEIGHTS))
    assert in_folder(tmp_path) == ["folder", "one.safetensors"]


_KILLED = """
import sys, time
from easyanimate_core.convert import Conversion, convert

def wait(stage, done, total):
    if done == total // 2:
        print("half", flush=True)
        time.sleep(60)

convert(sys.argv[1], sys.argv[2], Conversion(), progress=wait)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_process_leaves_nothing_under_the_name(source, tmp_path):
    target = tmp_path / "one.safetensors"
    command = [sys.executable, "-c", _KILLED, str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    assert all(name.endswith(".part") for name in in_folder(tmp_path))


# Memory

_PEAK = """
import sys
from pathlib import Path
from easyanimate_core.convert import Conversion, convert

convert(sys.argv[1], sys.argv[2], Conversion(dtype=sys.argv[3]))
status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory too
print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read on Linux")
def test_memory_does_not_grow_with_the_checkpoint(large, tmp_path):
    """0.8 GB in 1 GB, of which the libraries take 0.45 and the maps of the source 0.3."""
    size = sum(file.stat().st_size for file in (large / "transformer").glob("*.safetensors"))
    # Freed tensors go back at once, so a peak is of live memory.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
    for dtype, name in (("fp8-channel", "one.safetensors"), ("keep", "copy")):
        command = [sys.executable, "-c", _PEAK, str(large / "transformer"), tmp_path / name, dtype]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        assert int(done.stdout) < size + 0.2e9


@pytest.fixture
def large(tmp_path):
    """A denoiser of 0.8 GB of zeros in two shards."""
    config = {
        "in_channels": 16, "out_channels": 16, "num_attention_heads": 16, "attention_head_dim": 64,
        "num_layers": 16, "mmdit_layers": 8, "time_embed_dim": 512, "text_embed_dim": 3584,
    }  # fmt: skip
    from easyanimate_core.models.specs import TransformerConfig
    from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel

    network = EasyAnimateTransformer3DModel(TransformerConfig(**config), device="meta")
    folder = tmp_path / "large" / "transformer"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = list(network.state_dict().items())
    for number, half in enumerate((weights[::2], weights[1::2]), start=1):
        file = folder / f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
        header, end = {}, 0
        for name, tensor in half:
            begin, end = end, end + 2 * tensor.numel()
            shape = list(tensor.shape)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        with file.open("wb") as opened:
            opened.write(struct.pack("<Q", len(text)) + text)
            opened.truncate(8 + len(text) + end)  # zeros, which take no room on the disk
    return folder.parent


# Reports


def test_a_probe_of_equals_is_exact(source, tmp_path):
    convert(source, tmp_path / "one.safetensors", Conversion())
    result = probe(source, tmp_path / "one.safetensors", how="frames")
    assert result.cosine == pytest.approx((1, 1, 1), abs=1e-9)
    assert result.psnr == (float("inf"),) * 3
    assert result.frames_psnr == float("inf")


@pytest.mark.parametrize(("version", "head"), [(V5_1, Head.CAMERA), (V5, Head.CONTROL)])
def test_a_probe_orders_the_formats(checkpoint, tmp_path, version, head):
    folder = checkpoint(version, head)
    found = {}
    for name, dtype in (("a.safetensors", "int8"), ("b.safetensors", "fp8"), ("c.gguf", "q4_0")):
        convert(folder, tmp_path / name, Conversion(dtype=dtype))
        found[dtype] = probe(folder, tmp_path / name)
    for values in zip(*(result.psnr for result in found.values()), strict=True):
        assert list(values) == sorted(values, reverse=True)
    assert found["int8"].frames_psnr > found["q4_0"].frames_psnr > 20
    assert min(found["fp8"].cosine) > 0.99


def test_a_probe_gives_the_networks_own_predictions(source):
    """Streaming layer by layer is the same as loading."""
    from easyanimate_core.convert.probe import _inputs, streamed
    from easyanimate_core.weights.loading import load_transformer

    opened = open_source(source)
    latents, given = _inputs(opened.transformer, 2, (1, 8, 8))
    times = torch.tensor([900.0, 100.0])
    loaded = load_transformer(inspect_checkpoint(source), dtype=torch.float32)
    network = streamed(opened, opened.transformer)
    with torch.inference_mode():
        assert torch.equal(network(latents, times, **given), loaded(latents, times, **given))
    assert all(parameter.is_meta for parameter in network.parameters())


def test_what_a_probe_cannot_compare(source, tmp_path):
    convert(source, tmp_path / "vae.safetensors", Conversion(part="vae"))
    assert probe(source, tmp_path / "vae.safetensors", part="vae") is None
    assert probe(source, source, how="none") is None
    with pytest.raises(InputError, match="has no VAE to decode frames"):
        probe(source / "transformer", source / "transformer", how="frames")
    with pytest.raises(InputError, match="probe is 'all'"):
        probe(source, source, how="all")


@pytest.fixture(scope="module")
def fidelity(source, tmp_path_factory) -> Fidelity:
    target = tmp_path_factory.mktemp("fidelity") / "one.gguf"
    result = convert(source, target, Conversion(dtype="q4_0"))
    return replace(result, probe=probe(source, target))


def test_reports(fidelity, tmp_path):
    picture = write_report(fidelity, tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text()
    names = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if "| Q4_0 |" in line]
    assert names == [layer.name for layer in fidelity.worst_first]
    assert "Decoded frames: PSNR" in text
    assert "(report.png)" in text
    with Image.open(picture) as opened:
        assert opened.width == 1000
        assert len(opened.getcolors(1 << 24)) > 2

    write_report(fidelity, tmp_path / "report.json")
    value = json.loads((tmp_path / "report.json").read_text())
    assert value["layers"][0]["name"] == names[0]
    assert value["bytes_after"] == fidelity.bytes_after
    assert value["probe"]["timesteps"] == [900, 500, 100]
    with pytest.raises(InputError, match=r"must end in \.md or \.json"):
        write_report(fidelity, tmp_path / "report.txt")


def test_a_report_of_equals_has_no_picture_and_is_json(fidelity, tmp_path):
    exact = replace(fidelity, layers=(), probe=replace(fidelity.probe, psnr=(float("inf"),) * 3))
    assert write_report(exact, tmp_path / "report.json") is None
    text = (tmp_path / "report.json").read_text()
    assert "Infinity" not in text
    assert json.loads(text)["probe"]["psnr"] == [None] * 3


# Command line


def test_the_command(source, tmp_path, capsys):
    target, report = tmp_path / "folder", tmp_path / "report.md"
    command = ["convert", str(source), str(target), "--dtype", "int8", "--max-shard-size", "0.1MB"]
    assert main([*command, "--layout", "diffusers", "--report", str(report)]) == 0
    said = capsys.readouterr().out
    for part in ("transformer: ", "weights changed, relative error", "predictions: cosine", "PSNR"):
        assert part in said
    assert report.is_file()
    assert report.with_suffix(".png").is_file()
    assert len(inspect_checkpoint(target).transformer_files.files) > 1
    assert main(command) == 2
    assert "already exists. Name another output" in capsys.readouterr().err
    assert main([*command[:2], str(tmp_path / "x"), "--report", "x.txt"]) == 2
    assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit):
        main(["convert", "a", "b", "--max-shard-size", "many"])
    assert "'many' is not a size" in capsys.readouterr().err


def test_the_commands_choices_are_the_librarys():
    from easyanimate_core.cli.main import build_parser

    subparsers = next(a for a in build_parser()._actions if a.dest == "command")
    options = {action.dest: action.choices for action in subparsers.choices["convert"]._actions}
    assert tuple(options["dtype"]) == DTYPES
    assert tuple(options["part"]) == PARTS
    assert set(options["probe"]) == set(PROBES)
    assert options["layout"] == tuple(layout.value for layout in Layout)


def test_other_layouts_load_in_diffusers(source, tmp_path):
    """The folder is diffusers' own: nothing missing, nothing left over."""
    import diffusers

    convert(source, tmp_path / "d", Conversion(part="transformer", layout=Layout.DIFFUSERS))
    network, report = diffusers.EasyAnimateTransformer3DModel.from_pretrained(
        tmp_path / "d", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    name = key_maps_transformer.to_diffusers("transformer_blocks.0.attn2.to_q.weight")
    expected = load_file(source / WEIGHTS)["transformer_blocks.0.attn2.to_q.weight"]
    assert torch.equal(network.state_dict()[name], expected.float())


# LoRAs


def test_a_lora_is_renamed_for_comfyuis_own_loaders(tmp_path, capsys):
    tensors = lora_tensors({LAYER.removesuffix(".weight"): (8, 8)})
    save_file(tensors, tmp_path / "old.safetensors", {"ss_network_alpha": "2"})
    assert main(["convert", str(tmp_path / "old.safetensors"), str(tmp_path / "new.safetensors")])\
        == 0  # fmt: skip
    assert "Renamed for ComfyUI's own LoRA loaders: 3 keys" in capsys.readouterr().out
    made = load_file(tmp_path / "new.safetensors")
    assert made.keys() == {name.replace("lora_unet__", "lora_unet_") for name in tensors}
    for name, tensor in tensors.items():
        assert torch.equal(made[name.replace("lora_unet__", "lora_unet_")], tensor)
    assert read_tensor_files(tmp_path / "new.safetensors").metadata["ss_network_alpha"] == "2"

    again = convert(tmp_path / "new.safetensors", tmp_path / "again.safetensors", Conversion())
    assert again.notes == ()


def test_a_lora_with_both_spellings_is_refused(tmp_path):
    tensors = lora_tensors({LAYER.removesuffix(".weight"): (8, 8)})
    both = tensors | {name.replace("t__", "t_"): value + 1 for name, value in tensors.items()}
    save_file(both, tmp_path / "both.safetensors")
    with pytest.raises(CheckpointError, match="has both lora_unet_"):
        convert(tmp_path / "both.safetensors", tmp_path / "new.safetensors", Conversion())
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize("name", ["lora_unet___x.alpha", "lora_unet__.alpha", "lora_unet__x__y"])
def test_underscores_of_a_lora_name(tmp_path, name):
    save_file({f"{name}.lora_up.weight": torch.ones(2, 2)}, tmp_path / "odd.safetensors")
    convert(tmp_path / "odd.safetensors", tmp_path / "new.safetensors", Conversion())
    (made,) = load_file(tmp_path / "new.safetensors")
    assert made == f"lora_unet_{name.removeprefix('lora_unet_').lstrip('_')}.lora_up.weight"
