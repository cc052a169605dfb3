"""Qwen2-VL from files in scaled fp8, scaled int8, plain fp8 and GGUF: encoder and prompt writer."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyanimate_core.errors import CheckpointError
from easyanimate_core.models.specs import Head, Version
from easyanimate_core.text import build_text_encoder
from easyanimate_core.text.chat import QWEN_CHAT
from easyanimate_core.text.enhance import Request, enhance_prompt
from easyanimate_core.text.single_file import (
    Vocabularies,
    text_encoder_from_files,
    writer_from_file,
)
from easyanimate_core.text.tokenize import load_qwen_tokenizer
from easyanimate_core.text.weights import Placement
from easyanimate_core.text.writer import read_writer
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.weights.stored import to_storage
from easyanimate_core.weights.stored.storage import as_tensors

FLOAT = Placement(torch.float32)
PROMPT = ["A dog shakes its head."]
FORMS = ("fp8", "fp8-channel", "int8", "plain fp8", "gguf")


def stored_as(tensors, form):
    """Matrices in fewer bits, those of the table of words and the vision tower too."""
    stored = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            stored[name] = tensor
        elif form == "plain fp8":
            stored[name] = tensor.to(torch.float8_e4m3fn)
        else:
            parts = as_tensors(name, to_storage(tensor, form))
            stored |= {key: part.contiguous() for key, part in parts.items()}
    return stored


def rounded(tensors, form):
    """The values that the file of this form has, in float32."""
    kept = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            kept[name] = tensor.float()
        elif form == "plain fp8":
            kept[name] = tensor.to(torch.float8_e4m3fn).float()
        elif form == "gguf":
            kept[name] = unpacked(tensor)
        else:
            kept[name] = to_storage(tensor, form).dequantize(torch.float32)
    return kept


def unpacked(tensor):
    from gguf import GGMLQuantizationType, quants

    if tensor.shape[1] % 32:
        return tensor.float()
    kind = GGMLQuantizationType.Q8_0
    packed = quants.quantize(tensor.float().numpy(), kind)
    return torch.from_numpy(quants.dequantize(packed, kind).copy())


def write(tensors, form, folder):
    """The file `model` in `folder`, in one of `FORMS`."""
    if form != "gguf":
        save_file(stored_as(tensors, form), folder / "model.safetensors")
        return folder / "model.safetensors"
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    writer = GGUFWriter(folder / "model.gguf", "easyanimate")
    for name, tensor in tensors.items():
        values = tensor.float().numpy()
        fits = tensor.ndim == 2 and tensor.shape[1] % 32 == 0
        kind = GGMLQuantizationType.Q8_0 if fits else GGMLQuantizationType.F32
        writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf"


def check(actual, same, plain):
    """Equal to what the rounded values give, and near to what the plain ones give."""
    torch.testing.assert_close(actual, same, atol=2e-4, rtol=2e-3)
    assert 0 < (actual - plain).norm() < 0.3 * plain.norm()


def logits(writer):
    return writer.network(input_ids=torch.arange(40).unsqueeze(0)).logits


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(
        tmp_path_factory.mktemp("tiny") / "it", version=Version.V5_1, head=Head.INPAINT
    )


@pytest.fixture(scope="module")
def plain(tiny):
    return read_writer(tiny, sees=True, placement=FLOAT)


def encoded(folder):
    encoder = build_text_encoder(folder, Version.V5_1, use_attention_mask=True, dtype=torch.float32)
    return encoder.encode(PROMPT).text


def with_weights(tiny, path, make):
    """A copy of the tiny checkpoint whose text encoder `make` writes."""
    shutil.copytree(tiny, path)
    file = path / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    make(tensors, path / "text_encoder")
    return path


@pytest.mark.parametrize("form", FORMS[:-1])
def test_a_folder_in_fewer_bits_encodes_and_writes(tiny, plain, form, tmp_path):
    fewer = with_weights(tiny, tmp_path / "fewer", lambda tensors, at: write(tensors, form, at))
    same = with_weights(
        tiny,
        tmp_path / "same",
        lambda tensors, at: save_file(rounded(tensors, form), at / "model.safetensors"),
    )
    check(encoded(fewer), encoded(same), encoded(tiny))
    writer = read_writer(fewer, sees=True, placement=FLOAT)
    wanted = read_writer(same, sees=True, placement=FLOAT)
    check(logits(writer), logits(wanted), logits(plain))
    picture = torch.rand(60, 60, 3, generator=torch.Generator().manual_seed(0))
    request = Request("A dog.", max_tokens=16)
    assert enhance_prompt(writer, request, picture) == enhance_prompt(wanted, request, picture)
    kept = read_writer(fewer, sees=False).network.get_input_embeddings().weight
    assert kept.dtype == torch.bfloat16


@pytest.fixture(scope="module")
def whole(tiny):
    """A single file of everything, with heads of the published size."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vocabulary = load_qwen_tokenizer(tiny / "tokenizer", chat=QWEN_CHAT).num_tokens
    config = Qwen2VLConfig.from_dict(
        {
            "hidden_size": 256,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "num_hidden_layers": 3,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "vocab_size": vocabulary,
            "vision_config": {"depth": 2, "embed_dim": 160, "hidden_size": 256, "num_heads": 2},
        }
    )
    torch.manual_seed(0)
    shapes = Qwen2VLForConditionalGeneration(config).state_dict()
    return {name: torch.randn(v.shape).to(torch.bfloat16) / 8 for name, v in shapes.items()}


@pytest.mark.parametrize("form", FORMS)
def test_a_single_file_in_fewer_bits_encodes_and_writes(tiny, whole, form, tmp_path):
    vocabulary = tiny / "tokenizer"
    fewer, same, full = write(whole, form, tmp_path), tmp_path / "same", tmp_path / "full"
    same, full = (path.with_suffix(".safetensors") for path in (same, full))
    save_file(rounded(whole, form), same)
    save_file(whole, full)

    def written(file, **more):
        placement = Placement(torch.float32, **more)
        return logits(writer_from_file(file, vocabulary, sees=True, placement=placement))

    def states(file):
        both = Vocabularies(vocabulary, vocabulary)
        encoder = text_encoder_from_files((file,), both, dtype_of=lambda _: torch.float32)
        return encoder.encode(PROMPT).text

    check(written(fewer), written(same), written(full))
    check(states(fewer), states(same), states(full))
    eight = written(fewer, quantization="qint8")
    assert (eight - written(full)).norm() < 0.35 * written(full).norm()


@pytest.mark.parametrize(
    ("part", "sees", "message"),
    [("lm_head", False, "no language head"), ("visual", True, "no vision tower")],
)
def test_a_single_file_without_a_part_says_so(tiny, whole, part, sees, message, tmp_path):
    stored = {k: v for k, v in stored_as(whole, "int8").items() if part not in k}
    save_file(stored, tmp_path / "file.safetensors")
    with pytest.raises(CheckpointError, match=message):
        writer_from_file(tmp_path / "file.safetensors", tiny / "tokenizer", sees=sees)
