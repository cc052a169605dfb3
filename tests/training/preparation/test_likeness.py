"""CLIP's measures, by a real CLIP of random weights against its own features."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPProcessor

from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.media import read_video, resize_cover, write_mp4
from easyanimate_core.training.preparation import Limit, Measuring, filter_files, read_captions
from easyanimate_core.training.preparation.files import data_file
from easyanimate_core.training.preparation.filters import Measurements
from easyanimate_core.training.preparation.pixels import sample_frames
from tests.factories import real_clip
from tests.training.preparation.tiny_vision_models import write_clip

TEXT = "Two bikes."


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture
def dataset(tmp_path):
    """A clip of one scene, and one with a cut in it."""
    folder = tmp_path / "data"
    scenes = [
        resize_cover(read_video(real_clip(name), max_frames=12).frames, 64, 96)
        for name in ("bikes", "bigbuckbunny")
    ]
    write_mp4(folder / "bikes.mp4", scenes[0], fps=25)
    write_mp4(folder / "cut.mp4", torch.cat(scenes), fps=25)
    return folder


@pytest.fixture
def head(tmp_path):
    weight = torch.randn(1, 16, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "head.safetensors"
    save_file({"weight": weight, "bias": torch.tensor([5.0])}, path)
    return path


def values(folder, name):
    return Measurements(folder).values(data_file(folder / name, folder))


def caption(folder, text):
    file = folder.parent / "texts.json"
    file.write_text(json.dumps({"bikes.mp4": text}))
    read_captions(folder, file)


def features(clip, folder, name):
    """Frames and text as the model itself gives them."""
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    frames = [Image.fromarray(f) for f in sample_frames(data_file(folder / name, folder), 8)]
    inputs = processor(text=[TEXT], images=frames, return_tensors="pt")
    output = model(**inputs)
    return output.image_embeds, output.text_embeds[0]


def test_values_are_those_of_the_models_own_features(clip, dataset, head):
    caption(dataset, TEXT)
    filter_files(dataset, measuring=Measuring(clip=clip, aesthetic_head=head, device="cpu"))
    frames, text = features(clip, dataset, "bikes.mp4")
    found = values(dataset, "bikes.mp4")
    assert found["similarity"] == pytest.approx(float((frames @ text).mean()), abs=1e-5)
    neighbours = torch.nn.functional.cosine_similarity(frames[1:], frames[:-1])
    assert found["consistency"] == pytest.approx(float(neighbours.min()), abs=1e-5)
    weight = torch.randn(1, 16, generator=torch.Generator().manual_seed(1))
    score = float((frames @ weight.T).mean()) + 5
    assert found["aesthetics"] == pytest.approx(score, abs=1e-4)
    assert "similarity" not in values(dataset, "cut.mp4")
    assert values(dataset, "cut.mp4")["consistency"] < found["consistency"]


def test_only_what_is_missing_is_measured(clip, dataset, head):
    journal = dataset / "preparation/measures.jsonl"

    def lines():
        return len(journal.read_text().splitlines()) - 1

    measuring = Measuring(clip=clip, device="cpu")
    decisions = filter_files(dataset, {"consistency": Limit(1.01)}, measuring=measuring)
    assert lines() == 4
    assert {reason.measure for d in decisions.files for reason in d.reasons} >= {"consistency"}
    assert decisions.off["similarity"] == "there are no captions yet"
    filter_files(dataset, measuring=Measuring(clip=clip, aesthetic_head=head, device="cpu"))
    assert lines() == 6
    caption(dataset, TEXT)
    filter_files(dataset, measuring=measuring)
    assert lines() == 7
    caption(dataset, "Another text.")
    filter_files(dataset, measuring=measuring)
    filter_files(dataset, measuring=measuring)
    assert lines() == 8
    # Without CLIP the stored values still judge.
    decisions = filter_files(dataset, {"consistency": Limit(1.01)})
    assert all("consistency" in {r.measure for r in d.reasons} for d in decisions.files)


def test_heads_of_another_clip_and_unsafe_files_are_refused(clip, dataset, tmp_path):
    def run(head):
        filter_files(dataset, measuring=Measuring(clip=clip, aesthetic_head=head, device="cpu"))

    wide = tmp_path / "wide.pth"
    torch.save({"weight": torch.zeros(1, 768), "bias": torch.zeros(1)}, wide)
    with pytest.raises(CheckpointError, match=r"\(1, 768\).*layers from 16 values to 1"):
        run(wide)
    unsafe = tmp_path / "unsafe.pth"
    torch.save(torch.nn.Linear(16, 1), unsafe)
    with pytest.raises(CheckpointError, match="could run code"):
        run(unsafe)
    with pytest.raises(InputError, match="does not exist"):
        run(tmp_path / "missing.pth")
