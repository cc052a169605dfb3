"""Text encoders read from checkpoint folders: against transformers' own models, and refusals."""

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.models.specs import Head, Version
from easyanimate_core.text import QwenTextEncoder, build_text_encoder
from easyanimate_core.tiny.checkpoint import make_tiny

PROMPTS = ["A dog shakes its head.", "", "一只可爱的小狗, <|im_end|> 😀"]
LONG = "the quick brown fox " * 200


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    return {v: make_tiny(root / v.value, version=v, head=Head.T2V) for v in Version}


@pytest.fixture
def copy_of(folders, tmp_path):
    """A copy of a tiny folder that a test may damage."""

    def copy(version):
        return shutil.copytree(folders[version], tmp_path / "copy")

    return copy


def _build(folder, version, **options):
    options.setdefault("use_attention_mask", version is Version.V5_1)
    return build_text_encoder(folder, version, **options)


def _rewrite(path, change):
    """Change the tensors of a safetensors file; `change` returns the new ones."""
    save_file(change(load_file(path)), path)


def test_qwen_equals_the_whole_model_of_transformers(folders):
    from transformers import Qwen2VLForConditionalGeneration

    folder = folders[Version.V5_1]
    encoder = _build(folder, Version.V5_1, dtype=torch.float32)
    whole = Qwen2VLForConditionalGeneration.from_pretrained(
        folder / "text_encoder", torch_dtype=torch.float32
    )
    tokens = encoder.tokenizer.tokenize([encoder.chat(prompt) for prompt in PROMPTS])
    expected = whole(input_ids=tokens.ids, attention_mask=tokens.mask, output_hidden_states=True)
    actual = encoder.encode(PROMPTS)
    torch.testing.assert_close(actual.text, expected.hidden_states[-2], atol=1e-5, rtol=0)
    assert torch.equal(actual.mask, tokens.mask)
    assert len(encoder.network.layers) == len(whole.model.language_model.layers) - 1
    assert actual.text.shape == (3, 256, 32)


