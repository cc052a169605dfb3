"""Weights in 8 bits: error bounds, names in files, and reading them back."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyanimate_core.errors import CheckpointError
from easyanimate_core.memory.plan import facts_of
from easyanimate_core.models.specs import Head
from easyanimate_core.weights.files import (
    in_original_names,
    inspect_checkpoint,
    read_denoiser_files,
    read_tensor_files,
)
from easyanimate_core.weights.files.key_maps_transformer import to_diffusers
from easyanimate_core.weights.files.scaled import note_name, scale_name
from easyanimate_core.weights.loading import load_transformer
from easyanimate_core.weights.stored import (
    STORAGE_FORMATS,
    ScaledWeight,
    StoredWeights,
    may_be_quantized,
    pieces,
    plain_tensors,
    to_storage,
)
from easyanimate_core.weights.stored.float8 import to_float32
from easyanimate_core.weights.stored.storage import as_tensors, note
from tests.factories import V5_1

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
LAYER, OTHER = (f"transformer_blocks.0.attn1.to_{part}.weight" for part in "qk")
KINDS = list(STORAGE_FORMATS)


def matrix(skewed=False, rows=48, columns=64):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, columns, generator=generator)
    if skewed:  # rows of very different size, as trained networks have them
        weight *= torch.logspace(-6, 1, rows)[:, None]
    return weight


@pytest.mark.parametrize("kind", ["fp8", "fp8-channel"])
@pytest.mark.parametrize("skewed", [False, True])
def test_fp8_keeps_every_value_to_a_sixteenth(kind, skewed):
    weight = matrix(skewed)
    stored = to_storage(weight, kind)
    error = (stored.dequantize(torch.float32) - weight).abs()
    smallest = stored.scale * 2**-6  # below it the steps no longer shrink: 2^-9 of the scale
    assert (error <= torch.maximum(weight.abs() / 16, smallest / 16) * 1.0001).all()
    assert error.max() > 0
    assert stored.values.dtype == torch.float8_e4m3fn
    assert stored.values.float().abs().max() == 448


def test_int8_keeps_every_value_to_half_a_scale():
    weight = matrix(skewed=True)
    stored = to_storage(weight, "int8")
    error = (stored.dequantize(torch.float32) - weight).abs()
    assert (error <= stored.scale / 2 * 1.0001).all()
    assert (stored.values.float().abs().amax(1) == 127).all()
    assert torch.allclose(stored.scale[:, 0], weight.abs().amax(1) / 127)


def test_one_scale_per_channel_is_better_where_rows_differ():
    weight = matrix(skewed=True)
    rows = weight.norm(dim=1, keepdim=True)
    errors = {}
    for kind in KINDS:
        back = to_storage(weight, kind).dequantize(torch.float32)
        errors[kind] = ((back - weight) / rows).norm(dim=1).max().item()
    assert errors["fp8-channel"] < errors["fp8"] / 2
    assert errors["int8"] < errors["fp8-channel"]


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zero_and_the_scale_is_no_zero(kind):
    weight = matrix()
    weight[3] = 0
    stored = to_storage(weight, kind)
    assert (stored.dequantize(torch.float32)[3] == 0).all()
    assert (stored.scale > 0).all()
    assert (to_storage(torch.zeros(2, 2), kind).dequantize(torch.float32) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused(kind, value):
    weight = matrix()
    weight[5, 5] = value
    with pytest.raises(CheckpointError, match="NaN or infinite values"):
        to_storage(weight, kind)


def rounded_at_once(weight, kind):
    """The definition: the largest value becomes the format's, and all others with it."""
    how = STORAGE_FORMATS[kind]
    whole = weight.float()
    largest = whole.abs().amax(1, keepdim=True) if how.per_channel else whole.abs().amax()
    scale = (largest / how.largest).clamp(min=torch.finfo(torch.float32).tiny)
    values = (whole / scale).clamp(-how.largest, how.largest)
    return (values.round() if how.dtype == torch.int8 else values).to(how.dtype), scale


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16,
                                   torch.float8_e4m3fn, torch.float8_e5m2])  # fmt: skip
