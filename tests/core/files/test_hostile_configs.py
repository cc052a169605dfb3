"""What a checkpoint's small files may not do: cost without end, run code, or end in a traceback."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyanimate_core.errors import CheckpointError, SchedulerError
from easyanimate_core.models.specs import Head, TransformerConfig, VAEConfig
from easyanimate_core.sampling.schedulers import make_schedule
from easyanimate_core.text import build_text_encoder
from easyanimate_core.text.chat import BARE_TEMPLATE, QWEN_CHAT, QWEN_TEMPLATE, chat_of
from easyanimate_core.text.tokenize import (
    load_bert_tokenizer,
    load_qwen_tokenizer,
    load_t5_tokenizer,
)
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.files.foreign import load_foreign
from tests.factories import V5, V5_1
from tests.training.preparation.tiny_vision_models import write_clip


def change_json(path: Path, **changes) -> Path:
    """A file of JSON with some keys changed; a key that is None goes."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return path


def encoder_of(folder, version=V5_1):
    return build_text_encoder(folder, version, use_attention_mask=version is V5_1)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("in_channels", 10**9, "a whole number from 1 to 1,024"),
        ("num_layers", 10**9, "a whole number from 1 to 512"),
        ("num_layers", -1, "a whole number from 1 to 512"),
        ("num_layers", "3", "a whole number"),
        ("num_layers", 3.0, "a whole number"),
        ("num_layers", [3], "a whole number"),
        ("num_attention_heads", 10**60, "a whole number"),
        ("patch_size", 10**9, "a whole number from 1 to 16"),
        ("patch_size", 0, "a whole number from 1 to 16"),
        ("patch_size", True, "a whole number"),
        ("mmdit_layers", {}, "a whole number"),
        ("text_embed_dim_t5", "24", "a whole number from 1 to 65,536, or null"),
        ("norm_eps", "1e-5", "a number from 0 to 1"),
        ("after_norm", 1, "true or false"),
        ("sample_width", {"a": 1}, "a whole number"),
    ],
)
def test_a_denoisers_value_is_refused_by_its_name(checkpoint_copy, name, value, rule):
    folder = checkpoint_copy(V5_1, Head.INPAINT)
    change_json(folder / "transformer" / "config.json", **{name: value})
    begun = time.monotonic()
    with pytest.raises(CheckpointError, match=rf"has {name} = .*; it must be {rule}"):
        inspect_checkpoint(folder)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("block_out_channels", 5, "a list of 1 to 16 values"),
        ("block_out_channels", [10**9] * 4, "a list of 1 to 16 values"),
        ("block_out_channels", "abcd", "a list of 1 to 16 values"),
        ("latent_channels", None, "they are from different checkpoints"),
        ("layers_per_block", 10**9, "a whole number from 1 to 64"),
        ("scaling_factor", "x", "a number from"),
        ("mini_batch_encoder", [], "a whole number"),
        ("down_block_types", 7, "down_block_types = 7"),
        ("down_block_types", {"a": 1}, "This is another model"),
    ],
)
def test_a_vaes_value_is_refused_by_its_name(checkpoint_copy, name, value, said):
    folder = checkpoint_copy(V5_1, Head.T2V)
    if value is None:
        value = 8
    change_json(folder / "vae" / "config.json", **{name: value})
    with pytest.raises(CheckpointError, match=said):
        inspect_checkpoint(folder)


def test_sizes_that_tensors_tell_are_bounded_too():
    with pytest.raises(CheckpointError, match="num_layers = 100000"):
        TransformerConfig(in_channels=16, num_layers=100_000)
    with pytest.raises(CheckpointError, match="out_channels = 32 and in_channels = 16"):
        TransformerConfig(in_channels=16, out_channels=32)
    with pytest.raises(CheckpointError, match="norm_num_groups"):
        VAEConfig(norm_num_groups=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested too deeply"),
        ('{"in_channels": ' + "9" * 5000 + "}", "a number has 5000 digits"),
        ('{"in_channels": 16, "in_channels": 33}', "appears twice, with different values"),
        ("[16]", "holds a list, not a JSON object"),
        ('{"in_channels": NaN}', "not finite"),
    ],
)
def test_a_config_that_is_no_config_is_refused(checkpoint_copy, content, said):
    path = checkpoint_copy(V5_1, Head.T2V) / "transformer" / "config.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=said):
        inspect_checkpoint(path.parents[1])


def test_a_config_that_notepad_saved_is_read(checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V)
    before = inspect_checkpoint(folder)
    for path in [p for p in folder.rglob("*config.json") if p.parent.name != "tokenizer"]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert inspect_checkpoint(folder).transformer == before.transformer
    encoder_of(folder)
    path.write_text(path.read_text("utf-8-sig"), "utf-16")
    with pytest.raises(CheckpointError, match="Save it as UTF-8"):
        inspect_checkpoint(folder), encoder_of(folder)


