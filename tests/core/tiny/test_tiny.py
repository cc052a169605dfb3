"""Tiny checkpoints: complete, repeatable, refused where they would overwrite something."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

from easyanimate_core.errors import InputError
from easyanimate_core.models.specs import Head, TransformerConfig, VAEConfig, Version
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.models.vae.model import AutoencoderKLMagvit
from easyanimate_core.text import build_text_encoder
from easyanimate_core.text.tokenize import load_qwen_tokenizer
from easyanimate_core.tiny.checkpoint import make_tiny
from tests.conftest import SHARED

TEXTS = ["A dog, 3 cats & Zoë!", "一只可爱的小狗。", "", "\n\t 😀 \x00 ﷽", "x" * 3000]
HEADS = [
    (Version.V5, Head.T2V, True, 16),
    (Version.V5, Head.INPAINT, True, 33),
    (Version.V5, Head.CONTROL, True, 32),
    (Version.V5_1, Head.T2V, True, 16),
    (Version.V5_1, Head.INPAINT, True, 33),
    (Version.V5_1, Head.CONTROL, True, 48),
    (Version.V5_1, Head.CONTROL, False, 32),
    (Version.V5_1, Head.CAMERA, True, 38),
    (Version.V5_1, Head.CAMERA, False, 22),
]


def _contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _load(folder, network_class, config_class):
    config = config_class.from_dict(json.loads((folder / "config.json").read_text()))
    network = network_class(config, device=torch.device("meta"))
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    network.load_state_dict({k: v.float() for k, v in weights.items()}, assign=True)
    return network


@pytest.mark.parametrize(("version", "head", "reference", "channels"), HEADS)
def test_every_head_runs(tmp_path, version, head, reference, channels):
    folder = make_tiny(tmp_path / "new", version=version, head=head, reference=reference)
    denoiser = _load(folder / "transformer", EasyAnimateTransformer3DModel, TransformerConfig)
    config = denoiser.config
    assert (config.in_channels, config.head, config.version) == (channels, head, version)
    encoder = build_text_encoder(
        folder, version, use_attention_mask=config.enable_text_attention_mask, dtype=torch.float32
    )
    text = encoder.encode(TEXTS[:1])
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 2, 4, 6, generator=generator)
    condition = torch.randn(1, channels - 16, 2, 4, 6, generator=generator)
    velocity = denoiser(
        latents,
        torch.tensor([500.0]),
        text.text,
        text_t5=text.text_t5,
        condition=condition if channels > 16 else None,
    )
    assert velocity.shape == latents.shape
    assert 0.1 < velocity.std() < 10
    assert sum(map(len, _contents(folder).values())) < 2_000_000


@pytest.mark.parametrize("version", list(Version))
def test_vae_and_scheduler_fit_the_version(tmp_path, version):
    folder = make_tiny(tmp_path / "new", version=version, head=Head.T2V)
    vae = _load(folder / "vae", AutoencoderKLMagvit, VAEConfig)
    assert vae.config.spatial_group_norm == (version is Version.V5_1)
    video = torch.randn(1, 3, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    latents = vae.encode(video).mode()
    assert latents.shape == (1, 16, 2, 2, 3)
    frames = vae.decode(latents)
    assert frames.shape == video.shape
    assert 0.01 < frames.std() < 10
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    if version is Version.V5:
        assert scheduler["prediction_type"] == version.prediction_type
    else:
        assert scheduler["_class_name"].startswith("FlowMatch")


@pytest.mark.parametrize("version", list(Version))
def test_same_arguments_same_bytes(tmp_path, version):
    first = make_tiny(tmp_path / "a", version=version, head=Head.T2V)
    again = make_tiny(tmp_path / "b", version=version, head=Head.T2V)
    other = make_tiny(tmp_path / "c", version=version, head=Head.T2V, seed=1)
    assert _contents(first) == _contents(again)
    changed = {path for path, data in _contents(other).items() if data != _contents(first)[path]}
    assert {path.suffix for path in changed} == {".safetensors"}


@pytest.mark.parametrize("version", list(Version))
def test_any_text_is_read(tmp_path, version):
    folder = make_tiny(tmp_path / "new", version=version, head=Head.T2V)
    encoder = build_text_encoder(folder, version, use_attention_mask=version is Version.V5_1)
    embedding = encoder.encode(TEXTS)
    assert embedding.text.isfinite().all()
    assert embedding.mask.sum(1)[2] < embedding.mask.sum(1)[0]


def test_text_survives_the_byte_level_tokenizer(tmp_path):
    folder = make_tiny(tmp_path / "new", version=Version.V5_1, head=Head.T2V)
    backend = load_qwen_tokenizer(folder / "tokenizer").backend
    for text in TEXTS:
        assert backend.decode(backend(text)["input_ids"]) == text


def test_chat_is_that_of_the_published_tokenizer(tmp_path):
    folder = SHARED / "checkpoints" / "EasyAnimateV5.1-7b-zh-Control" / "tokenizer"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: the real tokenizer is not part of the project")
    tiny = make_tiny(tmp_path / "new", version=Version.V5_1, head=Head.T2V)
    real, ours = (load_qwen_tokenizer(path).backend for path in (folder, tiny / "tokenizer"))
    system = {"role": "system", "content": "Be brief."}
    for text in TEXTS:
        user = {"role": "user", "content": [{"type": "text", "text": text}]}
        for messages in ([user], [system, user]):
            for start in (True, False):
                chats = [
                    t.apply_chat_template(messages, tokenize=False, add_generation_prompt=start)
                    for t in (real, ours)
                ]
                assert chats[0] == chats[1]


def test_tensors_are_named_as_in_the_published_folder(tmp_path):
    name = "EasyAnimateV5.1-7b-zh-Control/text_encoder/model.safetensors.index.json"
    index = SHARED / "checkpoints" / name
    if not index.is_file():
        pytest.skip(f"{index} is not there: the real folder is not part of the project")
    tiny = make_tiny(tmp_path / "new", version=Version.V5_1, head=Head.T2V)
    ours = load_file(tiny / "text_encoder" / "model.safetensors")
    real = json.loads(index.read_text())["weight_map"]
    kinds = [{re.sub(r"\.\d+\.", ".N.", key) for key in names} for names in (real, ours)]
    assert kinds[0] == kinds[1]


def test_transformers_reads_the_folder_without_leftovers(tmp_path):
    from transformers import Qwen2VLForConditionalGeneration

    folder = make_tiny(tmp_path / "new", version=Version.V5_1, head=Head.T2V)
    _, info = Qwen2VLForConditionalGeneration.from_pretrained(
        folder / "text_encoder", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_an_earlier_tiny_folder_is_replaced_and_nothing_is_left_over(tmp_path):
    path = make_tiny(tmp_path / "new", version=Version.V5, head=Head.T2V)
    make_tiny(path, version=Version.V5_1, head=Head.CONTROL)
    assert not (path / "tokenizer_2").exists()
    assert [child.name for child in tmp_path.iterdir()] == ["new"]


def test_other_folders_are_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    make_tiny(tmp_path / "mine", version=Version.V5, head=Head.T2V)  # empty folders are fine
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="not empty"):
        make_tiny(other, version=Version.V5, head=Head.T2V)
    with pytest.raises(InputError, match="is a file"):
        make_tiny(other / "model_index.json", version=Version.V5, head=Head.T2V)
    assert [child.name for child in other.iterdir()] == ["model_index.json"]


def test_v5_has_no_camera_head(tmp_path):
    with pytest.raises(InputError, match="Control-Camera"):
        make_tiny(tmp_path / "new", version=Version.V5, head=Head.CAMERA)
    assert not (tmp_path / "new").exists()
