"""Every untrusted format: valid files of it, how they are changed, and who reads them.

A format has a workspace of its own, a folder in which the changed file takes the place of a valid
one. Reading means all that a user's command would do with it before the network runs.
"""

import csv
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from easyanimate_core.errors import InputError
from easyanimate_core.evaluation.compare import compare_reports
from easyanimate_core.evaluation.videos import find_video_set
from easyanimate_core.files import read_text
from easyanimate_core.hub.download import read_record
from easyanimate_core.hub.places import find_places
from easyanimate_core.media import read_facts, read_image, read_mask, read_video, write_png
from easyanimate_core.models.specs import Head, Version
from easyanimate_core.paths.camera import (
    camera_path,
    plucker_embedding,
    read_camera_file,
    to_cameractrl_text,
)
from easyanimate_core.paths.keyframes import keyframe_path, keyframes_from_text
from easyanimate_core.paths.trajectory import heatmap_frames, read_tracks, resample
from easyanimate_core.recipe import Recipe
from easyanimate_core.sampling.schedulers import make_schedule
from easyanimate_core.settings import Settings
from easyanimate_core.text import build_text_encoder, read_embeddings
from easyanimate_core.text.embedding import TextStates
from easyanimate_core.text.embedding_cache import EmbeddingCache
from easyanimate_core.text.embedding_file import PromptEmbeddings, write_embeddings
from easyanimate_core.text.prompts import EncodedPrompt
from easyanimate_core.text.tokenize import (
    load_bert_tokenizer,
    load_qwen_tokenizer,
    load_t5_tokenizer,
)
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.training.config import read_config
from easyanimate_core.training.data.manifest import manifest_records
from easyanimate_core.training.preparation.captions import read_captions
from easyanimate_core.training.preparation.files import RECORDS, records_of
from easyanimate_core.training.preparation.results import read_decisions, read_duplicates
from easyanimate_core.training.tracking import read_log
from easyanimate_core.weights.files import inspect_checkpoint, read_tensor_files
from easyanimate_core.weights.loading import check_weights
from easyanimate_core.weights.lora import Lora, LoraSet, matrix_shapes
from tests.factories import lora_tensors

from .mutations import Mutation, of_bytes, of_json, of_png, of_safetensors, of_text

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Format:
    """`make` fills a new workspace; the valid files are those of `places` that it has written.

    An attempt changes one of them by `mutation` and calls `read` with the workspace.
    """

    name: str
    make: Callable[[Path], None]
    places: tuple[str, ...]
    mutation: Mutation
    read: Read


# Weights and checkpoints


def _v5_1(space: Path) -> None:
    _copy_of(space, Version.V5_1, Head.INPAINT)


def _v5(space: Path) -> None:
    _copy_of(space, Version.V5, Head.T2V)


def _copy_of(space: Path, version: Version, head: Head) -> None:
    """A tiny checkpoint, made once for all workspaces of a folder."""
    made = space.parent / f"tiny-{version.value}"
    if not made.exists():
        make_tiny(made, version=version, head=head)
    shutil.copytree(made, space / "model")


def _read_checkpoint(space: Path) -> None:
    info = inspect_checkpoint(space / "model")
    check_weights(info)
    name = Settings().scheduler_for(info.version, info.scheduler, strength=1.0)
    make_schedule(name, info.scheduler, steps=4)


def _read_encoder(version: Version) -> Read:
    masks = version is Version.V5_1
    return lambda space: build_text_encoder(
        space / "model", version, use_attention_mask=masks
    ).encode(["a dog"])


def _tensors(space: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"layer.{index}.weight": torch.randn(4, 8, generator=generator).to(dtype)
        for index, dtype in enumerate((torch.float32, torch.bfloat16, torch.int8))
    }
    save_file(tensors, space / "a.safetensors", metadata={"format": "pt"})


def _read_tensors(name: str, *, pickles: bool = False) -> Read:
    def read(space: Path) -> None:
        files = read_tensor_files(space / name, pickles=pickles)
        mapped = files.map()
        for key in files:
            _ = mapped[key].float().sum()

    return read


