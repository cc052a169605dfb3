"""Near-duplicates of real clips, against copies in other sizes and encodings."""

import shutil

import pytest
import torch

from easyanimate_core.errors import InputError
from easyanimate_core.media import read_video, resize_cover, write_mp4, write_png
from easyanimate_core.training.preparation import Limit, deduplicate, filter_files
from easyanimate_core.training.preparation.duplicates import Hashed, find_duplicates
from easyanimate_core.training.preparation.results import Duplicate
from tests.factories import real_clip


@pytest.fixture(scope="module")
def clips():
    """Three scenes, [24, 144, 224, 3] each."""
    frames = {
        "bunny": read_video(real_clip("bigbuckbunny"), max_frames=24).frames,
        "phone": read_video(real_clip("carphone_pristine"), max_frames=24).frames,
        "bikes": read_video(real_clip("bikes"), max_frames=24).frames,
    }
    return {name: resize_cover(clip, 144, 224) for name, clip in frames.items()}


@pytest.fixture
def dataset(clips, tmp_path):
    folder = tmp_path / "data"
    for name, frames in clips.items():
        write_mp4(folder / f"{name}.mp4", frames, fps=24)
    small = resize_cover(clips["bunny"], 72, 112)
    write_mp4(folder / "a_small_bunny.mp4", small, fps=24, crf=32)
    write_mp4(folder / "slow_phone.mp4", clips["phone"][::2], fps=12, crf=28)
    write_png(folder / "bunny.png", clips["bunny"][0])
    return folder


def test_copies_are_dropped_for_the_largest(dataset):
    found = deduplicate(dataset)
    pairs = {(duplicate.path, duplicate.kept) for duplicate in found.dropped}
    # The smaller is dropped although its name comes first; a picture is no copy of a clip.
    assert pairs == {("a_small_bunny.mp4", "bunny.mp4"), ("slow_phone.mp4", "phone.mp4")}
    assert len(found.compared) == 6
    assert all(duplicate.distance <= 6 for duplicate in found.dropped)


def test_hashes_are_stored_and_the_threshold_is_not(dataset):
    first = deduplicate(dataset)
    totals = set()
    second = deduplicate(
        dataset, threshold=0, progress=lambda stage, _, total: totals.add((stage, total))
    )
    assert totals == {("hash", 0)}
    assert len(second.dropped) < len(first.dropped)
    shutil.copy(dataset / "bikes.mp4", dataset / "bikes_again.mp4")
    (duplicate,) = deduplicate(dataset, threshold=0).dropped
    assert duplicate == Duplicate("bikes_again.mp4", "bikes.mp4", 0.0)


def test_what_the_filter_drops_stands_for_nothing(dataset, clips):
    filter_files(dataset, {"side": Limit(None, 140)})
    found = deduplicate(dataset)
    assert set(found.compared) == {"a_small_bunny.mp4"}
    write_mp4(dataset / "new.mp4", torch.flip(clips["bikes"], [0]), fps=24)
    with pytest.raises(InputError, match="1 files are new or changed since the step filter: new"):
        deduplicate(dataset)


def test_a_chain_is_not_one_group():
    """The ends are further apart than the threshold: each is judged by what is kept."""
    records = [
        Hashed(name, "1", 64, 64, [f"{bits:016x}"] * 5)
        for name, bits in (("a", 0), ("b", 0b1111), ("c", 0b11111111))
    ]
    assert find_duplicates(records, 4) == [Duplicate("b", "a", 4.0)]
    assert find_duplicates(records, 8) == [Duplicate("b", "a", 4.0), Duplicate("c", "a", 8.0)]
    assert find_duplicates([], 4) == []


def test_refusals(dataset):
    with pytest.raises(InputError, match=r"threshold is 40.*from 0 \(equal\) to 32 bits"):
        deduplicate(dataset, threshold=40)