@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_and_threads_change_no_bit(kind, dtype, threads, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_VALUES", 200)
    weight = matrix(skewed=True, rows=37, columns=63)
    weight[3], weight[4, ::2], weight[5] = 0, -0.0, 1e-41  # zeros of either sign, subnormal values
    weight[36, :2] = torch.tensor([448.0, -448.0])
    weight = weight.to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        stored = to_storage(weight, kind)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    values, scale = rounded_at_once(weight, kind)
    assert torch.equal(stored.values.view(torch.uint8), values.view(torch.uint8))
    assert torch.equal(stored.scale, scale)


def test_pieces_on_threads_keep_the_mode_and_the_error(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_VALUES", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for inference in (True, False):
        with torch.inference_mode(inference):
            assert to_storage(matrix(), "int8").values.is_inference() == inference
    weight = matrix()
    weight[40, 1] = float("nan")
    with pytest.raises(CheckpointError, match="NaN or infinite values"):
        to_storage(weight, "int8")


def test_threads_of_pieces_start_no_teams_of_their_own(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_VALUES", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = list(pieces.over_pieces(lambda _: torch.get_num_threads(), (8, 1)))
        assert found == [1] * 8
        assert torch.get_num_threads() == 3
        next(pieces.over_pieces(lambda _: None, (8, 1)))  # closed before its end
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_float8_is_read_exactly(dtype):
    codes = torch.arange(256, dtype=torch.int64).to(torch.uint8).view(dtype)
    finite = codes[codes.float().isfinite()]
    for values in (finite, codes, codes[:0]):
        found, wanted = to_float32(values), values.float()
        assert torch.equal(found.isnan(), wanted.isnan())
        assert torch.equal(found.nan_to_num(1.5), wanted.nan_to_num(1.5))
        assert torch.equal(found.signbit(), wanted.signbit())


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_a_second_time_changes_nothing(kind):
    stored = to_storage(matrix(), kind)
    again = to_storage(stored.dequantize(torch.float32), kind)
    assert torch.equal(stored.values.float(), again.values.float())
    assert torch.allclose(stored.scale, again.scale, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_to_is_like_a_tensors(kind):
    stored = to_storage(matrix(), kind)
    assert stored.to().dtype == torch.bfloat16
    assert stored.to(device="meta", dtype=torch.float16).is_meta
    assert torch.equal(stored.to(dtype=torch.float32), stored.values.float() * stored.scale)
    assert stored.shape == (48, 64)
    assert stored.format_name == kind


@pytest.fixture
def scaled(checkpoint_copy):
    """`scaled(kind, change)`: a folder whose denoiser is stored in a format, then changed."""

    def folder(kind, change=lambda _: None):
        path = checkpoint_copy(V5_1, Head.T2V)
        tensors = {}
        for name, weight in load_file(path / WEIGHTS).items():
            if may_be_quantized(name, weight.shape):
                tensors |= as_tensors(name, to_storage(weight, kind))
            else:
                tensors[name] = weight
        change(tensors)
        save_file(tensors, path / WEIGHTS)
        return path

    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_a_scaled_denoiser_stays_as_it_is_stored(scaled, checkpoint, kind, dtype):
    network = load_transformer(inspect_checkpoint(scaled(kind)), dtype=dtype).state_dict()
    plain = load_file(checkpoint(V5_1, Head.T2V) / WEIGHTS)
    assert set(network) == set(plain)
    for name, weight in plain.items():
        if may_be_quantized(name, weight.shape):
            stored = to_storage(weight, kind)
            assert torch.equal(next(plain_tensors(network[name])), stored.values)
            assert torch.equal(network[name].dequantize(), stored.dequantize(torch.float32))
        else:
            assert torch.equal(network[name], weight.to(dtype or weight.dtype))


def test_what_is_stored_in_8_bits_is_rounded_anew_for_4_only(scaled):
    info = inspect_checkpoint(scaled("int8"))
    kept, again, four = (
        load_transformer(info, quantization=kind).state_dict()[LAYER]
        for kind in ("none", "qfloat8", "qint4")
    )
    assert torch.equal(kept.dequantize(), again.dequantize())
    assert four.qtype.bits == 4


def test_headers_count_weights_and_not_scales(scaled, checkpoint):
    info, plain = (inspect_checkpoint(p) for p in (scaled("int8"), checkpoint(V5_1, Head.T2V)))
    assert info.size == plain.size
    assert info.transformer == plain.transformer
    assert set(info.transformer_files.weights) == set(plain.transformer_files)
    assert set(info.transformer_files.dtypes) == {"I8", "BF16"}


def test_scales_of_other_shapes_are_read(scaled, checkpoint):
    def flatten(tensors):
        tensors[scale_name(LAYER)] = tensors[scale_name(LAYER)].reshape(-1)

    files = inspect_checkpoint(scaled("fp8-channel", flatten)).transformer_files
    weight = load_file(checkpoint(V5_1, Head.T2V) / WEIGHTS)[LAYER]
    stored = StoredWeights(files)[LAYER]
    assert isinstance(stored, ScaledWeight)
    assert torch.equal(stored.dequantize(torch.float32),
                       to_storage(weight, "fp8-channel").dequantize(torch.float32))  # fmt: skip


def change_note(content):
    def change(tensors):
        text = json.dumps(content).encode()
        tensors[note_name(LAYER)] = torch.tensor(list(text), dtype=torch.uint8)

    return change


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("int8", lambda t: t.pop(scale_name(LAYER)), f"{LAYER} has no scale"),
        ("fp8", lambda t: t.pop(scale_name(LAYER)), f"{LAYER} has no scale"),
        ("fp8", lambda t: t.pop(LAYER), f"{scale_name(LAYER)} has no {LAYER}"),
        (
            "int8",
            lambda t: t.update({scale_name(LAYER): torch.ones(7, 1)}),
            "is (7, 1) for a weight of (32, 32); it must be one value or one per row",
        ),
        ("fp8", lambda t: t.update({LAYER: torch.zeros(32, 32)}), "has a scale but is F32"),
        ("int8", change_note({"format": "nvfp4"}), '{"format": "nvfp4"}; supported are'),
        (
            "int8",
            change_note({"format": "int8_tensorwise", "convrot": True}),
            '"convrot": true}; supported are float8_e4m3fn',
        ),
    ],
)
def test_faults_of_scaled_weights_are_named(scaled, kind, change, said):
    with pytest.raises(CheckpointError) as caught:
        load_transformer(inspect_checkpoint(scaled(kind, change)))
    assert said in str(caught.value)
    assert LAYER in str(caught.value)


def test_a_scaled_weight_that_is_missing_altogether_is_named(scaled):
    def remove(tensors):
        for name in (LAYER, scale_name(LAYER), note_name(LAYER)):
            del tensors[name]

    with pytest.raises(CheckpointError, match=f"1 missing: {LAYER}"):
        load_transformer(inspect_checkpoint(scaled("fp8", remove)))


def test_notes_are_optional(scaled):
    def remove(tensors):
        for name in [n for n in tensors if n.endswith(".comfy_quant")]:
            del tensors[name]

    stored = StoredWeights(inspect_checkpoint(scaled("fp8", remove)).transformer_files)
    assert isinstance(stored[LAYER], ScaledWeight)


def test_plain_fp8_without_scales_stays_a_cast(checkpoint_copy):
    path = checkpoint_copy(V5_1, Head.T2V)
    tensors = load_file(path / WEIGHTS)
    tensors[LAYER] = tensors[LAYER].to(torch.float8_e4m3fn)
    save_file(tensors, path / WEIGHTS)
    weight = StoredWeights(read_tensor_files(path / "transformer"))[LAYER]
    assert torch.equal(weight.float(), tensors[LAYER].float())


def denoiser(folder, native=()):
    files = in_original_names(read_tensor_files(folder / "transformer"))
    return StoredWeights(files, native=native)


NATIVE = ("float8_e4m3fn", "mxfp8")


def test_native_weights_are_tensors_with_what_lies_beside_them(scaled):
    def change(tensors):
        del tensors[note_name(LAYER)]
        tensors[LAYER.replace(".weight", ".input_scale")] = torch.ones(1)
        tensors[OTHER.replace(".weight", ".input_scale")] = torch.tensor(0.5)

    folder = scaled("fp8", change)
    stored, weights = load_file(folder / WEIGHTS), denoiser(folder, NATIVE)
    assert torch.equal(weights[LAYER].float(), stored[LAYER].float())
    beside = weights.beside(LAYER)
    assert beside.keys() == {scale_name(LAYER), note_name(LAYER)}
    assert torch.equal(beside[scale_name(LAYER)], stored[scale_name(LAYER)])
    assert bytes(beside[note_name(LAYER)].tolist()) == b'{"format": "float8_e4m3fn"}'
    # A scale of 1 is a placeholder, any other is the activations'.
    assert weights.beside(OTHER)[OTHER.replace(".weight", ".input_scale")] == 0.5
    assert weights.beside("proj.weight") == {}
    assert set(weights) == set(denoiser(folder))
    assert isinstance(denoiser(folder)[LAYER], ScaledWeight)


def test_a_marker_of_two_values_asks_for_full_precision(scaled):
    def change(tensors):
        del tensors[note_name(LAYER)]
        tensors["scaled_fp8"] = torch.zeros(2)

    note = denoiser(scaled("fp8", change), NATIVE).beside(LAYER)[note_name(LAYER)]
    assert json.loads(bytes(note.tolist()))["full_precision_matrix_mult"]


def test_a_native_format_that_is_not_ours_comes_as_it_is(scaled):
    def change(tensors):
        change_note({"format": "mxfp8"})(tensors)
        tensors[scale_name(LAYER)] = torch.ones(32, 1, dtype=torch.uint8)

    folder = scaled("fp8", change)
    weights = denoiser(folder, NATIVE)
    assert weights[LAYER].dtype == torch.float8_e4m3fn
    assert weights.beside(LAYER)[scale_name(LAYER)].dtype == torch.uint8
    with pytest.raises(
        CheckpointError, match=r'\{"format": "mxfp8"\}; supported are float8_e4m3fn'
    ):
        denoiser(folder)


def test_turned_int8_is_for_layers_that_know_it(scaled):
    folder = scaled("int8", change_note({"format": "int8_tensorwise", "convrot": True}))
    note = denoiser(folder, ("int8_tensorwise",)).beside(LAYER)[note_name(LAYER)]
    assert json.loads(bytes(note.tolist()))["convrot"]
    with pytest.raises(CheckpointError, match="convrot"):
        denoiser(folder, NATIVE)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("layout", [str, to_diffusers])
def test_notes_in_the_header_are_read(scaled, prefix, layout):
    folder = scaled("fp8")
    file, text_layer = folder / WEIGHTS, LAYER.replace("attn1", "attn2")
    tensors = {
        name: tensor for name, tensor in load_file(file).items() if ".comfy_quant" not in name
    }
    tensors = {prefix + layout(name): tensor for name, tensor in tensors.items()}
    layer = (prefix + layout(text_layer)).removesuffix(".weight")

    def weights(note, native=NATIVE):
        header = {"_quantization_metadata": json.dumps({"layers": {layer: note}})}
        save_file(tensors, file, header)
        files = read_denoiser_files(folder / "transformer")
        return StoredWeights(in_original_names(files), native=native)

    note = {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}
    found = weights(note).beside(text_layer)[note_name(text_layer)]
    assert json.loads(bytes(found.tolist())) == note
    assert isinstance(weights(note, ())[text_layer], ScaledWeight)
    with pytest.raises(CheckpointError, match=rf"{text_layer} is stored as .*nvfp4"):
        weights({"format": "nvfp4"}, ())
    del tensors[scale_name(prefix + layout(text_layer))]
    with pytest.raises(CheckpointError, match=rf"{text_layer} has no scale"):
        weights(note)


def test_a_plan_counts_8_bits_where_they_stay(scaled, checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V, "cast")
    tensors = load_file(folder / WEIGHTS)
    tensors[LAYER] = tensors[LAYER].to(torch.float8_e4m3fn)  # a cast, which becomes bfloat16 again
    save_file(tensors, folder / WEIGHTS)
    assert not facts_of(inspect_checkpoint(folder)).denoiser.packed
    assert facts_of(inspect_checkpoint(scaled("fp8"))).denoiser.packed


@pytest.mark.parametrize("kind", KINDS)
def test_notes_are_comfyuis_json(kind):
    assert json.loads(bytes(note(kind).tolist())) == {"format": STORAGE_FORMATS[kind].note}
