"""Checkpoint folders: every layout gives the same video; what is damaged is refused and named."""

import inspect
import json
import shlex
import shutil

import diffusers
import pytest
import torch
from safetensors.torch import load, load_file, save_file

from easyanimate_core.errors import CheckpointError
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.tasks import Camera, Control, ImageToVideo, TextToVideo
from easyanimate_core.weights.files import inspect_checkpoint, key_maps_transformer
from easyanimate_core.weights.files.detect import Layout
from tests.factories import CHECKPOINTS, FRAMES, V5, V5_1, pixels, quick

WEIGHTS = "diffusion_pytorch_model.safetensors"
TASKS = {
    Head.T2V: TextToVideo(),
    Head.INPAINT: ImageToVideo(start=pixels(1)),
    Head.CONTROL: Control(pixels(2, frames=FRAMES)),
    Head.CAMERA: Camera(("Pan Up",)),
}


def run(folder, head):
    result = Pipeline.load(folder).generate("A dog.", TASKS[head], quick())
    return result.latents, result.frames


def check_same(folder, original, head):
    for ours, expected in zip(run(folder, head), run(original, head), strict=True):
        assert torch.equal(ours, expected)


def rewrite(file, change):
    """Change the tensors of a file; `change` edits the dictionary."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def change_config(folder, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "remove"}))


# Layouts


@pytest.mark.parametrize(("version", "head"), CHECKPOINTS)
def test_a_folder_that_diffusers_wrote(checkpoint, tmp_path, version, head):
    source, target = checkpoint(version, head), tmp_path / "converted"
    info = inspect_checkpoint(source)
    assert info.layout is Layout.ORIGINAL

    for name, class_name, rename in (
        ("transformer", "EasyAnimateTransformer3DModel", key_maps_transformer.to_diffusers),
        ("vae", "AutoencoderKLMagvit", str),
    ):
        network_class = getattr(diffusers, class_name)
        stated = json.loads((source / name / "config.json").read_text())
        accepted = inspect.signature(network_class.__init__).parameters
        fields = {k: v for k, v in stated.items() if k in accepted and "block_types" not in k}
        network = network_class(**fields)
        weights = load_file(source / name / WEIGHTS)
        network.load_state_dict({rename(key): value.float() for key, value in weights.items()})
        network.to(torch.bfloat16).save_pretrained(target / name)
    scheduler = json.loads((source / "scheduler" / "scheduler_config.json").read_text())
    scheduler_class = getattr(diffusers, scheduler["_class_name"])
    scheduler_class.from_config(scheduler).save_pretrained(target / "scheduler")
    for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)

    converted = inspect_checkpoint(target)
    assert converted.layout is Layout.DIFFUSERS
    assert (converted.version, converted.head, converted.size) == (version, head, info.size)
    assert converted.transformer.has_reference == info.transformer.has_reference
    check_same(target, source, head)


@pytest.mark.parametrize("version", [V5, V5_1])
def test_text_encoders_that_transformers_wrote(checkpoint_copy, checkpoint, version):
    import transformers

    folder = checkpoint_copy(version, Head.T2V)
    classes = {"text_encoder": "BertModel", "text_encoder_2": "MT5EncoderModel"}
    if version is V5_1:
        classes = {"text_encoder": "Qwen2VLForConditionalGeneration"}
    for name, class_name in classes.items():
        network = getattr(transformers, class_name).from_pretrained(
            folder / name, dtype=torch.bfloat16
        )
        network.load_state_dict(
            {k: v.clone() for k, v in network.state_dict().items()}, assign=True
        )
        shutil.rmtree(folder / name)  # nothing of it is mapped any more
        network.save_pretrained(folder / name)
    check_same(folder, checkpoint(version, Head.T2V), Head.T2V)


def split(folder, file, names, *, index):
    """The tensors of `file` spread over files of these names, with an index or without."""
    tensors = load((folder / file).read_bytes())
    (folder / file).unlink()
    weight_map = {key: names[i % len(names)] for i, key in enumerate(sorted(tensors))}
    for name in names:
        save_file(
            {k: tensors[k] for k, where in weight_map.items() if where == name}, folder / name
        )
    if index:
        content = {"metadata": {}, "weight_map": weight_map}
        (folder / f"{file}.index.json").write_text(json.dumps(content))


SHARDS = [f"diffusion_pytorch_model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("names", "index"),
    [(SHARDS, True), (["a.safetensors", "b.safetensors"], True), (SHARDS, False)],
    ids=["shards with index", "other names with index", "numbered shards"],
)
def test_several_files_are_one_checkpoint(checkpoint, checkpoint_copy, names, index):
    folder = checkpoint_copy(V5_1, Head.INPAINT)
    for part in ("transformer", "vae"):
        split(folder / part, WEIGHTS, names, index=index)
    check_same(folder, checkpoint(V5_1, Head.INPAINT), Head.INPAINT)


def test_an_index_whose_shards_were_merged(checkpoint, checkpoint_copy):
    """As the published text encoder folders have it."""
    folder = checkpoint_copy(V5_1, Head.T2V)
    content = {"weight_map": dict.fromkeys(["x"], "model-00001-of-00004.safetensors")}
    (folder / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps(content))
    check_same(folder, checkpoint(V5_1, Head.T2V), Head.T2V)


def test_other_storage_dtypes_give_the_same_values(checkpoint, checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V)
    for part in ("transformer", "vae"):
        rewrite(folder / part / WEIGHTS, lambda t: t.update({k: v.float() for k, v in t.items()}))
    check_same(folder, checkpoint(V5_1, Head.T2V), Head.T2V)


# Detection


@pytest.mark.parametrize(("version", "head"), CHECKPOINTS)
def test_a_lying_name_decides_nothing(checkpoint_copy, version, head):
    other = "EasyAnimateV5.1-12b-zh-InP" if version is V5 else "EasyAnimateV5-7b-zh-Control"
    info = inspect_checkpoint(checkpoint_copy(version, head, other))
    assert (info.version, info.head) == (version, head)
    assert info.size.endswith("M")
    assert len(info.text_encoders) == (2 if version is V5 else 1)


def test_without_config_the_tensors_decide(checkpoint_copy):
    folder = checkpoint_copy(V5, Head.CONTROL)
    stated = inspect_checkpoint(folder).transformer
    (folder / "transformer" / "config.json").unlink()
    found = inspect_checkpoint(folder).transformer
    assert (found.version, found.head, found.num_layers) == (V5, Head.CONTROL, stated.num_layers)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("in_channels", 16),
        ("out_channels", 8),
        ("num_layers", 4),
        ("mmdit_layers", 1),
        ("num_attention_heads", 4),
        ("attention_head_dim", 32),
        ("time_embed_dim", 64),
        ("text_embed_dim", 3584),
        ("text_embed_dim_t5", 24),
        ("add_norm_text_encoder", False),
        ("after_norm", True),
    ],
)
def test_a_config_that_contradicts_the_tensors_is_refused(checkpoint_copy, field, value):
    folder = checkpoint_copy(V5_1, Head.INPAINT)
    change_config(folder / "transformer", **{field: value})
    with pytest.raises(CheckpointError, match=rf"has {field} = .*its tensors have {field}"):
        inspect_checkpoint(folder)


# Damage


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_missing_unexpected_and_misshapen_tensors_are_named(checkpoint_copy, part):
    folder = checkpoint_copy(V5_1, Head.T2V)
    key = {"transformer": "proj_out.bias", "vae": "decoder.conv_out.bias"}[part]
    other = {"transformer": "norm_final.weight", "vae": "encoder.conv_in.bias"}[part]

    def damage(tensors):
        del tensors[key]
        tensors[other] = torch.zeros(3)
        tensors["extra.weight"] = torch.zeros(1)

    rewrite(folder / part / WEIGHTS, damage)
    with pytest.raises(CheckpointError) as caught:
        run(folder, Head.T2V)
    message = str(caught.value)
    assert f"1 missing: {key}" in message
    assert "1 unexpected: extra.weight" in message
    assert f"1 of the wrong shape: {other} is (3,) and should be" in message
    assert ("VAE" if part == "vae" else "V5.1 T2V denoiser") in message
    assert "download them again" in message


def test_a_shard_too_many_is_named(checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V) / "transformer"
    shutil.copy(folder / WEIGHTS, folder / SHARDS[0])
    shutil.copy(folder / WEIGHTS, folder / SHARDS[1])
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"has 2 of 3 shards. Download the missing"):
        inspect_checkpoint(folder.parent)
    shutil.copy(folder / SHARDS[0], folder / SHARDS[2])
    with pytest.raises(CheckpointError, match=r"is in both .*00001-of-00003.* and .*00002-of"):
        inspect_checkpoint(folder.parent)
    (folder / SHARDS[0]).rename(folder / "mine.safetensors")
    with pytest.raises(CheckpointError, match=r"3 \.safetensors files and no index"):
        inspect_checkpoint(folder.parent)


def test_a_missing_shard_of_an_index_is_named(checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V)
    split(folder / "transformer", WEIGHTS, SHARDS, index=True)
    (folder / "transformer" / SHARDS[1]).unlink()
    with pytest.raises(CheckpointError, match=f"lists {SHARDS[1]}, not found in"):
        inspect_checkpoint(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "holds a list, not a JSON object"),
        ("{}", "has no weight_map"),
        ('{"weight_map": {"proj.weight": 5}}', "has no weight_map"),
        ('{"weight_map": {"proj.weight": ["a"]}}', "has no weight_map"),
    ],
)
def test_a_damaged_index_is_refused(checkpoint_copy, content, message):
    folder = checkpoint_copy(V5_1, Head.T2V)
    (folder / "transformer" / f"{WEIGHTS}.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        inspect_checkpoint(folder)


def test_an_index_that_names_more_than_its_files_hold(checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V)
    content = {"weight_map": {"gone.weight": WEIGHTS}}
    (folder / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps(content))
    with pytest.raises(
        CheckpointError, match=r"lists 1 tensors that its files lack, such as gone\.weight"
    ):
        inspect_checkpoint(folder)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused_by_name(checkpoint_copy, part, share):
    folder = checkpoint_copy(V5_1, Head.T2V)
    file = next((folder / part).glob("*.safetensors"))
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"is not a valid safetensors file") as caught:
        inspect_checkpoint(folder)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt", ".pth"])
def test_a_pickle_is_refused_with_the_reason(checkpoint_copy, suffix):
    folder = checkpoint_copy(V5_1, Head.T2V)
    file = folder / "transformer" / WEIGHTS
    file.rename(file.with_suffix(suffix))
    with pytest.raises(CheckpointError, match=r"is a pickle. Opening a pickle can run any code"):
        inspect_checkpoint(folder)


def test_a_pickle_named_in_the_index_is_refused(checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V)
    file = folder / "transformer" / WEIGHTS
    file.rename(file.with_suffix(".bin"))
    content = {"weight_map": {"proj.weight": file.with_suffix(".bin").name}}
    (folder / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="is a pickle"):
        inspect_checkpoint(folder)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "scheduler"])
def test_a_missing_part_is_named(checkpoint_copy, part):
    folder = checkpoint_copy(V5_1, Head.T2V)
    shutil.rmtree(folder / part)
    with pytest.raises(CheckpointError, match=part):
        inspect_checkpoint(folder)


@pytest.mark.parametrize(
    "file", ["transformer/" + WEIGHTS, "vae/config.json", "scheduler/scheduler_config.json"]
)
def test_a_missing_file_is_named(checkpoint_copy, file):
    folder = checkpoint_copy(V5_1, Head.T2V)
    (folder / file).unlink()
    with pytest.raises(CheckpointError) as caught:
        inspect_checkpoint(folder)
    assert str((folder / file).parent) in str(caught.value)
    assert "Download" in str(caught.value)


def test_what_is_no_checkpoint_folder(tmp_path, checkpoint):
    folder = checkpoint(V5_1, Head.T2V)
    for path, message in (
        (tmp_path / "missing", "is not a folder. Give an EasyAnimate checkpoint folder"),
        (folder / "transformer" / WEIGHTS, "is not a folder"),
        (tmp_path, "has no transformer/ and no vae/"),
        (folder / "transformer", "has no transformer/ and no vae/"),
    ):
        with pytest.raises(CheckpointError, match=message):
            inspect_checkpoint(path)


def test_a_published_model_that_is_missing_or_incomplete_names_the_command_first(tmp_path):
    name = "EasyAnimateV5.1-7b-zh-InP"
    command = f"install.py {name} --to {shlex.quote(str(tmp_path))} (30 GB): "
    for rule in ("is not a folder", "has no transformer/ and no vae/"):
        with pytest.raises(CheckpointError) as caught:
            inspect_checkpoint(tmp_path / name)
        before, found, after = str(caught.value).partition(command)
        assert before.startswith("Run ")
        assert found
        assert after.startswith(f"{tmp_path / name} {rule}")
        (tmp_path / name).mkdir(exist_ok=True)


def test_another_model_is_refused(checkpoint_copy):
    folder = checkpoint_copy(V5_1, Head.T2V)
    shutil.copy(folder / "vae" / WEIGHTS, folder / "transformer" / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"are not an EasyAnimate V5 or V5\.1"):
        inspect_checkpoint(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latent_channels": 4}, "VAE has 4 latent channels and the denoiser 16"),
        ({"act_fn": "relu"}, "act_fn = 'relu'"),
        ({"block_out_channels": [16, 16, 32]}, "block_types"),
    ],
)
def test_the_vae_of_another_model_is_refused(checkpoint_copy, values, message):
    folder = checkpoint_copy(V5_1, Head.T2V)
    change_config(folder / "vae", **values)
    with pytest.raises(CheckpointError, match=message):
        inspect_checkpoint(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"norm_num_groups": 7},
        {"layers_per_block": "a"},
        {"layers_per_block": 2},
        {"block_out_channels": [8] * 4},
    ],
)
def test_a_vae_config_that_contradicts_its_tensors_is_refused(checkpoint_copy, values):
    folder = checkpoint_copy(V5_1, Head.T2V)
    change_config(folder / "vae", **values)
    with pytest.raises(CheckpointError, match="VAE"):
        run(folder, Head.T2V)


def test_parts_of_the_other_version_are_refused(checkpoint_copy, checkpoint):
    """V5's text encoders and scheduler beside a V5.1 denoiser."""
    folder = checkpoint_copy(V5_1, Head.T2V)
    v5 = checkpoint(V5, Head.T2V)
    shutil.rmtree(folder / "text_encoder")
    shutil.copytree(v5 / "text_encoder", folder / "text_encoder")
    with pytest.raises(CheckpointError, match=r"model_type 'bert'.*qwen2_vl"):
        run(folder, Head.T2V)


def test_the_transformer_of_v5_in_a_v5_1_folder_is_v5(checkpoint_copy, checkpoint):
    """Then the second text encoder is what is missing."""
    folder = checkpoint_copy(V5_1, Head.T2V)
    shutil.rmtree(folder / "transformer")
    shutil.copytree(checkpoint(V5, Head.T2V) / "transformer", folder / "transformer")
    with pytest.raises(CheckpointError, match="text_encoder_2 does not exist"):
        inspect_checkpoint(folder)
