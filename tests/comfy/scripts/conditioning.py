"""Encoded prompts to a file and back: `conditioning.py`."""

import sys
from pathlib import Path

import folder_paths
import torch

sys.path.append(str(Path(__file__).parent))
from probing import Probe, empty, encode, gap

V51, V5 = "EasyAnimateV5.1-7b-zh", "EasyAnimateV5-7b-zh"
TEXTS = {"positive": "a red fox runs 一只红色的狐狸", "negative": "blurred"}

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
base = Path(folder_paths.base_path)
names = []


def save(conditioning, prefix="mine/fox"):
    (report,) = probe.run(
        "EasyAnimateSaveConditioning",
        positive=conditioning[0],
        negative=conditioning[1],
        filename_prefix=prefix,
    )
    return Path(report.removeprefix("Saved as "))


def load(name):
    return probe.run("EasyAnimateLoadConditioning", embeddings=name)


def round_trip(checkpoint, texts, model):
    """The same latents from a file as from the text encoder."""
    file = save(texts)
    name = file.relative_to(base / "output" / "EasyAnimate_embeddings").as_posix()
    names.append(name)
    *loaded, report = load(name)
    found[f"round trip {checkpoint}"] = {
        "listed": name in probe.paths.list_files("EasyAnimate_embeddings"),
        "name": name,
        "report": report,
        "same states": all(
            torch.equal(a[0][0], b[0][0]) for a, b in zip(texts, loaded, strict=True)
        ),
        "keys": sorted(loaded[0][0][1]),
        "gap": gap(probe.sample(model, loaded, empty()), probe.sample(model, texts, empty())),
    }
    return loaded


def across(loaded_51, loaded_5, model_51, model_5):
    """A file of one version with the other's model."""
    found["error V5 file"] = probe.error(lambda: probe.sample(model_51, loaded_5, empty()))
    found["error V5.1 file"] = probe.error(lambda: probe.sample(model_5, loaded_51, empty()))


def command_line(model):
    """What the command line's `encode` writes is read, and what the node writes is read by it."""
    main = probe.module("easyanimate_core.cli.main").main
    folder = base / "models" / "EasyAnimate_embeddings"
    checkpoint = probe.paths.find_checkpoint(V51)
    words = ["encode", "--model", str(checkpoint), "--out", str(folder / "two.safetensors")]
    words += ["--prompt", TEXTS["positive"], "--prompt", "a cat", "--no-embedding-cache"]
    found["encode"] = main([*words, "--negative-prompt", "blurred", "--dtype", "float32"])
    *two, report = load("two.safetensors")
    found["encode shape"] = [list(two[0][0][0].shape), list(two[1][0][0].shape)]
    found["encode report"] = report
    found["encode gap"] = gap(two[0][0][0][:1], load(names[0])[0][0][0])
    out = probe.sample(model, two, empty(batch=2))
    found["encode batch"] = [list(out.shape), gap(out[:1], out[1:])]
    pipeline = probe.core.Pipeline.load(checkpoint, device="cpu", embedding_cache=False)
    given = probe.core.read_embeddings(base / "output" / "EasyAnimate_embeddings" / names[0])
    settings = probe.core.Settings(height=64, width=64, frames=5, steps=2)
    texts = [pipeline.generate(p, settings=settings) for p in (given, TEXTS["positive"])]
    found["node's prompts"] = [list(given.prompts), given.negative_prompt]
    found["node's file in the core"] = list(texts[0].latents.shape)


def refusals(loaded, texts):
    shown = probe.run(
        "EasyAnimateImageToVideo",
        positive=texts[0],
        negative=texts[1],
        vae=loaded.vae,
        start_image=torch.zeros(1, 64, 64, 3),
        width=64,
        height=64,
        length=9,
    )
    found["error shown"] = probe.error(lambda: save(shown))
    found["error parts"] = probe.error(lambda: save([texts[0] * 2, texts[1]]))
    area = [[texts[0][0][0], {**texts[0][0][1], "area": (1, 1, 0, 0)}]]
    found["error area"] = probe.error(lambda: save([area, texts[1]]))
    found["error outside"] = probe.error(lambda: save(texts, "../../elsewhere"))
    node = probe.nodes["EasyAnimateLoadConditioning"]
    found["error missing"] = node.validate_inputs("none.safetensors")
    found["same text twice"] = save([texts[0], texts[0]]).is_file()


with torch.inference_mode():
    first, second = probe.load(V51), probe.load(V5)
    kept = []
    for checkpoint, loaded in ((V51, first), (V5, second)):
        texts = encode(loaded.clip, *TEXTS.values())
        kept.append(round_trip(checkpoint, texts, loaded.model))
    across(*kept, first.model, second.model)
    command_line(first.model)
    refusals(first, encode(first.clip, *TEXTS.values()))
probe.done()
