"""LoRAs of a run: their values, what they leave behind, merging, and refusals."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from easyanimate_core.cli.main import main
from easyanimate_core.errors import CheckpointError, InputError, RecipeError
from easyanimate_core.files.commands import own_command
from easyanimate_core.memory.options import Memory
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.recipe import Recipe
from easyanimate_core.weights.files import inspect_checkpoint, read_tensor_files
from easyanimate_core.weights.files.key_maps_transformer import to_diffusers
from easyanimate_core.weights.lora import BlockStrengths, Lora, LoraSet, matrix_shapes, merge_loras
from easyanimate_core.weights.stored import plain_tensors
from tests.factories import V5_1, lora_tensors, quick

PROMPT = "A dog."
KINDS = ("none", "qfloat8", "qint8", "qint4")
QUERY = "transformer_blocks.0.attn2.to_q"


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


@pytest.fixture(scope="module")
def shapes(folder):
    return matrix_shapes(inspect_checkpoint(folder).transformer_files)


@pytest.fixture(scope="module")
def lora_files(tmp_path_factory, shapes):
    """Two LoRAs of every matrix of the denoiser."""
    root = tmp_path_factory.mktemp("loras")
    files = [root / "one.safetensors", root / "two.safetensors"]
    for seed, file in enumerate(files):
        save_file(lora_tensors(shapes, seed=seed), file)
    return files


@pytest.fixture(scope="module")
def plain(folder):
    return Pipeline.load(folder).generate(PROMPT, settings=quick()).latents


def relative(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def state_of(pipeline):
    """Bytes of the denoiser's weights, and the hooks on its layers."""
    network = pipeline._networks._transformer
    content = [
        tensor.contiguous().view(torch.uint8).clone()
        for parameter in network.parameters()
        for tensor in plain_tensors(parameter)
    ]
    return content, sum(len(getattr(module, "branches", ())) for module in network.modules())


def assert_untouched(before, after):
    assert all(torch.equal(one, other) for one, other in zip(before[0], after[0], strict=True))
    assert before[1] == after[1] == 0


# Values


@pytest.mark.parametrize("habit", ["kohya", "peft", "diffusers", "bare"])
def test_every_habit_of_names_gives_the_same_change(shapes, lora_files, tmp_path, habit):
    tensors, renamed = load_file(lora_files[0]), {}
    for module in shapes:
        name = f"lora_unet__{module.replace('.', '_')}"
        down, up, alpha = (
            tensors[f"{name}.{part}"] for part in ("lora_down.weight", "lora_up.weight", "alpha")
        )
        other = to_diffusers(f"{module}.")[:-1]
        if habit == "kohya":
            flat = other.replace(".", "_")
            parts = {f"lora_unet_{flat}.lora_down.weight": down, f"lora_unet_{flat}.alpha": alpha}
            parts |= {f"lora_unet_{flat}.lora_up.weight": up}
        else:
            prefix, suffix = {
                "peft": (f"base_model.model.{module}", ".default"),
                "diffusers": (f"transformer.{other}", ""),
                "bare": (module, ""),
            }[habit]
            scaled = up * float(alpha) / down.shape[0]  # these habits have no alpha in the file
            parts = {
                f"{prefix}.lora_A{suffix}.weight": down,
                f"{prefix}.lora_B{suffix}.weight": scaled,
            }
        renamed |= parts
    save_file(renamed, tmp_path / "other.safetensors")
    wanted = LoraSet.read([Lora(lora_files[0])], shapes)
    found = LoraSet.read([Lora(tmp_path / "other.safetensors")], shapes)
    assert set(found.modules) == set(wanted.modules) == set(shapes)
    for module in shapes:
        assert (found.delta(module) - wanted.delta(module)).abs().max() < 1e-6


def test_scale_is_strength_times_alpha_by_rank(shapes, lora_files):
    tensors = load_file(lora_files[0])
    name = f"lora_unet__{QUERY.replace('.', '_')}"
    down, up = tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"]
    found = LoraSet.read([Lora(lora_files[0], 0.7)], shapes).delta(QUERY)
    assert (found - 0.7 * 2.0 / 4 * up @ down).abs().max() < 1e-6


def test_several_are_the_sum(shapes, lora_files):
    one, two = (
        Lora(file, strength) for file, strength in zip(lora_files, (0.7, -0.3), strict=True)
    )
    both = LoraSet.read([one, two], shapes)
    first, second = LoraSet.read([one], shapes), LoraSet.read([two], shapes)
    assert both.low_rank(QUERY).down_RI.shape == (8, 32)
    for module in shapes:
        wanted = first.delta(module) + second.delta(module)
        assert (both.delta(module) - wanted).abs().max() < 1e-6


