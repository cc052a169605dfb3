"""Text encoders and VAEs from single files, described by their tensors."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyanimate_core.errors import CheckpointError
from easyanimate_core.models.specs import Head, VAEConfig, Version
from easyanimate_core.models.vae import AutoencoderKLMagvit
from easyanimate_core.text import build_text_encoder
from easyanimate_core.text.single_file import (
    Vocabularies,
    text_encoder_from_files,
    text_encoder_version,
)
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.weights.files import read_tensor_files, read_vae_config

PROMPTS = ["A dog shakes its head.", "一只可爱的小狗"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    return {v: make_tiny(root / v.value, version=v, head=Head.T2V) for v in Version}


@pytest.fixture(scope="module")
def vocabularies(folders):
    return Vocabularies(folders[Version.V5_1] / "tokenizer", folders[Version.V5] / "tokenizer")


def random(network, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = network.state_dict()
    return {k: torch.randn(v.shape, generator=generator) / 8 for k, v in shapes.items()}


def read(files, vocabularies):
    return text_encoder_from_files(files, vocabularies, dtype_of=lambda _: torch.float32)


def test_qwen_from_one_file(folders, vocabularies, tmp_path):
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    tiny = build_text_encoder(
        folders[Version.V5_1], Version.V5_1, use_attention_mask=True, dtype=torch.float32
    )
    config = Qwen2VLConfig.from_dict(
        {
            "hidden_size": 256,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "num_hidden_layers": 3,
            "rms_norm_eps": 1e-6,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "rope_theta": 1e6,
            "vocab_size": tiny.tokenizer.num_tokens,
            "image_token_id": 151655,  # transformers 4.50 has no default of its own
            "video_token_id": 151656,
            "vision_start_token_id": 151652,
            "vision_config": {"depth": 1, "embed_dim": 16, "hidden_size": 256, "num_heads": 2},
        }
    )
    with torch.device("meta"):
        network = Qwen2VLForConditionalGeneration(config)
    tensors = {k: v for k, v in random(network, 0).items() if ".visual." not in k}
    tensors = {k.replace("model.language_model.", "model."): v for k, v in tensors.items()}
    save_file(tensors, tmp_path / "qwen.safetensors")
    encoder = read((tmp_path / "qwen.safetensors",), vocabularies)

    whole = Qwen2VLForConditionalGeneration(config)
    whole.load_state_dict(random(network, 0))
    chats = [encoder.chat(prompt) for prompt in PROMPTS]
    assert chats == [tiny.chat(prompt) for prompt in PROMPTS]
    tokens = encoder.tokenizer.tokenize(chats)
    expected = whole.eval()(
        input_ids=tokens.ids, attention_mask=tokens.mask, output_hidden_states=True
    )
    actual = encoder.encode(PROMPTS)
    torch.testing.assert_close(actual.text, expected.hidden_states[-2], atol=1e-4, rtol=0)


def test_bert_and_t5_from_two_files(folders, vocabularies, tmp_path):
    from transformers import BertConfig, BertModel

    folder = folders[Version.V5]
    table = read_tensor_files(folder / "text_encoder")["embeddings.word_embeddings.weight"]
    bert = BertModel(
        BertConfig(
            hidden_size=64,
            intermediate_size=32,
            num_attention_heads=1,
            num_hidden_layers=2,
            max_position_embeddings=128,
            vocab_size=table.shape[0],
        )
    )
    tensors = random(bert, 1)
    save_file({f"bert.{k}": v for k, v in tensors.items()}, tmp_path / "bert.safetensors")
    t5 = load_file(next((folder / "text_encoder_2").glob("*.safetensors")))
    spiece = (folder / "tokenizer_2" / "spiece.model").read_bytes()
    t5["spiece_model"] = torch.frombuffer(bytearray(spiece), dtype=torch.uint8)
    save_file(t5, tmp_path / "mt5.safetensors")

    files = (tmp_path / "mt5.safetensors", tmp_path / "bert.safetensors")
    actual = read(files, vocabularies).encode(PROMPTS)
    tiny = build_text_encoder(folder, Version.V5, use_attention_mask=False, dtype=torch.float32)
    torch.testing.assert_close(actual.text_t5, tiny.encode(PROMPTS).text_t5, atol=1e-5, rtol=0)
    bert.load_state_dict(tensors)
    tokens = tiny.bert.tokenizer.tokenize(PROMPTS)
    expected = bert.eval()(input_ids=tokens.ids).last_hidden_state
    torch.testing.assert_close(actual.text, expected, atol=1e-5, rtol=0)

    with pytest.raises(
        CheckpointError, match="do not make up the text encoder of one EasyAnimate version"
    ):
        read(files[:1], vocabularies)
    del t5["spiece_model"]
    save_file(t5, tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match="does not contain spiece_model"):
        read((tmp_path / "plain.safetensors", files[1]), vocabularies)


def test_other_files_are_no_text_encoder():
    with pytest.raises(CheckpointError, match="not a text encoder"):
        text_encoder_version({"proj.weight": None})


@pytest.mark.parametrize("version", list(Version))
def test_vae_config_from_tensors(version, tmp_path):
    config = VAEConfig(
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        spatial_group_norm=version is Version.V5_1,
    )
    network = AutoencoderKLMagvit(config, device=torch.device("meta"))
    save_file(random(network, 0), tmp_path / "vae.safetensors")
    tensors = read_tensor_files(tmp_path / "vae.safetensors")
    assert read_vae_config(tmp_path / "vae.safetensors", tensors, version) == config


def test_another_vae_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"is not an EasyAnimate V5 or V5\.1 VAE"):
        read_vae_config(tmp_path / "sd.safetensors", {}, Version.V5)
