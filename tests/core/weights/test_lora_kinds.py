"""LoRA files as programs write them: kinds, names, alpha outside of the tensors, odd values."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyanimate_core.cli.main import main
from easyanimate_core.errors import CheckpointError
from easyanimate_core.models.ops import ManualCast
from easyanimate_core.models.specs import Head
from easyanimate_core.weights.files import inspect_checkpoint, read_denoiser_files
from easyanimate_core.weights.lora import Lora, LoraSet, attached, matrix_shapes, merge_loras
from easyanimate_core.weights.stored import QuantizedLinear, quantize
from tests.factories import V5_1

LAYER = "transformer_blocks.0.attn1.to_q"
FLAT = f"lora_unet_{LAYER.replace('.', '_')}"
SIDE, RANK = 32, 4


@pytest.fixture(scope="module")
def files(checkpoint):
    return inspect_checkpoint(checkpoint(V5_1, Head.T2V)).transformer_files


@pytest.fixture(scope="module")
def shapes(files):
    return matrix_shapes(files)


@pytest.fixture(scope="module")
def weight(files):
    return files.map()[f"{LAYER}.weight"].float()


@pytest.fixture
def lora(tmp_path):
    """`lora(tensors, **metadata)`: a file of these tensors."""

    def write(tensors, name="x.safetensors", **metadata):
        save_file(tensors, tmp_path / name, metadata or None)
        return Lora(tmp_path / name)

    return write


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 4


DOWN, UP = random(RANK, SIDE), random(SIDE, RANK, seed=1)


def pair(prefix=f"transformer.{LAYER}.", down="lora_A.weight", up="lora_B.weight"):
    return {prefix + down: DOWN.clone(), prefix + up: UP.clone()}


def close(found, wanted):
    return bool((found - wanted).abs().max() < 1e-5 * wanted.abs().max())


# Kinds: what they add to the weight, written out


def loha(rank):
    parts = [random(SIDE, rank, seed=n) if n % 2 else random(rank, SIDE, seed=n) for n in range(4)]
    one_b, one_a, two_b, two_a = parts
    tensors = {f"{FLAT}.hada_w1_a": one_a, f"{FLAT}.hada_w1_b": one_b}
    tensors |= {f"{FLAT}.hada_w2_a": two_a, f"{FLAT}.hada_w2_b": two_b}
    tensors[f"{FLAT}.alpha"] = torch.tensor(2.0)
    return tensors, lambda _: 2.0 / rank * (one_a @ one_b) * (two_a @ two_b)


def lokr_whole():
    first, second = random(4, 8), random(8, 4, seed=1)
    tensors = {f"{FLAT}.lokr_w1": first, f"{FLAT}.lokr_w2": second}
    tensors[f"{FLAT}.alpha"] = torch.tensor(1e10)  # LyCORIS's sign for a scale of 1
    return tensors, lambda _: torch.kron(first, second)


def lokr_in_factors():
    first, left, right = random(4, 8), random(8, 2, seed=1), random(2, 4, seed=2)
    tensors = {f"{FLAT}.lokr_w1": first, f"{FLAT}.lokr_w2_a": left, f"{FLAT}.lokr_w2_b": right}
    tensors[f"{FLAT}.alpha"] = torch.tensor(1.0)
    return tensors, lambda _: torch.kron(first, left @ right) / 2


def dora_of_peft():
    lengths = random(SIDE, seed=3).abs() + 1
    tensors = pair(f"base_model.model.{LAYER}.")
    tensors[f"base_model.model.{LAYER}.lora_magnitude_vector"] = lengths

    def change(weight):
        whole = weight + UP @ DOWN
        return whole / whole.norm(dim=1, keepdim=True) * lengths[:, None] - weight

    return tensors, change


def dora_by_columns():
    lengths = random(1, SIDE, seed=3).abs() + 1
    tensors = pair(f"{FLAT}.", "lora_down.weight", "lora_up.weight")
    tensors |= {f"{FLAT}.dora_scale": lengths, f"{FLAT}.alpha": torch.tensor(2.0)}

    def change(weight):
        whole = weight + 0.5 * UP @ DOWN
        return whole / whole.norm(dim=0, keepdim=True) * lengths - weight

    return tensors, change


def difference():
    change = random(SIDE, SIDE)
    return {f"diffusion_model.{LAYER}.diff": change}, lambda _: change


KINDS = [loha(1), loha(8), lokr_whole(), lokr_in_factors(), dora_of_peft(), dora_by_columns(),
         difference()]  # fmt: skip
NAMES = ["loha", "loha of a high rank", "lokr", "lokr in factors", "dora", "dora by columns",
         "diff"]  # fmt: skip


@pytest.mark.parametrize(("tensors", "change"), KINDS, ids=NAMES)
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_kinds_that_are_plain_arithmetic(
    files, shapes, weight, lora, tmp_path, tensors, change, strength
):
    """The same on the weight, in a merged file and beside a layer."""
    used = [Lora(lora(tensors).path, strength)]
    loras, wanted = LoraSet.read(used, shapes), strength * change(weight)
    assert close(loras.delta(LAYER, weight), wanted)
    merge_loras(files, used, tmp_path / "merged.safetensors", dtype=torch.float32)
    assert close(load_file(tmp_path / "merged.safetensors")[f"{LAYER}.weight"], weight + wanted)
    layer, x = ManualCast.Linear(SIDE, SIDE), random(2, 5, SIDE, seed=9)
    layer.weight.data, layer.bias.data = weight.clone(), random(SIDE, seed=8)
    assert close(beside(layer, loras, x), x @ (weight + wanted).T + layer.bias)


def beside(layer, loras, x):
    """The output of a layer of the denoiser's name, with the LoRAs attached."""
    network = torch.nn.Module()
    parent = network
    *parents, child = LAYER.split(".")
    for name in parents:
        setattr(parent, name, torch.nn.Module())
        parent = getattr(parent, name)
    setattr(parent, child, layer)
    with attached(network, loras, device=torch.device("cpu"), dtype=torch.float32):
        found = layer(x)
    assert not layer.branches
    return found