def test_block_strengths_are_factors(shapes, lora_files):
    whole = LoraSet.read([Lora(lora_files[0], 0.8)], shapes)
    scaled = LoraSet.read([Lora(lora_files[0], 0.8, "0=0.5, 1-2=0")], shapes)
    assert {module.split(".")[1] for module in scaled.modules if "blocks" in module} == {"0"}
    assert "proj_out" in scaled.modules
    for module in scaled.modules:
        factor = 0.5 if module.startswith("transformer_blocks.0.") else 1.0
        assert (scaled.delta(module) - factor * whole.delta(module)).abs().max() < 1e-6


# Runs


def test_a_run_is_that_of_the_merged_file(folder, lora_files, plain, tmp_path):
    loras = [Lora(lora_files[0], 0.7, "1=0.5"), Lora(lora_files[1], 0.4)]
    merged = shutil.copytree(folder, tmp_path / "merged")
    stored = next((merged / "transformer").glob("*.safetensors"))
    files = read_tensor_files(folder / "transformer")
    stored.unlink()
    merge_loras(files, loras, stored, dtype=torch.float32)
    wanted = Pipeline.load(merged).generate(PROMPT, settings=quick()).latents
    result = Pipeline.load(folder).generate(PROMPT, settings=quick(), loras=loras)
    assert relative(wanted, plain) > 0.05
    assert relative(result.latents, wanted) < 1e-4
    keys = 3 * len(matrix_shapes(files))
    assert result.notes[0].startswith(f"one.safetensors: {keys} of {keys} keys matched")
    assert result.notes[1].startswith("two.safetensors: ")


@pytest.mark.parametrize("loras", [(0.0, ""), (1.0, "0-2=0")])
def test_off_is_off(folder, plain, shapes, tmp_path, loras):
    strength, blocks = loras
    inside = {name: shape for name, shape in shapes.items() if "blocks" in name}
    save_file(lora_tensors(inside), tmp_path / "blocks.safetensors")
    lora = Lora(tmp_path / "blocks.safetensors", strength, blocks)
    found = Pipeline.load(folder).generate(PROMPT, settings=quick(), loras=[lora]).latents
    assert torch.equal(found, plain)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_acts_the_same_on_quantized_weights(folder, lora_files, kind, dtype):
    wanted = Pipeline.load(folder).generate(
        PROMPT, settings=quick(), loras=[Lora(lora_files[0], 0.5)]
    )
    pipeline = Pipeline.load(folder, dtype=dtype, memory=Memory(quantization=kind))
    alone = pipeline.generate(PROMPT, settings=quick())
    before = state_of(pipeline)
    found = pipeline.generate(PROMPT, settings=quick(), loras=[Lora(lora_files[0], 0.5)])
    assert_untouched(before, state_of(pipeline))
    bound = {"none": 1e-6, "qfloat8": 0.04, "qint8": 0.01, "qint4": 0.15}[kind]
    bound += 0.05 if dtype == "bfloat16" else 0.0
    assert relative(found.latents, wanted.latents) < bound
    assert relative(alone.latents, wanted.latents) > 0.2


@pytest.mark.parametrize("kind", ["none", "qint4"])
def test_ten_runs_leave_nothing(folder, lora_files, kind):
    pipeline = Pipeline.load(folder, memory=Memory(quantization=kind))
    alone = pipeline.generate(PROMPT, settings=quick(steps=1)).latents
    before, loras = state_of(pipeline), [Lora(file, 0.5) for file in lora_files]
    first = pipeline.generate(PROMPT, settings=quick(steps=1), loras=loras).latents
    for _ in range(9):
        again = pipeline.generate(PROMPT, settings=quick(steps=1), loras=loras).latents
        assert torch.equal(again, first)
    assert_untouched(before, state_of(pipeline))
    assert torch.equal(pipeline.generate(PROMPT, settings=quick(steps=1)).latents, alone)