@pytest.mark.parametrize(
    "changes", [{"beta_end": 1e60}, {"beta_start": -1}, {"beta_start": 0.5, "beta_end": 0.1}]
)
def test_a_schedule_that_leaves_its_range_is_refused(checkpoint_copy, changes):
    folder = checkpoint_copy(V5, Head.T2V)
    change_json(folder / "scheduler" / "scheduler_config.json", **changes)
    with pytest.raises(SchedulerError, match=r"sets beta_start to .*must be"):
        make_schedule("DDIM", inspect_checkpoint(folder).scheduler, steps=2)


# Text encoders


@pytest.mark.parametrize(
    ("version", "part", "changes", "said"),
    [
        (V5_1, "text_encoder", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000"),
        (V5_1, "text_encoder", {"hidden_size": "32"}, "hidden_size = '32'"),
        (V5_1, "text_encoder", {"hidden_size": 33}, "each must be a multiple of the next"),
        (V5_1, "text_encoder", {"rope_scaling": None}, "mrope_section = "),
        (V5_1, "text_encoder", {"rope_scaling": {"mrope_section": [1, 1, 1]}}, "its sum must be"),
        (V5_1, "text_encoder", {"rope_scaling": [1]}, "it must be an object"),
        (V5_1, "text_encoder", {"hidden_act": "os.system"}, "it must be 'silu'"),
        (V5, "text_encoder", {"vocab_size": 10**12}, "vocab_size = 1000000000000"),
        (V5, "text_encoder", {"max_position_embeddings": 10}, "pads to 77 tokens"),
        (V5, "text_encoder", {"is_decoder": True}, "it must be False"),
        (V5, "text_encoder_2", {"d_model": [1]}, "d_model = "),
        (V5, "text_encoder_2", {"feed_forward_proj": "x"}, "it must be 'relu'"),
        (V5, "text_encoder_2", {"relative_attention_max_distance": 8}, "it must be above"),
    ],
)
def test_a_text_encoders_value_is_refused_by_its_name(
    checkpoint_copy, version, part, changes, said
):
    folder = checkpoint_copy(version, Head.T2V)
    change_json(folder / part / "config.json", **changes)
    with pytest.raises(CheckpointError, match=said):
        encoder_of(folder, version)


def test_whole_numbers_are_read_where_fractions_are_meant(checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V)
    change_json(folder / "text_encoder" / "config.json", rope_theta=10_000, rms_norm_eps=0)
    assert encoder_of(folder).encode(["a dog"]).text.isfinite().all()


def test_code_that_a_folder_names_never_runs(checkpoint_copy, tmp_path):
    folder = checkpoint_copy(V5_1, Head.T2V)
    before = encoder_of(folder).encode(["a dog"]).text
    mark = tmp_path / "it-ran"
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    auto = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil"] * 2}
    for part in ("text_encoder", "tokenizer", "transformer", "vae", "."):
        (folder / part / "evil.py").write_text(code + "class Evil: pass\n")
        (folder / part / "__init__.py").write_text(code)
    change_json(folder / "text_encoder" / "config.json", auto_map=auto, trust_remote_code=True,
                _attn_implementation="someone/kernels:evil", quantization_config={"x": "evil.Evil"},
                architectures=["evil.Evil"])  # fmt: skip
    change_json(folder / "tokenizer" / "tokenizer_config.json", auto_map=auto,
                trust_remote_code=True, tokenizer_class="evil.Evil")  # fmt: skip
    for name in ("transformer", "vae"):
        change_json(folder / name / "config.json", auto_map=auto, _class_name="evil.Evil")
    inspect_checkpoint(folder)
    assert torch.equal(encoder_of(folder).encode(["a dog"]).text, before)
    assert not mark.exists()


def test_models_of_others_keep_their_code_to_themselves(tmp_path):
    from transformers import AutoProcessor, CLIPModel

    folder = write_clip(tmp_path / "clip")
    mark = tmp_path / "it-ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    names = ("config.json", "preprocessor_config.json", "processor_config.json")
    for path in (folder / name for name in names if (folder / name).is_file()):
        change_json(path, auto_map={"AutoModel": "evil.E", "AutoProcessor": "evil.E"})
    load_foreign(CLIPModel, folder, use_safetensors=True)
    load_foreign(AutoProcessor, folder)
    assert not mark.exists()
    for changes, said in (
        ({"_attn_implementation": "a/b:c"}, "refers to code on a hub"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000"),
        ({"text_config": {"hidden_size": 10**12}}, "larger than anything in a network"),
        ({"text_config": 5}, "cannot be loaded"),
    ):
        broken = shutil.copytree(folder, tmp_path / "broken", dirs_exist_ok=True)
        change_json(broken / "config.json", **changes)
        with pytest.raises(CheckpointError, match=said):
            load_foreign(CLIPModel, broken, use_safetensors=True)


# Chats and tokenizers


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% set x = namespace(v='a') %}{% for i in range(60) %}{% set x.v = x.v ~ x.v %}"
        "{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{{ messages.__class__.__mro__ }}",
        QWEN_TEMPLATE + " ",
    ],
)
@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_template_that_is_not_known_is_never_run(checkpoint_copy, template, place):
    folder = checkpoint_copy(V5_1, Head.T2V)
    if place.endswith(".jinja"):
        (folder / "tokenizer" / place).write_text(template)
    else:
        change_json(folder / "tokenizer" / place, chat_template=template)
    begun = time.monotonic()
    with pytest.raises(CheckpointError, match=r"chat template that no EasyAnimate.*published"):
        load_qwen_tokenizer(folder / "tokenizer")
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("template", [QWEN_TEMPLATE, BARE_TEMPLATE])
def test_the_known_chats_are_what_their_templates_make(checkpoint, template):
    backend = load_qwen_tokenizer(checkpoint(V5_1, Head.T2V) / "tokenizer").backend
    for prompt in ("", "a dog\n  runs ", "{{ 7 * 7 }} {% raw %} <|im_end|> 好"):
        messages = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        made = backend.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        assert chat_of(template, "here")(prompt) == made
    assert chat_of({"default": QWEN_TEMPLATE}, "here") == QWEN_CHAT


