"""The text encoders against the original pipelines' prompt encoding."""

import json
import os
from unicodedata import normalize

import pytest
import torch

from easyanimate_core.doctor.runs import prompts_of, text_encoder_v5
from easyanimate_core.text import Placement, load_qwen_tokenizer, qwen_from_tensors
from tests.conftest import SHARED

TOLERANCE = 1e-4


def _read_qwen(parity):
    """The 5 MB file lies beside the project's own fixtures, not among them."""
    if "EASYANIMATE_PARITY" in os.environ:
        return parity.read("text/qwen2vl.safetensors")
    return type(parity)(SHARED / "parity").read("text/qwen2vl.safetensors")


def ends_as_mt5_reads(prompt, cut):
    """sentencepiece normalises a prompt, and decodes what it does not know as " ⁇ "."""
    rest = normalize("NFKC", " ".join(prompt.split()))
    known = cut.split(" ⁇ ")
    if not rest.endswith(known[-1]):
        return False
    for part in reversed(known):
        rest, found, _ = rest.rpartition(part) if part else (rest, True, "")
        if not found:
            return False
    return True


def test_qwen2vl(parity, assert_close):
    fixture = _read_qwen(parity)
    folder = SHARED / fixture.meta["tokenizer"]
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: the real tokenizer is not part of the project")
    tokenizer = load_qwen_tokenizer(folder)
    encoder = qwen_from_tensors(fixture.meta["config"], fixture.weights(), tokenizer)
    expected = fixture.group("outputs")
    cases = prompts_of(fixture)
    batch = encoder.encode([prompt for _, prompt in cases])
    for row, (name, prompt) in enumerate(cases):
        single = encoder.encode([prompt])
        if f"{name}.input_ids" in expected:
            ids = tokenizer.tokenize([encoder.chat(prompt)]).ids
            assert torch.equal(ids.int(), expected[f"{name}.input_ids"]), f"ids of prompt {name}"
            read = tokenizer.backend.decode(expected[f"{name}.input_ids"][0])
            # Qwen's tokenizer composes accents.
            whole = normalize("NFC", prompt.strip()) in read
            assert whole == (single.truncated[0] == "")
        assert torch.equal(single.mask.int(), expected[f"{name}.attention_mask"])
        assert_close(single.text, expected[f"{name}.embeds"], TOLERANCE, f"prompt {name}")
        assert_close(batch.text[row : row + 1], single.text, 1e-5, f"prompt {name} in the batch")
        assert torch.equal(batch.mask[row], single.mask[0])
        assert batch.truncated[row] == single.truncated[0]
        assert prompt.rstrip().endswith(single.truncated[0])
        assert single.mask.all() or single.truncated[0] == ""


def test_bert_t5(parity, assert_close):
    fixture = parity.read("text/bert_t5.safetensors")
    encoder = text_encoder_v5(fixture, Placement())
    expected = fixture.group("outputs")
    cases = prompts_of(fixture)
    batch = encoder.encode([prompt for _, prompt in cases])
    for row, (name, prompt) in enumerate(cases):
        single = encoder.encode([prompt])
        if f"{name}.bert_mask" in expected:
            assert torch.equal(single.mask.int(), expected[f"{name}.bert_mask"])
            assert torch.equal(single.mask_t5.int(), expected[f"{name}.t5_mask"])
        for network, text, in_batch in (
            ("bert", single.text, batch.text),
            ("t5", single.text_t5, batch.text_t5),
        ):
            assert_close(text, expected[f"{name}.{network}"], TOLERANCE, f"{network} {name}")
            assert_close(in_batch[row : row + 1], text, 1e-5, f"{network} {name} in the batch")
        assert prompt.rstrip().endswith(single.truncated[0])
        assert ends_as_mt5_reads(prompt, single.truncated_t5[0])
        longer = encoder.encode([f"{prompt} fox"])
        for mask, cut, cut_of_longer in (
            (single.mask, single.truncated[0], longer.truncated[0]),
            (single.mask_t5, single.truncated_t5[0], longer.truncated_t5[0]),
        ):
            if mask.all():  # there is no room for another word
                assert cut_of_longer.split() == [*cut.split(), "fox"]
            else:
                assert cut == ""
        assert batch.truncated[row] == single.truncated[0]
        assert batch.truncated_t5[row] == single.truncated_t5[0]


def test_real_config_is_read():
    """The published 7B folder has the flat config of transformers 4.41."""
    from transformers import Qwen2VLConfig

    path = SHARED / "checkpoints" / "EasyAnimateV5.1-7b-zh-Control" / "text_encoder" / "config.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the real folder is not part of the project")
    config = Qwen2VLConfig.from_dict(json.loads(path.read_text())).get_text_config()
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (
        3584,
        28,
        28,
    )
    assert config.rope_parameters["mrope_section"] == [16, 24, 24]
    assert config.rope_parameters["rope_theta"] == 1e6
    assert set(config.layer_types) == {"full_attention"}