@pytest.mark.parametrize("kind", ["none", "qfloat8"])
def test_a_cancelled_run_leaves_nothing(folder, lora_files, kind):
    pipeline = Pipeline.load(folder, memory=Memory(quantization=kind))
    alone = pipeline.generate(PROMPT, settings=quick()).latents
    before = state_of(pipeline)
    hooked = []

    def cancel(stage, done, _):
        if stage == "denoise" and done == 1:
            hooked.append(state_of(pipeline)[1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.generate(PROMPT, settings=quick(), loras=[Lora(lora_files[0])], progress=cancel)
    assert hooked[0] > 20
    assert_untouched(before, state_of(pipeline))
    assert torch.equal(pipeline.generate(PROMPT, settings=quick()).latents, alone)


# Merging


def test_a_merged_file(folder, lora_files, tmp_path, capsys):
    out = tmp_path / "new" / "merged.safetensors"
    words = ["merge-lora", str(folder), str(out), "--lora", f"{lora_files[0]}=0.7:0=0.5"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "note: one.safetensors: " in printed
    assert str(out) in printed
    files, merged = read_tensor_files(folder / "transformer"), read_tensor_files(out)
    loras = LoraSet.read([Lora(lora_files[0], 0.7, "0=0.5")], matrix_shapes(files))
    source, written = files.map(), merged.map()
    assert list(written) == list(source)
    for name in source:
        wanted = source[name]
        if name.removesuffix(".weight") in loras.modules and name.endswith(".weight"):
            wanted = (wanted.float() + loras.delta(name.removesuffix(".weight"))).bfloat16()
        assert torch.equal(written[name], wanted), name
    with safe_open(out, "pt") as opened:
        metadata = opened.metadata()
    merged_loras = json.loads(metadata["merged_loras"])
    assert merged_loras[0].pop("sha256")
    assert merged_loras == [{"file": "one.safetensors", "strength": 0.7, "blocks": "0=0.5"}]
    assert metadata["merged_from"] == folder.name


def test_a_merge_that_is_stopped_leaves_no_file(folder, lora_files, tmp_path):
    def stop(_, done, __):
        if done == 3:
            raise KeyboardInterrupt

    files = read_tensor_files(folder / "transformer")
    with pytest.raises(KeyboardInterrupt):
        merge_loras(files, [Lora(lora_files[0])], tmp_path / "out.safetensors", progress=stop)
    assert not list(tmp_path.iterdir())


def test_merges_that_are_refused(folder, lora_files, tmp_path):
    files, lora = read_tensor_files(folder / "transformer"), Lora(lora_files[0])
    out = tmp_path / "out.safetensors"
    with pytest.raises(InputError, match=r"'out.gguf'; it must end in .safetensors"):
        merge_loras(files, [lora], tmp_path / "out.gguf")
    with pytest.raises(CheckpointError, match=r"has values beyond the range of float16"):
        merge_loras(files, [Lora(lora_files[0], 1e6)], out, dtype=torch.float16)
    save_file({"proj_out.weight": torch.zeros(4, 4, dtype=torch.float8_e4m3fn)}, out)
    with pytest.raises(CheckpointError, match=r"is stored as F8_E4M3.*Use the unquantised file"):
        merge_loras(read_tensor_files(out), [lora], tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"out.safetensors already exists"):
        merge_loras(files, [lora], out)


# Refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-17", r"'0-17' in the block strengths '0-17' is not BLOCK=FACTOR"),
        ("0=1,", r"'' in the block strengths '0=1,'"),
        ("5-2=1", r"'5-2=1' in the block"),
        ("-1=1", r"'-1=1' in the block"),
        ("1=nan", r"'1=nan' in the block"),
        ("1=big", r"'1=big' in the block.*an example is 0-17=0.5,18-35=1"),
        ("0-4=1,3=0", r"name block 3 twice"),
    ],
)
def test_block_strengths_that_are_none(text, message):
    with pytest.raises(InputError, match=message):
        Lora("x.safetensors", 1.0, text)


def test_a_block_that_the_model_does_not_have(shapes, lora_files):
    with pytest.raises(InputError, match=r"name block 3; this model has blocks 0 to 2"):
        LoraSet.read([Lora(lora_files[0], 1.0, "0-3=0.5")], shapes)


def test_block_strengths_are_read():
    strengths = BlockStrengths.parse(" 0-17 = 0.5 , 18=-2 ")
    assert strengths.ranges == ((0, 17, 0.5), (18, 18, -2.0))
    places = ("transformer_blocks.17.ff.net.2", "transformer_blocks.18.ff.net.2", "proj_out")
    assert [strengths.factor(place) for place in places] == [0.5, -2.0, 1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("lora_up.weight", None), r"has no up matrix for transformer_blocks.0.attn2.to_q"),
        (("lora_up.weight", torch.zeros(32, 3)), r"\(4, 32\) and .*lora_up.weight \(32, 3\)"),
        (("hada_w1_a", torch.zeros(4, 4)), r"has no hada_w1_b and no hada_w2_a and no hada_w2_b"),
        (("oft_blocks", torch.zeros(4, 4, 4)), r"of an unsupported kind \(oft_blocks\)"),
    ],
)
def test_a_file_that_is_damaged(shapes, lora_files, tmp_path, change, message):
    tensors, (part, value) = load_file(lora_files[0]), change
    name = f"lora_unet__{QUERY.replace('.', '_')}.{part}"
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match=message):
        LoraSet.read([Lora(tmp_path / "odd.safetensors")], shapes)