def whole_tokenizer(folder: Path) -> Path:
    """The tokenizer's folder with all of it in tokenizer.json."""
    config = (folder / "tokenizer_config.json").read_bytes()
    load_qwen_tokenizer(folder).backend.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_bytes(config)
    return folder / "tokenizer.json"


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}},
        {"normalizer": {"type": "Sequence", "normalizers": []}},
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(a+)+$"},
                "behavior": "Isolated",
            }
        },
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 100}},
        {"post_processor": {"type": "TemplateProcessing", "single": [1] * 1000, "pair": []}},
        {"decoder": 5},
        {"decoder": {"type": {"type": "ByteLevel"}}},
        {"model": {"type": "Unigram", "vocab": []}},
        {"model": None},
    ],
)
def test_a_tokenizer_of_other_steps_is_refused(checkpoint_copy, changes):
    folder = checkpoint_copy(V5_1, Head.T2V) / "tokenizer"
    path = whole_tokenizer(folder)
    load_qwen_tokenizer(folder)
    change_json(path, **changes)
    with pytest.raises(CheckpointError, match="is not the published tokenizer"):
        load_qwen_tokenizer(folder)


def test_tokenizers_that_are_damaged_are_refused(checkpoint_copy):
    qwen = checkpoint_copy(V5_1, Head.T2V, "new") / "tokenizer"
    old = checkpoint_copy(V5, Head.T2V, "old")
    for path, content, load in (
        (qwen / "vocab.json", "[1]", load_qwen_tokenizer),
        (qwen / "vocab.json", '{"a": -5}', load_qwen_tokenizer),
        (qwen / "merges.txt", "a b c d\n", load_qwen_tokenizer),
        (qwen / "tokenizer_config.json", '{"model_max_length": "x"}', load_qwen_tokenizer),
        (qwen / "tokenizer_config.json", '{"model_max_length": -1}', load_qwen_tokenizer),
        (old / "tokenizer" / "vocab.txt", "\udcff\udc80", load_bert_tokenizer),
        (old / "tokenizer_2" / "spiece.model", "\x0a\x05", load_t5_tokenizer),
        (old / "tokenizer_2" / "tokenizer_config.json", "{" * 9999, load_t5_tokenizer),
    ):
        whole = path.read_bytes()
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(CheckpointError, match=path.parent.name):
            load(path.parent)
        path.write_bytes(whole)
        load(path.parent)


def test_a_vocabulary_with_holes_does_not_reach_beyond_the_table(checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V)
    path = folder / "tokenizer" / "vocab.json"
    vocabulary = json.loads(path.read_text())
    last = list(vocabulary)[-1]
    path.write_text(json.dumps(vocabulary | {last: 10**6}))
    with pytest.raises(CheckpointError, match=r"has 1000001 tokens|cannot be read"):
        encoder_of(folder)


def test_weights_of_a_width_that_is_none_are_refused(checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V)
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["transformer_blocks.0.attn1.norm_q.weight"] = torch.zeros(0)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="are not an EasyAnimate"):
        inspect_checkpoint(folder)
