"""LoRA names of every habit, and files that do not fit."""

import pytest
import torch
from safetensors.torch import save_file

from easyanimate_core.errors import CheckpointError
from easyanimate_core.weights.lora import Lora, match_lora, read_lora

BLOCK = "transformer_blocks.0."
MODULES = (f"{BLOCK}attn1.to_q", f"{BLOCK}attn2.to_q", f"{BLOCK}attn1.to_out.0", f"{BLOCK}ff.net.2")
FLAT = "transformer_blocks_0_"


@pytest.mark.parametrize(
    ("name", "module", "rest"),
    [
        (f"lora_unet__{FLAT}attn1_to_q.lora_down.weight", "attn1.to_q", "lora_down.weight"),
        (f"lora_unet_{FLAT}attn1_to_out_0.alpha", "attn1.to_out.0", "alpha"),
        (f"lora_unet_{FLAT}attn1_add_q_proj.lora_up.weight", "attn2.to_q", "lora_up.weight"),
        (f"transformer.{BLOCK}attn1.to_q.lora_A.weight", "attn1.to_q", "lora_A.weight"),
        (f"transformer.{BLOCK}attn1.add_q_proj.lora_B.weight", "attn2.to_q", "lora_B.weight"),
        (f"diffusion_model.{BLOCK}ff.net.2.lora_A.weight", "ff.net.2", "lora_A.weight"),
        (f"base_model.model.{BLOCK}ff.net.2.lora_A.default.weight", "ff.net.2", "lora_A.weight"),
        (f"{BLOCK}attn2.to_q.lora_down.weight", "attn2.to_q", "lora_down.weight"),
        (
            f"transformer.base_model.model.{BLOCK}attn1.to_q.lora.up.weight",
            "attn1.to_q",
            "lora.up.weight",
        ),
    ],
)
def test_names_of_every_habit(name, module, rest):
    match = match_lora([name], MODULES)
    assert match.names == {name: (BLOCK + module, rest)}
    assert not match.unmatched


def test_report_counts_keys_layers_and_text():
    names = [f"lora_unet_{FLAT}attn1_to_q.{part}" for part in ("alpha", "lora_up.weight")]
    match = match_lora([*names, "lora_te_layer.alpha", "lora_unet_other.alpha"], MODULES)
    assert match.modules == {f"{BLOCK}attn1.to_q"}
    assert match.unmatched == ("lora_unet_other.alpha",)
    assert match.report() == (
        "2 of 3 keys matched, 1 layer is changed. 1 key of a text encoder is not used."
    )


UP = f"lora_unet_{FLAT}attn1_to_q.lora_up.weight"


@pytest.mark.parametrize("name", ["lora_unet_down_blocks_0.alpha", UP.replace("q.", "q_."),
                                  UP.replace("attn1_", "attn1__")])  # fmt: skip
def test_a_file_that_fits_nothing_is_refused(name):
    match = match_lora([name], MODULES)
    with pytest.raises(CheckpointError, match=r"No key of sd\.safetensors fits"):
        match.check("sd.safetensors", partial=True)


def test_a_partial_match_is_refused_unless_allowed():
    match = match_lora([UP, UP.replace("_0_", "_40_")], MODULES)
    with pytest.raises(CheckpointError, match=r"fits 1 key of big.safetensors .*12B"):
        match.check("big.safetensors", partial=False)
    match.check("big.safetensors", partial=True)


@pytest.mark.parametrize(("up", "down"), [((16, 2), (2, 8)), ((8, 2), (2, 16))])
def test_another_width_is_refused(tmp_path, up, down):
    file = tmp_path / "wide.safetensors"
    save_file({UP: torch.zeros(up), UP.replace("_up", "_down"): torch.zeros(down)}, file)
    said = rf"_q.lora_down.weight of wide.safetensors .* make \({up[0]}, {down[1]}\), but"
    with pytest.raises(CheckpointError, match=rf"{said} the layer is \(8, 8\)"):
        read_lora(Lora(file), dict.fromkeys(MODULES, (8, 8)))
