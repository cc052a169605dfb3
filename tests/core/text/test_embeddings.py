"""Embeddings that are kept: the cache by prompt, and files for runs without a text encoder."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from easyanimate_core.cli.main import main
from easyanimate_core.errors import InputError, RecipeError
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.recipe import Recipe
from easyanimate_core.text import (
    EmbeddingCache,
    EncodedPrompt,
    PromptEmbeddings,
    TextStates,
    encoder_identity,
    find_cache_folder,
    read_embeddings,
    write_embeddings,
)
from easyanimate_core.weights.files import inspect_checkpoint
from tests.factories import FRAMES, HEIGHT, STEPS, V5, V5_1, WIDTH, quick

DOG, CAT = "A dog shakes its head.", "一只猫。"
VERSIONS = (V5_1, V5)
both_versions = pytest.mark.parametrize("version", VERSIONS)


def networks_loaded(model, prompt=DOG, **settings):
    """How many networks a run of a fresh pipeline loads, and its result."""
    finished = []

    def progress(stage, done, total):
        if stage == "load" and done == total:
            finished.append(total)

    result = model.generate(prompt, settings=quick(**settings), progress=progress)
    return len(finished), result


def entries():
    return sorted(find_cache_folder().glob("*"))


# The cache


@both_versions
def test_a_known_prompt_needs_no_text_encoder(checkpoint, version):
    """The denoiser and the VAE are loaded in the first stages as well: text is what is missing."""
    folder, text = checkpoint(version, Head.T2V), 2 if version is V5 else 1
    plain = networks_loaded(Pipeline.load(folder, embedding_cache=False))
    first = networks_loaded(Pipeline.load(folder))
    again = networks_loaded(Pipeline.load(folder))
    other = networks_loaded(Pipeline.load(folder), prompt=CAT)
    assert [plain[0], first[0], again[0], other[0]] == [text + 2, text + 2, 2, text + 2]
    for _, result in (first, again):
        assert torch.equal(result.latents, plain[1].latents)
    assert len(entries()) == 3  # two prompts and the negative one
    assert find_cache_folder().name == "embeddings"
    assert os.environ["EASYANIMATE_CACHE"] == str(find_cache_folder().parent)


@both_versions
def test_every_prompt_of_a_batch_is_looked_up(checkpoint, version):
    folder, text = checkpoint(version, Head.T2V), 2 if version is V5 else 1
    networks_loaded(Pipeline.load(folder), prompt=[DOG])
    networks_loaded(Pipeline.load(folder), prompt=[CAT])
    loaded, both = networks_loaded(Pipeline.load(folder), prompt=[CAT, DOG, CAT], batch=2)
    assert loaded == 2
    plain = Pipeline.load(folder, embedding_cache=False)
    assert torch.equal(both.latents, networks_loaded(plain, [CAT, DOG, CAT], batch=2)[1].latents)
    assert networks_loaded(Pipeline.load(folder), prompt=[CAT, "new"])[0] == text + 2
    assert len(entries()) == 4


def test_a_prompt_has_the_same_bits_with_and_without_company(checkpoint):
    model = Pipeline.load(checkpoint(V5_1, Head.T2V), embedding_cache=False)
    alone, pair = model.encode(DOG), model.encode([CAT, DOG])
    assert torch.equal(alone.positive.text, pair.positive.rows(slice(1, 2)).text)
    assert len(pair) == 2
    assert torch.equal(alone.negative.text, pair.negative.text)


@both_versions
def test_what_was_cut_is_told_again(checkpoint, version):
    model = Pipeline.load(checkpoint(version, Head.T2V))
    long = "word " * 400 + "zebra"
    first, again = (model.encode(long, long).notes for _ in range(2))
    assert first == again
    assert len(first) == (2 if version is V5_1 else 4)
    assert all("zebra' was not read" in note for note in first)


def test_a_folder_of_its_own_or_none(checkpoint, tmp_path):
    folder = checkpoint(V5_1, Head.T2V)
    Pipeline.load(folder, embedding_cache=tmp_path / "mine").encode(DOG)
    assert len(list((tmp_path / "mine").iterdir())) == 2
    Pipeline.load(folder, embedding_cache=False).encode(DOG)
    assert entries() == []


@pytest.mark.parametrize("damage", [b"", b"not safetensors", None])
def test_a_damaged_entry_is_made_anew_with_a_note(checkpoint, damage):
    folder = checkpoint(V5_1, Head.T2V)
    expected = Pipeline.load(folder).encode(DOG)
    for entry in entries():
        entry.write_bytes(entry.read_bytes()[:-7] if damage is None else damage)
    loaded, result = networks_loaded(Pipeline.load(folder))
    assert loaded == 3
    assert len(result.notes) == 2
    assert all(
        "A cached embedding is replaced" in note and "is damaged" in note for note in result.notes
    )
    loaded, result = networks_loaded(Pipeline.load(folder))
    assert (loaded, result.notes) == (2, ())
    assert torch.equal(Pipeline.load(folder).encode(DOG).positive.text, expected.positive.text)


def test_an_entry_of_other_tensors_is_damaged(tmp_path):
    cache = EmbeddingCache(tmp_path, "encoder")
    cache.write(DOG, EncodedPrompt(TextStates(torch.zeros(1, 4, 8)), ("",)))
    (entry,) = tmp_path.iterdir()
    for tensors in ({"x": torch.zeros(1)}, {"text": torch.zeros(4, 8)}):
        save_file(tensors, entry, metadata={"cut": "[]"})
        with pytest.raises(InputError, match="is damaged"):
            cache.read(DOG)


def test_a_folder_that_cannot_be_written_is_a_note(checkpoint, tmp_path):
    (tmp_path / "file").write_text("")
    model = Pipeline.load(checkpoint(V5_1, Head.T2V), embedding_cache=tmp_path / "file")
    notes = model.encode(DOG).notes
    assert len(notes) == 2
    assert all("was not cached" in note for note in notes)


def test_those_not_used_for_the_longest_time_make_room(tmp_path):
    states = TextStates(torch.zeros(1, 256, 8))
    size = 256 * 8 * 4
    cache = EmbeddingCache(tmp_path, "encoder", max_bytes=int(3.5 * size))
    foreign = tmp_path / "mine.safetensors"
    foreign.write_bytes(b"x" * 4 * size)
    for age, prompt in enumerate(("a", "b", "c")):
        cache.write(prompt, EncodedPrompt(states, ("",)))
        newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (1000 + age, 1000 + age))
    assert cache.read("a") is not None  # used now
    cache.write("d", EncodedPrompt(states, ("",)))
    assert [cache.read(prompt) is None for prompt in "abcd"] == [False, True, False, False]
    assert foreign.exists()


def test_what_encodes_is_told_apart(checkpoint, checkpoint_copy):
    folder = checkpoint_copy(V5, Head.T2V)

    def identity(path=folder, dtype=torch.float32, device="cpu", quantization="none"):
        return encoder_identity(
            inspect_checkpoint(path),
            dtype=dtype,
            device=torch.device(device),
            quantization=quantization,
        )

    first = identity()
    assert first == identity(checkpoint(V5, Head.T2V)), "the same content in another place"
    others = [
        identity(checkpoint(V5, Head.T2V, seed=1)),
        identity(checkpoint(V5_1, Head.T2V)),
        identity(dtype=torch.bfloat16),
        identity(device="meta"),
        identity(quantization="qint8"),
    ]
    for part, change in (
        ("text_encoder_2/model.safetensors", spoil_one_value),
        ("text_encoder/config.json", spoil_text),
        ("tokenizer_2/tokenizer_config.json", spoil_text),
    ):
        kept = (folder / part).read_bytes()
        change(folder / part)
        others.append(identity())
        (folder / part).write_bytes(kept)
    assert identity() == first
    assert len({first, *others}) == 1 + len(others)


def spoil_one_value(path):
    tensors = load_file(path)
    next(iter(tensors.values())).view(torch.uint8).flatten()[0] ^= 1
    save_file(tensors, path)


def spoil_text(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "unused": 1}))


# Files


@both_versions
def test_a_run_from_a_file_has_the_same_bits(checkpoint, tmp_path, version):
    folder = checkpoint(version, Head.T2V)
    model = Pipeline.load(folder, embedding_cache=False)
    expected = model.generate([DOG, CAT], settings=quick(batch=2, negative_prompt="bad"))
    written = write_embeddings(tmp_path / "prompt.safetensors", model.encode([DOG, CAT], "bad"))
    given = read_embeddings(written)
    assert (given.prompts, given.negative_prompt) == ((DOG, CAT), "bad")
    loaded, result = networks_loaded(
        Pipeline.load(folder, embedding_cache=False), given, batch=2, negative_prompt="another"
    )
    assert loaded == 2
    assert torch.equal(result.latents, expected.latents)
    recipe = Recipe.from_json(json.loads(json.dumps(result.recipe.to_json())))
    assert recipe.prompts == (DOG, CAT)
    assert recipe.settings.negative_prompt == "bad"
    assert recipe.embeddings["file"] == str(written)


def test_a_file_has_the_states_as_they_are(tmp_path):
    generator = torch.Generator().manual_seed(0)
    states = [
        TextStates(
            torch.randn(rows, 3, 8, generator=generator).bfloat16(),
            torch.randn(rows, 5, 4, generator=generator).bfloat16(),
        )
        for rows in (2, 1)
    ]
    path = write_embeddings(tmp_path / "x.safetensors", PromptEmbeddings(*states))
    with safe_open(path, "pt") as opened:
        assert set(opened.keys()) == {
            f"{side}.{name}" for side in ("positive", "negative") for name in ("text", "text_t5")
        }
    again = read_embeddings(path)
    for kept, given in zip((again.positive, again.negative), states, strict=True):
        assert torch.equal(kept.text, given.text)
        assert torch.equal(kept.text_t5, given.text_t5)
    assert (again.prompts, again.negative_prompt, again.file) == ((), None, path)
    same = PromptEmbeddings(states[1], states[1])
    assert torch.equal(read_embeddings(write_embeddings(path, same)).positive.text, states[1].text)


def no_progress(stage, done, total):
    raise AssertionError(f"{stage} began ({done} of {total})")


def test_embeddings_of_another_encoder_are_refused_before_any_weight_is_read(checkpoint):
    embeddings = [Pipeline.load(checkpoint(version, Head.T2V)).encode(DOG) for version in VERSIONS]
    for version, wrong in zip(VERSIONS, reversed(embeddings), strict=True):
        model = Pipeline.load(checkpoint(version, Head.T2V))
        with pytest.raises(InputError, match=rf"but this denoiser needs.*{version.value}"):
            model.generate(wrong, settings=quick(), progress=no_progress)


STATES = torch.zeros(1, 4, 8)
GOOD = {"positive.text": STATES, "negative.text": STATES.clone()}
TOLD = {"easyanimate_embeddings": "1", "texts": "{}"}


@pytest.mark.parametrize(
    ("tensors", "told", "message"),
    [
        (GOOD, {}, "is not an embeddings file of format 1"),
        (GOOD, {**TOLD, "easyanimate_embeddings": "2"}, "its metadata has '2'"),
        (GOOD, {**TOLD, "texts": "["}, "are damaged"),
        (GOOD, {"easyanimate_embeddings": "1"}, "are damaged"),
        ({"positive.text": STATES}, TOLD, "negative.text is missing"),
        ({**GOOD, "positive.text": STATES[0]}, TOLD, "are damaged"),
        ({**GOOD, "positive.text": STATES[:0]}, TOLD, "are damaged"),
        ({**GOOD, "positive.text": STATES.int()}, TOLD, "are damaged"),
        ({**GOOD, "positive.text_t5": torch.zeros(2, 4, 8)}, TOLD, "are damaged"),
        ({**GOOD, "negative.text": torch.zeros(2, 4, 8)}, TOLD, "2 negative prompts"),
    ],
)
def test_other_files_are_refused(tmp_path, tensors, told, message):
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata=told)
    with pytest.raises(InputError, match=message):
        read_embeddings(path)


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no")
    for name, message in (
        ("x.safetensors", "are damaged"),
        ("y.safetensors", "does not exist"),
        ("x.pt", "must end in .safetensors"),
    ):
        with pytest.raises(InputError, match=message):
            read_embeddings(tmp_path / name)


# The command line

QUICK = ["--size", f"{HEIGHT}x{WIDTH}", "--frames", str(FRAMES), "--steps", str(STEPS)]


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_encode_and_generate_with_its_file(checkpoint, tmp_path, capsys):
    model, kept = checkpoint(V5_1, Head.T2V), tmp_path / "new" / "prompt.safetensors"
    assert run("encode", "--model", model, "--prompt", DOG, "--prompt", CAT, "--out", kept) == 0
    assert capsys.readouterr().out == f"{kept}\n"
    for name, text in (
        ("a", ["--embeddings", kept]),
        ("b", ["--prompt", DOG, "--prompt", CAT, "--no-embedding-cache"]),
    ):
        output = tmp_path / f"{name}.mp4"
        assert run("generate", "--model", model, *text, *QUICK, "--output", output) == 0
    assert (tmp_path / "a_1.mp4").stat().st_size > 0
    assert (
        run("generate", "--yes", "--recipe", tmp_path / "a.json", "--output", tmp_path / "c.mp4")
        == 0
    )
    for sample in ("0", "1"):
        frames = [video_bytes(tmp_path / f"{name}_{sample}.mp4") for name in "abc"]
        assert frames[0] == frames[1] == frames[2]


def video_bytes(path):
    from easyanimate_core.media import read_video

    return read_video(path).frames.numpy().tobytes()


def test_a_recipe_refuses_another_file_of_embeddings(checkpoint, tmp_path, capsys):
    model, kept = checkpoint(V5_1, Head.T2V), tmp_path / "prompt.safetensors"
    assert run("encode", "--model", model, "--prompt", DOG, "--out", kept) == 0
    output = ("--output", tmp_path / "a.mp4")
    assert run("generate", "--model", model, "--embeddings", kept, *QUICK, *output) == 0
    assert run("encode", "--model", model, "--prompt", CAT, "--out", kept, "--force") == 0
    capsys.readouterr()
    assert (
        run("generate", "--yes", "--recipe", tmp_path / "a.mp4", "--output", tmp_path / "b.mp4")
        == 2
    )
    assert "has changed since the recipe was made" in capsys.readouterr().err
    kept.unlink()
    with pytest.raises(RecipeError, match="It was not found there"):
        Recipe.read(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--embeddings", "x.safetensors", "--prompt", "a"], "omit --prompt and"),
        (["--embeddings", "x.safetensors", "--negative-prompt", "a"], "omit --prompt and"),
        (["--embeddings", "nothing.safetensors"], "does not exist"),
        ([], "--prompt (or --embeddings)"),
    ],
)
def test_options_that_contradict_are_refused(checkpoint, capsys, options, message):
    assert run("generate", "--model", checkpoint(V5_1, Head.T2V), *options) == 2
    assert message in capsys.readouterr().err


def test_encode_refuses_another_ending_before_the_work(checkpoint, tmp_path, capsys):
    model = checkpoint(V5_1, Head.T2V)
    assert run("encode", "--model", model, "--prompt", DOG, "--out", tmp_path / "x.pt") == 2
    assert "must end in .safetensors" in capsys.readouterr().err


@both_versions
@pytest.mark.parametrize("offload", ["block", "resident"])
def test_memory_options_of_generate(checkpoint, tmp_path, version, offload):
    results = []
    for number, options in enumerate(([], ["--offload", offload, "--text-device", "cpu"])):
        output = tmp_path / f"{number}.mp4"
        words = ["--model", checkpoint(version, Head.T2V), "--prompt", DOG, *QUICK, *options]
        assert run("generate", *words, "--no-embedding-cache", "--output", output) == 0
        results.append(video_bytes(output))
    assert results[0] == results[1]
    assert entries() == []