@pytest.mark.parametrize(("tensors", "change"), KINDS[-3:-1], ids=NAMES[-3:-1])
def test_dora_beside_a_quantized_layer(shapes, weight, lora, tensors, change):
    layer = QuantizedLinear(SIDE, SIDE, bias=False)
    layer.weight = torch.nn.Parameter(quantize(weight, "qint8"), requires_grad=False)
    stored, x = layer.weight.dequantize(), random(3, SIDE, seed=9)
    found = beside(layer, LoraSet.read([lora(tensors)], shapes), x)
    assert close(found, x @ (stored + change(stored)).T)


def test_kinds_add_up(shapes, weight, lora):
    one, two = lora(KINDS[4][0], "1.safetensors"), lora(KINDS[0][0], "2.safetensors")
    both = LoraSet.read([one, two], shapes)
    assert close(both.delta(LAYER, weight), KINDS[4][1](weight) + KINDS[0][1](weight))
    layer, x = ManualCast.Linear(SIDE, SIDE, bias=False), random(5, SIDE, seed=9)
    layer.weight.data = weight.clone()
    assert close(beside(layer, both, x), x @ (weight + both.delta(LAYER, weight)).T)


def test_a_bias_is_changed(files, shapes, lora, tmp_path):
    bias = random(SIDE)
    used = [Lora(lora(pair() | {f"transformer.{LAYER}.diff_b": bias}).path, 0.5)]
    merge_loras(files, used, tmp_path / "merged.safetensors", dtype=torch.float32)
    before = files.map()[f"{LAYER}.bias"].float()
    assert close(load_file(tmp_path / "merged.safetensors")[f"{LAYER}.bias"], before + 0.5 * bias)
    layer, x = ManualCast.Linear(SIDE, SIDE, bias=False), torch.zeros(1, SIDE)
    layer.weight.data.zero_()
    assert close(beside(layer, LoraSet.read(used, shapes), x), 0.5 * bias[None])


# Names