def _gguf(space: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(space / "a.gguf", "easyanimate")
    writer.add_string("easyanimate.config", "{}")
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("words", ["a", "bc"])
    values = np.arange(64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor("plain.weight", values)
    packed = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("packed.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _pickled(space: Path) -> None:
    torch.save({"a.weight": torch.ones(2, 3)}, space / "a.pt")


def _index(space: Path) -> None:
    parts = {"a-00001-of-00002.safetensors": "x", "a-00002-of-00002.safetensors": "y"}
    for name, key in parts.items():
        save_file({key: torch.zeros(2)}, space / name)
    content = {"metadata": {"total_size": 16}, "weight_map": {k: n for n, k in parts.items()}}
    (space / "a.safetensors.index.json").write_text(json.dumps(content))


def _lora(space: Path) -> None:
    _v5_1(space)
    shapes = {"transformer_blocks.0.attn1.to_q": (32, 32)}
    save_file(lora_tensors(shapes), space / "lora.safetensors", metadata={"ss_network_alpha": "2"})


def _read_lora(space: Path) -> None:
    shapes = matrix_shapes(inspect_checkpoint(space / "model").transformer_files)
    loras = LoraSet.read([Lora(space / "lora.safetensors")], shapes)
    for module in loras.modules:
        loras.delta(module)


# Prompts


def _states(rows: int) -> TextStates:
    return TextStates(torch.zeros(rows, 24, 32))


def _embeddings(space: Path) -> None:
    _v5_1(space)
    prompts = PromptEmbeddings(_states(2), _states(1), ("a", "b"), "c")
    write_embeddings(space / "e.safetensors", prompts)


def _read_embeddings(space: Path) -> None:
    found = read_embeddings(space / "e.safetensors")
    found.check(inspect_checkpoint(space / "model").transformer)
    TextStates.join([found.negative, found.positive])


_CACHED = "a prompt"


def _cache(space: Path) -> None:
    cache = EmbeddingCache(space, "an encoder")
    cache.write(_CACHED, EncodedPrompt(_states(1), ("",)))
    next(space.glob("*.safetensors")).rename(space / "kept")


def _read_cache(space: Path) -> None:
    cache = EmbeddingCache(space, "an encoder")
    if not list(space.glob("*.safetensors")):
        cache.write(_CACHED, EncodedPrompt(_states(1), ("",)))
    entry = next(space.glob("*.safetensors"))
    shutil.copy(space / "kept", entry)
    found = cache.read(_CACHED)
    assert found is not None
    TextStates.join([found.states, _states(1)])


# What a run is given


def _recipe(space: Path) -> None:
    from easyanimate_core.tasks import ImageToVideo

    _v5_1(space)
    write_png(space / "start.png", torch.zeros(32, 32, 3))
    info = inspect_checkpoint(space / "model")
    lora = space / "lora.safetensors"
    save_file({"a": torch.zeros(1)}, lora)
    from easyanimate_core.memory.options import Memory

    recipe = Recipe.of_run(
        info, ["a dog"], ImageToVideo(space / "start.png"), Settings(),
        dtype=torch.float32, memory=Memory(), loras=[Lora(lora)],
    )  # fmt: skip
    (space / "recipe.json").write_text(json.dumps(recipe.to_json()))


def _recipe_of_paths(space: Path) -> None:
    poses = [[0, 0.5, 0.9, 0.5, 0.5, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]] * 5
    model = dict.fromkeys(("path", "version", "head", "size", "fingerprint", "dtype"), "x")
    shared: dict[str, Any] = {"format": 1, "model": model, "prompts": ["a"], "settings": {}}
    tracks = {"tracks": [{"json": '[{"x": 1, "y": 2}]'}]}
    camera = {"moves": ["Static"], "poses": {"poses": poses}}
    for name, mode, sources in (
        ("camera.json", "camera", camera),
        ("tracks.json", "trajectory", tracks),
    ):
        (space / name).write_text(json.dumps({**shared, "mode": mode, "sources": sources}))


def _read_recipes(*names: str) -> Read:
    def read(space: Path) -> None:
        for name in names:
            if (space / name).exists():
                _ = Recipe.read(space / name).memory

    return read


def _tracks(space: Path) -> None:
    track = {
        "points": [{"x": 1, "y": 2, "t": 0.1, "visible": True}, {"x": 9, "y": 9}],
        "spline": True,
        "size": 0.5,
    }
    (space / "a.json").write_text(json.dumps([track, track["points"]]))


def _read_tracks(space: Path) -> None:
    tracks = [resample(track, 5) for track in read_tracks(space / "a.json")[:8]]
    heatmap_frames(tracks, height=32, width=48)


def _camera(space: Path) -> None:
    text = to_cameractrl_text(camera_path(["Pan Up"], frames=5))
    (space / "a.txt").write_text(text)
    (space / "b.txt").write_text("frame,x,y,z,yaw,pitch,roll\n0,0,0,0,0,0,0\n8,1,0,0,5,0,0\n")


def _read_camera(space: Path) -> None:
    path = read_camera_file(space / "a.txt")
    plucker_embedding(path.first(min(len(path), 9)), 16, 16)
    keyframes = keyframes_from_text(read_text(space / "b.txt", error=InputError))
    keyframe_path(keyframes, frames=33)


# Datasets and reports


def _dataset(space: Path) -> None:
    data = space / "data"
    data.mkdir()
    for name in ("a.png", "b.png"):
        write_png(data / name, torch.zeros(32, 32, 3))
    rows = [{"file_path": name, "text": "a dog"} for name in ("a.png", "b.png")]
    (space / "captions.json").write_text(json.dumps(rows))
    (space / "object.json").write_text(json.dumps({"a.png": "a", "b.png": "b"}))
    entries = [{**row, "type": "image"} for row in rows]
    (space / "manifest.json").write_text(json.dumps(entries))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file_path", "text"])
    writer.writeheader()
    writer.writerows(rows)
    (space / "captions.csv").write_text(text.getvalue())
    records = records_of(data)
    records.mkdir(parents=True)
    reason = {"measure": "side", "said": "too small"}
    kept = [{"path": "a.png", "identity": "1-1", "reasons": []}]
    limits = {"side": {"low": 16, "high": None}}
    dropped = [{"path": "a.png", "identity": "1-1", "reasons": [reason]}]
    (records / "decisions.json").write_text(
        json.dumps({"limits": limits, "off": {}, "files": kept + dropped})
    )
    same = {"path": "b.png", "kept": "a.png", "distance": 2}
    (records / "duplicates.json").write_text(
        json.dumps({"threshold": 8, "compared": {"a.png": "1-1"}, "dropped": [same]})
    )
    caption = {"path": "a.png", "identity": "1-1", "by": "given", "text": "a"}
    (records / "captions.jsonl").write_text(
        json.dumps({"settings": {}}) + "\n" + json.dumps(caption) + "\n"
    )


def _read_captions(name: str) -> Read:
    return lambda space: read_captions(space / "data", space / name)


def _report(space: Path) -> None:
    report = {"kind": "videos", "videos": {"a": {"ssim": 0.5, "psnr_db": 20.0}}, "fvd": None}
    for name in ("a.json", "b.json"):
        (space / name).write_text(json.dumps(report))


def _log(space: Path) -> None:
    (space / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n')


def _training(space: Path) -> None:
    text = """task: inpaint
output: runs/a
model:
  checkpoint: models/a
  lora: {rank: 8, alpha: 4.0, layers: [attention]}
data: &data
  synthetic: {count: 10, height: 96, width: 96, frames: 17, languages: [en]}
  tokens: [3328]
  frames: [1, 17]
objective:
  masks: {start: 0.5, all: 0.5}
run: {steps: 100, precision: no, save_every: 50, log_every: 10}
"""
    (space / "a.yaml").write_text(text)


def _places(space: Path) -> None:
    (space / "custom_nodes" / "pack").mkdir(parents=True)
    (space / "models").mkdir()
    text = (
        "easyanimate:\n    base_path: x\n    is_default: true\n    loras: |\n        a\n        b\n"
    )
    (space / "extra_model_paths.yaml").write_text(text)


def _record(space: Path) -> None:
    content = {"wanted": {"a": 1}, "checked": {"a": ["0" * 64, 1, 2]}}
    (space / ".easyanimate-download.json").write_text(json.dumps(content))


# Pictures and clips


def _picture(suffix: str, **options: Any) -> Callable[[Path], None]:
    def make(space: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
        pictures = [Image.fromarray(np.roll(pixels, n, 1)) for n in range(3)]
        if options.pop("animated", False):
            options.update(save_all=True, append_images=pictures[1:], duration=100)
        pictures[0].save(space / f"a.{suffix}", **options)

    return make


def _read_picture(suffix: str) -> Read:
    def read(space: Path) -> None:
        read_image(space / f"a.{suffix}")
        read_mask(space / f"a.{suffix}")

    return read


def _clip(suffix: str, codec: str) -> Callable[[Path], None]:
    def make(space: Path) -> None:
        import av

        with av.open(str(space / f"a.{suffix}"), "w") as container:
            stream: Any = container.add_stream(codec, rate=8)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
            container.metadata["title"] = "a clip"
            for number in range(9):
                pixels = np.full((48, 64, 3), number * 20, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            container.mux(stream.encode())

    return make


def _read_clip(suffix: str) -> Read:
    def read(space: Path) -> None:
        read_facts(space / f"a.{suffix}")
        read_video(space / f"a.{suffix}")

    return read


def _tokenizer(space: Path) -> None:
    _v5_1(space)
    shutil.copytree(space / "model" / "tokenizer", space / "whole")
    load_qwen_tokenizer(space / "whole").backend.save_pretrained(space / "whole")
    config = json.loads((space / "model" / "tokenizer" / "tokenizer_config.json").read_text())
    (space / "whole" / "tokenizer_config.json").write_text(json.dumps(config))


def _read_qwen(folder: str) -> Read:
    return lambda space: load_qwen_tokenizer(space / folder).tokenize(["a dog", "é 好 <|im_end|>"])


def _prompts(space: Path) -> object:
    return find_video_set(space / "data", prompts=space / "captions.json", clip=space / "no-model")


_TEXT = "model/tokenizer"

FORMATS: Sequence[Format] = (
    Format("safetensors", _tensors, ("a.safetensors",), of_safetensors,
           _read_tensors("a.safetensors")),
    Format("gguf", _gguf, ("a.gguf",), of_bytes, _read_tensors("a.gguf")),
    Format("pytorch file", _pickled, ("a.pt",), of_bytes, _read_tensors("a.pt", pickles=True)),
    Format("index", _index, ("a.safetensors.index.json",), of_json, _read_tensors(".")),
    Format("lora", _lora, ("lora.safetensors",), of_safetensors, _read_lora),
    Format("denoiser config", _v5_1, ("model/transformer/config.json",), of_json, _read_checkpoint),
    Format("vae config", _v5_1, ("model/vae/config.json",), of_json, _read_checkpoint),
    Format("scheduler config", _v5, ("model/scheduler/scheduler_config.json",), of_json,
           _read_checkpoint),
    Format("denoiser weights", _v5_1,
           ("model/transformer/diffusion_pytorch_model.safetensors",), of_safetensors,
           _read_checkpoint),
    Format("text config V5.1", _v5_1, ("model/text_encoder/config.json",), of_json,
           _read_encoder(Version.V5_1)),
    Format("text config V5", _v5,
           ("model/text_encoder/config.json", "model/text_encoder_2/config.json"), of_json,
           _read_encoder(Version.V5)),
    Format("tokenizer files", _v5_1, (f"{_TEXT}/vocab.json", f"{_TEXT}/tokenizer_config.json"),
           of_json, _read_qwen(_TEXT)),
    Format("tokenizer merges", _v5_1, (f"{_TEXT}/merges.txt",), of_text, _read_qwen(_TEXT)),
    Format("tokenizer.json", _tokenizer, ("whole/tokenizer.json",), of_json, _read_qwen("whole")),
    Format("bert vocabulary", _v5, (f"{_TEXT}/vocab.txt",), of_text,
           lambda space: load_bert_tokenizer(space / _TEXT).tokenize(["a dog"])),
    Format("sentencepiece", _v5, ("model/tokenizer_2/spiece.model",), of_bytes,
           lambda space: load_t5_tokenizer(space / "model/tokenizer_2").tokenize(["a dog", "é"])),
    Format("embeddings", _embeddings, ("e.safetensors",), of_safetensors, _read_embeddings),
    Format("embedding cache", _cache, ("kept",), of_safetensors, _read_cache),
    Format("recipe", _recipe, ("recipe.json",), of_json, _read_recipes("recipe.json")),
    Format("recipe of paths", _recipe_of_paths, ("camera.json", "tracks.json"), of_json,
           _read_recipes("camera.json", "tracks.json")),
    Format("tracks", _tracks, ("a.json",), of_json, _read_tracks),
    Format("camera text", _camera, ("a.txt", "b.txt"), of_text, _read_camera),
    Format("training config", _training, ("a.yaml",), of_text,
           lambda space: read_config(space / "a.yaml")),
    Format("model paths", _places, ("extra_model_paths.yaml",), of_text,
           lambda space: find_places(space / "custom_nodes" / "pack", {}).folders("loras")),
    Format("download record", _record, (".easyanimate-download.json",), of_json, read_record),
    Format("captions", _dataset, ("captions.json",), of_json, _read_captions("captions.json")),
    Format("captions by path", _dataset, ("object.json",), of_json, _read_captions("object.json")),
    Format("captions table", _dataset, ("captions.csv",), of_text, _read_captions("captions.csv")),
    Format("journal", _dataset, (f"data/{RECORDS}/captions.jsonl",), of_text,
           _read_captions("captions.json")),
    Format("decisions", _dataset, (f"data/{RECORDS}/decisions.json",), of_json,
           lambda space: read_decisions(space / "data")),
    Format("duplicates", _dataset, (f"data/{RECORDS}/duplicates.json",), of_json,
           lambda space: read_duplicates(space / "data")),
    Format("manifest", _dataset, ("manifest.json",), of_json,
           lambda space: manifest_records(
               space / "manifest.json", space / "data", fps=8, report=str)),
    Format("evaluation prompts", _dataset, ("captions.json",), of_json, _prompts),
    Format("evaluation report", _report, ("a.json",), of_json,
           lambda space: compare_reports(space / "a.json", space / "b.json")),
    Format("training log", _log, ("log.jsonl",), of_text,
           lambda space: read_log(space / "log.jsonl")),
    *(
        Format(name, _picture(suffix, **options), (f"a.{suffix}",),
               of_png if suffix == "png" else of_bytes, _read_picture(suffix))
        for name, suffix, options in (
            ("png", "png", {}), ("jpeg", "jpg", {}), ("webp", "webp", {}), ("tiff", "tiff", {}),
            ("bmp", "bmp", {}), ("gif picture", "gif", {}), ("avif", "avif", {}),
            ("tiff compressed", "tiff", {"compression": "tiff_lzw"}),
        )
    ),
    *(
        Format(name, _picture(suffix, animated=True), (f"a.{suffix}",),
               of_png if suffix == "png" else of_bytes, _read_clip(suffix))
        for name, suffix in (("apng", "png"), ("animated webp", "webp"), ("animated avif", "avif"))
    ),
    *(
        Format(f"{suffix} {codec}", _clip(suffix, codec), (f"a.{suffix}",), of_bytes,
               _read_clip(suffix))
        for suffix, codec in (
            ("mp4", "libx264"), ("mkv", "ffv1"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"),
            ("gif", "gif"), ("mov", "mjpeg"),
        )
    ),
)  # fmt: skip
BY_NAME = {format_.name: format_ for format_ in FORMATS}
