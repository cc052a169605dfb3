"""A LoRA file's names and values: the weights that the original has after merging it."""

from easyanimate_core.lora import match_lora

TOLERANCE = 1e-5


def test_merged_weights(parity, assert_close):
    fixture = parity.read("lora.safetensors")
    weights = parity.read(fixture.meta["transformer"]).weights()
    lora, expected = fixture.group("lora"), fixture.group("outputs")
    modules = {name.removesuffix(".weight") for name in weights if name.endswith(".weight")}
    match = match_lora(lora, modules)
    assert not match.unmatched
    assert {f"{module}.weight" for module in match.modules} == set(expected)
    parts = {place: lora[name].float() for name, place in match.names.items()}
    for module in match.modules:
        down, up = parts[module, "lora_down.weight"], parts[module, "lora_up.weight"]
        rank = down.shape[0]  # without an alpha the scale is 1
        scale = fixture.meta["strength"] * float(parts.get((module, "alpha"), rank)) / rank
        merged = weights[f"{module}.weight"] + scale * up @ down
        assert_close(merged, expected[f"{module}.weight"], TOLERANCE, module)