@pytest.mark.parametrize(
    ("prefix", "down", "up"),
    [
        (f"transformer.{LAYER}.", "lora.down.weight", "lora.up.weight"),
        (f"transformer.{LAYER}.processor.", "lora.down.weight", "lora.up.weight"),
        (f"transformer.{LAYER}.", "lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
        ("transformer_blocks.0.attn1.processor.", "to_q_lora.down.weight", "to_q_lora.up.weight"),
        ("unet.transformer_blocks.0.attn1.", "to_q_lora.down.weight", "to_q_lora.up.weight"),
        (f"base_model.model.{LAYER}.", "lora_A.style.weight", "lora_B.style.weight"),
        (f"model.diffusion_model.{LAYER}.", "lora_A.weight", "lora_B.weight"),
        (f"module._orig_mod.{LAYER}.", "lora_A.weight", "lora_B.weight"),
        (f"{LAYER.replace('.attn1', '._orig_mod.attn1')}.", "lora_A.weight", "lora_B.weight"),
        (f"lora_transformer_{LAYER.replace('.', '_')}.", "lora_down.weight", "lora_up.weight"),
        (f"lycoris_{LAYER.replace('.', '_')}.", "lora_down.weight", "lora_up.weight"),
        (f"lora_unet_diffusion_model_{LAYER.replace('.', '_')}.", "lora_down.weight",
         "lora_up.weight"),
    ],
)  # fmt: skip
def test_names_of_programs(shapes, lora, prefix, down, up):
    loras = LoraSet.read([lora(pair(prefix, down, up))], shapes)
    assert loras.modules == (LAYER,)
    assert close(loras.delta(LAYER), UP @ DOWN)


def test_an_attention_processor_s_output_projection(shapes, lora):
    place = "transformer_blocks.1.attn1.processor."
    loras = LoraSet.read(
        [lora(pair(place, "to_out_lora.down.weight", "to_out_lora.up.weight"))], shapes
    )
    assert loras.modules == ("transformer_blocks.1.attn1.to_out.0",)


# Alpha and rank outside of the tensors


def adapter(**changes):
    """peft's config."""
    return {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "use_rslora": False} | changes


HEADERS = {
    "diffusers": ({"lora_adapter_metadata": json.dumps(
        {f"transformer.{name}": value for name, value in adapter().items()})}, 4.0),
    "diffusers, rslora": ({"lora_adapter_metadata": json.dumps(
        {f"transformer.{n}": v for n, v in adapter(use_rslora=True).items()})}, 8.0),
    "kohya": ({"ss_network_alpha": "2.0", "ss_network_dim": "4"}, 0.5),
    "kohya, resized": ({"ss_network_alpha": "2", "ss_network_dim": "Dynamic"}, 0.5),
    "kohya, rslora": ({"ss_network_alpha": "2", "ss_network_dim": "4",
                       "ss_network_args": '{"rs_lora": "True"}'}, 1.0),
    "plain": ({"lora_alpha": "8", "r": "4"}, 2.0),
    "plain, with the network's name": ({"transformer.lora_alpha": "64", "transformer.r": "4",
                                        "text_encoder.lora_alpha": "1"}, 16.0),
}  # fmt: skip


@pytest.mark.parametrize(("metadata", "scale"), HEADERS.values(), ids=HEADERS)
def test_alpha_of_the_header(shapes, lora, metadata, scale):
    loras = LoraSet.read([lora(pair(), **metadata)], shapes)
    assert close(loras.delta(LAYER), scale * UP @ DOWN)
    assert "is unknown" not in loras.reports[0]


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        (adapter(), 4.0),
        (adapter(use_rslora=True), 8.0),
        (adapter(alpha_pattern={"attn1.to_q": 2}), 0.5),
        (adapter(alpha_pattern={f"^{LAYER}$": 2}), 0.5),
        (adapter(alpha_pattern={"^to_q": 2}), 4.0),
        (adapter(r=8, rank_pattern={"to_q": RANK}), 4.0),
        (adapter(r=8, rank_pattern={"to_q": RANK}, use_rslora=True), 8.0),
    ],
)
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "renamed.SAFETENSORS"])
def test_alpha_of_the_config_beside(shapes, lora, tmp_path, config, scale, name):
    used = lora(pair(), name)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert close(LoraSet.read([used], shapes).delta(LAYER), scale * UP @ DOWN)


def test_a_config_of_another_file_is_not_this_one_s(shapes, lora, tmp_path):
    used, _ = lora(pair(), "a.safetensors"), lora(pair(), "b.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter()))
    loras = LoraSet.read([used], shapes)
    assert close(loras.delta(LAYER), UP @ DOWN)
    assert "alpha is unknown (it is not in the tensors" in loras.reports[0]
    other = lora(pair(), "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter(r=8)))
    assert (
        "adapter_config.json next to adapter_model.safetensors has another rank"
        in LoraSet.read([other], shapes).reports[0]
    )


def test_a_header_and_a_config_that_contradict_each_other(shapes, lora, tmp_path):
    used = lora(pair(), "adapter_model.safetensors", lora_alpha="8")
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter()))
    with pytest.raises(
        CheckpointError, match=r"header of .* has alpha = 8, but adapter_config.json next .* has 16"
    ):
        LoraSet.read([used], shapes)