@pytest.mark.parametrize("use_attention_mask", [True, False])
def test_bert_and_t5_equal_transformers(folders, use_attention_mask):
    from transformers import BertModel, MT5EncoderModel

    folder = folders[Version.V5]
    encoder = _build(folder, Version.V5, dtype=torch.float32, use_attention_mask=use_attention_mask)
    actual = encoder.encode(PROMPTS)
    cases = (
        (BertModel, "text_encoder", encoder.bert, actual.text),
        (MT5EncoderModel, "text_encoder_2", encoder.t5, actual.text_t5),
    )
    for network_class, name, reader, text in cases:
        network = network_class.from_pretrained(folder / name, torch_dtype=torch.float32)
        tokens = reader.tokenizer.tokenize(PROMPTS)
        mask = tokens.mask if use_attention_mask else None
        expected = network(input_ids=tokens.ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(text, expected, atol=1e-5, rtol=0)
    assert actual.text.shape == (3, 77, 32)
    assert actual.text_t5.shape == (3, 256, 24)


def test_each_prompt_is_its_own_chat(folders):
    encoder = _build(folders[Version.V5_1], Version.V5_1, dtype=torch.float32)
    batch = encoder.encode(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(batch.text[row : row + 1], encoder.encode([prompt]).text)


def test_removed_words_are_reported(folders, caplog):
    qwen = _build(folders[Version.V5_1], Version.V5_1)
    with caplog.at_level(logging.WARNING, logger="easyanimate_core"):
        found = qwen.encode([LONG, "short"])
    assert found.truncated[1] == ""
    assert 0 < len(found.truncated[0]) < len(LONG)
    assert LONG.strip().endswith(found.truncated[0])
    assert found.truncated[0] in caplog.text
    v5 = _build(folders[Version.V5], Version.V5).encode([LONG, "short"])
    assert v5.truncated[1] == v5.truncated_t5[1] == ""
    assert LONG.strip().endswith(v5.truncated[0])
    assert LONG.strip().endswith(v5.truncated_t5[0])
    assert len(v5.truncated[0]) > len(v5.truncated_t5[0]) > 0


def test_a_chat_cut_inside_the_template_loses_no_words(folders):
    """ "!" is one token, so the lengths around the limit can be met exactly."""
    qwen = _build(folders[Version.V5_1], Version.V5_1)
    room = 256 - int(qwen.encode([""]).mask.sum())
    whole, cut = qwen.encode(["!" * room]), qwen.encode(["!" * (room + 1)])
    assert int(whole.mask.sum()) == int(cut.mask.sum()) == 256
    assert whole.truncated == cut.truncated == ("",)
    end = qwen.chat("!").rpartition("!")[2]
    num_end = int(qwen.tokenizer.tokenize([end]).mask.sum())
    assert qwen.encode(["!" * (room + num_end + 5)]).truncated == ("!" * 5,)


def test_t5_in_float16_keeps_its_output_projection_in_float32(folders):
    encoder = _build(folders[Version.V5], Version.V5, dtype=torch.float16)
    dtypes = {name: p.dtype for name, p in encoder.t5.network.named_parameters()}
    assert {d for n, d in dtypes.items() if ".wo." in n} == {torch.float32}
    assert {d for n, d in dtypes.items() if ".wo." not in n} == {torch.float16}
    assert encoder.encode(PROMPTS).text_t5.isfinite().all()


@pytest.mark.parametrize("version", list(Version))
def test_stored_dtype_is_kept_and_progress_reported(folders, version):
    calls = []
    encoder = _build(folders[version], version, progress=lambda *call: calls.append(call))
    assert {p.dtype for n in encoder.networks for p in n.parameters()} == {torch.bfloat16}
    assert {stage for stage, _, _ in calls} == {"load"}
    assert sum(done == total for _, done, total in calls) == len(encoder.networks)


def test_shards_and_newer_names_read_alike(copy_of, folders):
    expected = _build(folders[Version.V5_1], Version.V5_1).encode(PROMPTS).text
    folder = copy_of(Version.V5_1) / "text_encoder"
    tensors = load((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for index, (key, tensor) in enumerate(tensors.items()):
        new = key if key.startswith("lm_head") else "model." + key.removeprefix("model.")
        new = new.replace("model.", "model.language_model.") if "visual" not in new else new
        shard = f"model-0000{index % 2 + 1}-of-00002.safetensors"
        weight_map[new] = (shard, tensor)
    for shard in sorted({shard for shard, _ in weight_map.values()}):
        save_file({k: t for k, (s, t) in weight_map.items() if s == shard}, folder / shard)
    index = {"weight_map": {key: shard for key, (shard, _) in weight_map.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(_build(folder.parent, Version.V5_1).encode(PROMPTS).text, expected)

    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        _build(folder.parent, Version.V5_1)


def test_t5_table_is_read_under_either_name(copy_of, folders):
    expected = _build(folders[Version.V5], Version.V5).encode(PROMPTS).text_t5
    folder = copy_of(Version.V5)

    def rename(tensors):
        tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
        return tensors

    _rewrite(folder / "text_encoder_2" / "model.safetensors", rename)
    assert torch.equal(_build(folder, Version.V5).encode(PROMPTS).text_t5, expected)


def test_missing_unexpected_and_misshapen_tensors_are_named(copy_of):
    folder = copy_of(Version.V5_1)

    def damage(tensors):
        del tensors["model.layers.0.mlp.up_proj.weight"]
        tensors["model.layers.7.extra"] = torch.zeros(1)
        tensors["model.embed_tokens.weight"] = torch.zeros(3, 32)
        return tensors

    _rewrite(folder / "text_encoder" / "model.safetensors", damage)
    with pytest.raises(CheckpointError) as caught:
        _build(folder, Version.V5_1)
    for part in (
        "missing: layers.0.mlp.up_proj.weight",
        "unexpected: layers.7.extra",
        "of the wrong shape: embed_tokens.weight is (3, 32)",
    ):
        assert part in str(caught.value)


def test_mixed_dtypes_need_a_choice(copy_of):
    folder = copy_of(Version.V5_1)

    def widen(tensors):
        key = "model.embed_tokens.weight"
        return {**tensors, key: tensors[key].float()}

    _rewrite(folder / "text_encoder" / "model.safetensors", widen)
    with pytest.raises(CheckpointError, match="bfloat16, float32"):
        _build(folder, Version.V5_1)
    assert _build(folder, Version.V5_1, dtype=torch.float32).encode([""]).text.isfinite().all()


def test_pickled_weights_are_refused(copy_of):
    folder = copy_of(Version.V5)
    weights = folder / "text_encoder_2" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        _build(folder, Version.V5)


@pytest.mark.parametrize(
    ("version", "file"),
    [
        (Version.V5_1, "tokenizer/merges.txt"),
        (Version.V5_1, "tokenizer/tokenizer_config.json"),
        (Version.V5, "tokenizer/vocab.txt"),
        (Version.V5, "tokenizer_2/spiece.model"),
        (Version.V5, "text_encoder_2/config.json"),
        (Version.V5, "text_encoder/model.safetensors"),
    ],
)
def test_missing_and_damaged_files_are_named(copy_of, version, file):
    folder = copy_of(version)
    path = folder / file
    path.write_bytes(b"{ damaged \xff")
    if file != "tokenizer/vocab.txt":  # any text is a valid WordPiece list
        with pytest.raises(CheckpointError, match=path.parent.name):
            _build(folder, version)
    path.unlink()
    with pytest.raises(CheckpointError) as caught:
        _build(folder, version)
    assert str(path.parent) in str(caught.value)
    assert path.suffix in str(caught.value)


def test_a_tokenizer_without_chat_template_is_refused(copy_of):
    path = copy_of(Version.V5_1) / "tokenizer" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["chat_template"]
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="chat template"):
        _build(path.parents[1], Version.V5_1)


def test_folders_that_do_not_belong_together_are_refused(copy_of, folders):
    with pytest.raises(CheckpointError, match="model_type 'bert'"):
        _build(folders[Version.V5], Version.V5_1)
    with pytest.raises(CheckpointError, match="enable_text_attention_mask"):
        _build(folders[Version.V5_1], Version.V5_1, use_attention_mask=False)
    vocabulary = copy_of(Version.V5) / "tokenizer" / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="same one"):
        _build(vocabulary.parents[1], Version.V5)


@pytest.mark.parametrize("prompts", ["a string", [], [None]])
def test_prompts_must_be_a_list_of_strings(folders, prompts):
    encoder = _build(folders[Version.V5_1], Version.V5_1)
    assert isinstance(encoder, QwenTextEncoder)
    with pytest.raises(InputError, match="prompts"):
        encoder.encode(prompts)