def test_a_partial_lora_needs_to_be_told(folder, lora_files, tmp_path, capsys):
    tensors = load_file(lora_files[0]) | {"lora_unet_other.lora_up.weight": torch.zeros(4, 4)}
    file = tmp_path / "part.safetensors"
    save_file(tensors, file)
    words = [
        "generate",
        "--model",
        str(folder),
        "--prompt",
        "x",
        "--size",
        "64x96",
        "--frames",
        "1",
    ]
    words += ["--steps", "1", "--output", str(tmp_path / "out.png"), "--lora", str(file)]
    assert main(words) == 2
    assert "No layer of this model fits 1 key of part.safetensors" in capsys.readouterr().err
    assert main([*words, "--lora-partial"]) == 0
    assert "note: part.safetensors: " in capsys.readouterr().out


# Recipes and options


@pytest.fixture
def words(folder, tmp_path):
    base = ["generate", "--model", str(folder), "--prompt", "x", "--size", "64x96", "--frames", "5"]
    return [*base, "--steps", "1", "--output", str(tmp_path / "video.mp4")]


def test_a_recipe_repeats_loras_and_quantization(words, lora_files, tmp_path, capsys):
    options = ["--lora", f"{lora_files[0]}=0.7:0-1=0.5,2=1", "--lora", str(lora_files[1])]
    options += ["--quantization", "qint4", "--text-quantization", "qint8"]
    assert main([*words, *options]) == 0
    recipe = Recipe.read(tmp_path / "video.mp4")
    assert recipe.loras == (Lora(lora_files[0], 0.7, "0-1=0.5,2=1"), Lora(lora_files[1]))
    assert recipe.memory == Memory(quantization="qint4", text_quantization="qint8")
    again = tmp_path / "again.mp4"
    repeat = ["generate", "--yes", "--recipe", str(tmp_path / "video.mp4"), "--output", str(again)]
    assert main(repeat) == 0
    assert Recipe.read(again).to_json() == recipe.to_json()
    assert again.read_bytes() == (tmp_path / "video.mp4").read_bytes()
    other = tmp_path / "other.mp4"
    repeat[-1] = str(other)
    assert main([*repeat, "--quantization", "none"]) == 0
    assert "quantization" not in Recipe.read(other).model
    capsys.readouterr()
    assert main([*repeat, "--lora", str(lora_files[0])]) == 2
    assert "omit --lora" in capsys.readouterr().err


def test_a_recipe_without_them_is_as_before(words, tmp_path):
    assert main(words) == 0
    content = json.loads((tmp_path / "video.json").read_text())
    assert set(content) == {
        "format",
        "model",
        "prompts",
        "mode",
        "sources",
        "settings",
        "made_with",
    }
    assert set(content["model"]) == {"path", "version", "head", "size", "fingerprint", "dtype"}
    recipe = Recipe.from_json(content)
    assert recipe.loras == ()
    assert recipe.memory == Memory()


def test_a_lora_that_has_changed_is_refused(words, lora_files, tmp_path):
    file = shutil.copy(lora_files[0], tmp_path / "mine.safetensors")
    assert main([*words, "--lora", str(file)]) == 0
    content = json.loads((tmp_path / "video.json").read_text())
    shutil.copy(lora_files[1], file)
    with pytest.raises(
        RecipeError, match=r"mine.safetensors has changed since the recipe was made"
    ):
        Recipe.from_json(content)
    file.unlink()
    with pytest.raises(
        RecipeError, match=r"The recipe's LoRA is .*mine.safetensors\. It was not found"
    ):
        Recipe.from_json(content)
    content["loras"][0]["strength"] = "much"
    with pytest.raises(RecipeError, match=r"The recipe's LoRA has strength = 'much'"):
        Recipe.from_json(content)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("style.gguf=1", "is not FILE[=STRENGTH][:BLOCKS] with a .safetensors file"),
        ("style.ckpt=1", f"its code: {own_command('convert', 'style.ckpt', 'style.safetensors')}"),
        ("style.safetensors=much", "has the strength 'much'; it must be a number"),
        ("style.safetensors=inf", "The strength of style.safetensors is inf"),
        ("style.safetensors:0=", "'0=' in the block strengths '0='"),
        ("style.safetensors=1", "style.safetensors does not exist"),
    ],
)
def test_lora_options_that_are_refused(words, capsys, option, message):
    assert main([*words, "--lora", option]) == 2
    assert message in capsys.readouterr().err


def test_a_lora_that_is_not_there_is_refused_by_merge_lora(folder, tmp_path, capsys):
    out = tmp_path / "merged.safetensors"
    assert main(["merge-lora", str(folder), str(out), "--lora", "gone.safetensors"]) == 2
    assert "gone.safetensors cannot be read: No such file or directory." in capsys.readouterr().err
    assert not out.exists()


def test_partial_alone_has_no_effect(words, capsys):
    assert main([*words, "--lora-partial"]) == 2
    assert "--lora-partial has no effect without --lora" in capsys.readouterr().err