def test_alpha_in_the_tensors_comes_first(shapes, lora):
    tensors = pair() | {f"transformer.{LAYER}.alpha": torch.tensor(2)}
    loras = LoraSet.read([lora(tensors, ss_network_alpha="16")], shapes)
    assert close(loras.delta(LAYER), 0.5 * UP @ DOWN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "lora_adapter_metadata in the header of x.safetensors is not valid JSON"),
        ("[" * 100_000, "is not valid JSON: it is nested too deeply"),
        (json.dumps({"transformer.lora_alpha": "much"}), "lora_alpha = much; it must be a number"),
        (json.dumps({"lora_alpha": 10**400}), "a number has 401 digits"),
        (json.dumps({"lora_alpha": 10**40}), "lora_alpha = 1000"),
        (json.dumps({"lora_alpha": True, "r": 4}), "lora_alpha = True; it must be a number"),
        (json.dumps(adapter(alpha_pattern=[1])), "alpha_pattern = .* must be an object"),
        (json.dumps(adapter(alpha_pattern={"(a+)+$": 2})), r"'\(a\+\)\+\$' in alpha_pattern"),
        (json.dumps(adapter(use_dora=True)), "has use_dora, but x.safetensors has no magnitudes"),
    ],
)
def test_facts_that_are_damaged_are_refused(shapes, lora, text, message):
    with pytest.raises(CheckpointError, match=message):
        LoraSet.read([lora(pair(), lora_adapter_metadata=text)], shapes)


# Values and shapes


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_not_finite_are_refused_while_reading(
    checkpoint, shapes, lora, tmp_path, capsys, value, dtype
):
    tensors = {name: tensor.to(dtype) for name, tensor in pair().items()}
    tensors[f"transformer.{LAYER}.lora_B.weight"][3, 1] = value
    used = lora(tensors)
    with pytest.raises(CheckpointError, match=rf"{LAYER}.lora_B.weight of .* contains NaN"):
        LoraSet.read([used], shapes)
    model, out = checkpoint(V5_1, Head.T2V), tmp_path / "merged.safetensors"
    assert main(["merge-lora", str(model), str(out), "--lora", str(used.path)]) == 2
    assert "lora_B.weight of x.safetensors contains NaN" in capsys.readouterr().err
    assert not out.exists()


def test_a_model_that_is_not_finite_is_not_merged(files, lora, tmp_path):
    tensors = {name: tensor.clone() for name, tensor in files.map().items()}
    tensors["proj_out.bias"][0] = math.nan
    save_file(tensors, tmp_path / "model.safetensors")
    model = read_denoiser_files(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"proj_out.bias has NaN or infinite values"):
        merge_loras(model, [lora(pair())], tmp_path / "merged.safetensors")


def replaced(name, tensor):
    return pair(f"{FLAT}.", "lora_down.weight", "lora_up.weight") | {f"{FLAT}.{name}": tensor}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{FLAT}.lora_down.weight": torch.zeros(0, SIDE),
          f"{FLAT}.lora_up.weight": torch.zeros(SIDE, 0)}, r"\(0, 32\); it must be a matrix with"),
        (replaced("alpha", torch.zeros(0)), r"alpha of x.safetensors has the shape \(0,\)"),
        (replaced("alpha", torch.ones(2)), r"alpha of x.safetensors has the shape \(2,\)"),
        (replaced("alpha", torch.tensor(1e30)), "is 1e.30, at a rank of 4"),
        (replaced("dora_scale", torch.ones(3)), r"dora_scale of x.safetensors has the shape \(3,"),
        (replaced("diff_b", torch.ones(3)), r"diff_b of x.safetensors has the shape \(3,"),
        (replaced("lokr_w1", torch.ones(4, 4)), "has no lokr_w2 matrix"),
        (replaced("diff", torch.ones(4, 4)), "which are of two kinds"),
        (replaced("lora_mid.weight", torch.ones(4, 4)), r"unsupported kind \(lora_mid.weight\)"),
        (replaced("lora_up.weight", torch.ones(SIDE, RANK, dtype=torch.int8)), "stored as int8"),
        (replaced("lora_up.bias", torch.ones(SIDE)), r"unsupported kind \(lora_up.bias\)"),
        (pair() | pair(f"{FLAT}.", "lora_down.weight", "lora_up.weight"), "it contains two LoRAs"),
        ({f"{FLAT}.diff": torch.ones(4, 4)}, r"make \(4, 4\), but the layer is \(32, 32\)"),
        ({f"{FLAT}.lokr_w1": torch.ones(4, 4), f"{FLAT}.lokr_w2": torch.ones(4, 4)}, "made for an"),
    ],
)  # fmt: skip
def test_files_that_are_damaged_are_refused(shapes, lora, tensors, message):
    with pytest.raises(CheckpointError, match=message):
        LoraSet.read([lora(tensors)], shapes)


def test_a_file_without_effect_is_told(shapes, lora):
    tensors = pair() | {f"transformer.{LAYER}.lora_B.weight": torch.zeros(SIDE, RANK)}
    assert LoraSet.read([lora(tensors)], shapes).reports[0].endswith("it has no effect.")
    used = Lora(lora(pair()).path, 0.0)
    assert ": 2 of 2 keys matched, 0 layers are changed." in LoraSet.read([used], shapes).reports[0]
