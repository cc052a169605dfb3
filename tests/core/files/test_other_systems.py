"""Paths and names of other systems: understood, or refused by what they are."""

import json
import shutil
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
import yaml

from easyanimate_core.cli.main import main
from easyanimate_core.errors import (
    CheckpointError,
    EasyAnimateError,
    InputError,
    RecipeError,
)
from easyanimate_core.evaluation.videos import find_video_set
from easyanimate_core.files import foreign_system, json_value, parts_of, path_below
from easyanimate_core.files.names import check_here, file_prefix
from easyanimate_core.files.yaml_text import yaml_value
from easyanimate_core.media import write_mp4, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.paths.camera import (
    camera_path,
    read_camera_file,
    to_cameractrl_text,
)
from easyanimate_core.paths.trajectory import read_tracks
from easyanimate_core.recipe import Recipe
from easyanimate_core.recipe_files import NamedFile, files_of, located, without_folders
from easyanimate_core.small_model import made_again, small_checkpoint
from easyanimate_core.tasks import ImageToVideo
from easyanimate_core.training.config import read_config
from easyanimate_core.training.data.manifest import manifest_records
from easyanimate_core.training.preparation.captions import captions_of, read_captions
from easyanimate_core.training.preparation.files import find_files
from easyanimate_core.weights.files import inspect_checkpoint
from tests.factories import V5_1, make_link, pixels, quick

WINDOWS = (
    "C:\\Users\\张伟\\Bilder\\start.png",
    "d:/pictures/start.png",
    "\\\\server\\share\\start.png",
    "\\\\?\\C:\\Users\\me\\start.png",
)
#: More bytes than one name may have here, where it is one.
LONG = "C:\\Users\\" + "文件夹\\" * 40 + "start.png"


@pytest.fixture
def made(pipeline, tmp_path):
    """The sidecar of a video, and the folder of its start picture."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    picture = write_png(pictures / "start.png", pixels(1)[0])
    result = pipeline(V5_1, Head.INPAINT).generate("a", ImageToVideo(picture), quick(steps=1))
    sidecar = result.save(tmp_path / "video.mp4")[1]
    return sidecar, pictures


def changed(sidecar, **paths):
    """The sidecar with other paths in it."""
    content = json.loads(sidecar.read_text(encoding="utf-8"))
    if "start" in paths:
        content["sources"]["start"]["file"] = paths["start"]
    if "model" in paths:
        content["model"]["path"] = paths["model"]
    sidecar.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return content


def test_a_recipe_of_windows_finds_its_files_elsewhere(made, tmp_path, capsys):
    sidecar, pictures = made
    again = ["generate", "--recipe", str(sidecar), "--output", str(tmp_path / "again.mp4"), "--yes"]
    for path in (*WINDOWS, "..\\start.png", LONG):
        content = changed(sidecar, start=path)
        assert without_folders(content)["sources"]["start"]["file"] == "start.png"
        found = located(content, [pictures])
        assert found["sources"]["start"]["file"] == str(pictures / "start.png")
        assert Recipe.from_json(found).task.start == pictures / "start.png"
        assert main(again) == 2
        said = capsys.readouterr()
        assert f"{path} (not found)" in said.out
        known = "" if path.startswith("..") else " (a Windows path)"
        assert f"The recipe's start is {path}{known}. It was not found there" in said.err
    assert main([*again, "--look-in", str(pictures)]) == 0


def test_a_recipe_names_files_as_the_user_does(pipeline, tmp_path, monkeypatch):
    picture = write_png(tmp_path / "blobs" / "0123", pixels(1)[0])
    (tmp_path / "snapshot").mkdir()
    make_link(tmp_path / "snapshot" / "fox.png", picture)
    monkeypatch.chdir(tmp_path / "blobs")
    for given, named in (
        (tmp_path / "snapshot" / "fox.png", tmp_path / "snapshot" / "fox.png"),
        ("0123", picture),
        ("../blobs/0123", picture),
    ):
        task = ImageToVideo(given)
        recipe = pipeline(V5_1, Head.INPAINT).generate("a", task, quick(steps=1)).recipe
        assert recipe.sources["start"]["file"] == str(named)


def test_a_checkpoint_of_windows_is_named_as_it_was(made, checkpoint, tmp_path, capsys):
    sidecar, pictures = made
    path = "E:\\模型\\" + "EasyAnimate\\" * 25 + "V5.1-InP"
    changed(sidecar, model=path)
    again = ["generate", "--recipe", str(sidecar), "--output", str(tmp_path / "again.mp4"), "--yes"]
    assert main(again) == 2
    said = capsys.readouterr().err
    assert f"The recipe's checkpoint {path} (a Windows path) does not exist. Set it with" in said
    shutil.copytree(checkpoint(V5_1, Head.INPAINT), pictures / "V5.1-InP")
    assert main([*again, "--force", "--look-in", str(pictures)]) == 0


@pytest.mark.parametrize(
    "root",
    [
        "C:\\Users\\张\\.cache\\easyanimate\\",
        "\\\\server\\share\\",
        "/srv/.cache/easyanimate/",
        "C:/x\\",
        "",
    ],
)
@pytest.mark.parametrize("separator", ["\\", "/"])
def test_the_small_model_is_known_by_its_folder_of_any_system(root, separator):
    path = root + separator.join(["small-model", "ab12", "Control"])
    assert made_again(path) == small_checkpoint(Head.CONTROL)
    assert made_again(path + separator) == small_checkpoint(Head.CONTROL)
    (file,) = files_of({"model": {"path": path}})
    assert file.is_built_in
    assert without_folders({"model": {"path": path}})["model"]["path"] == "small-model/ab12/Control"


@pytest.mark.parametrize("name", ["T2V", "evil", "inp", ""])
def test_no_other_folder_passes_for_the_small_model(name, tmp_path):
    path = str(tmp_path / "small-model" / "ab12" / name)
    (file,) = files_of({"model": {"path": path}})
    assert not file.is_built_in  # so it is told, and asked for, before it is opened
    assert made_again(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "nul.png",
        "C:\\x\\COM1.png",
        "/x/con",
        "C:start.png",
        "start.png:hidden",
        "start.png.",
        "a?b",
    ],
)
def test_windows_is_asked_for_no_name_that_it_cannot_hold(path, tmp_path):
    name = parts_of(path)[-1]
    (tmp_path / name).touch()
    file = NamedFile("start", path, "", ())
    assert file.candidates([tmp_path], on_windows=True) == []
    assert file.candidates([tmp_path], on_windows=False) == [tmp_path / name]


@pytest.mark.parametrize("name", ["console.png", "图" * 80 + ".png", "a (1).png", ".a", "é\u200f"])
def test_windows_is_asked_for_every_other_name(name, tmp_path):
    (tmp_path / name).touch()
    file = NamedFile("start", f"/srv/{name}", "", ())
    assert file.candidates([tmp_path], on_windows=True) == [tmp_path / name]


def test_accents_of_macos_are_the_same_name(made, tmp_path):
    sidecar, pictures = made
    one, two = (unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD"))
    for named, lies in ((one, two), (two, one)):
        place = tmp_path / ascii(lies)
        place.mkdir()
        shutil.copy(pictures / "start.png", place / lies)
        content = changed(sidecar, start=f"/Volumes/{named}")
        assert located(content, [place])["sources"]["start"]["file"] == str(place / lies)


@pytest.mark.parametrize("path", WINDOWS)
def test_whole_paths_are_known_by_their_text(path):
    assert foreign_system(path, on_windows=False) == "Windows"
    assert foreign_system(path, on_windows=True) is None
    assert parts_of(path)[-1] == PureWindowsPath(path).name


@pytest.mark.parametrize("path", ["/srv/start.png", "/data"])
def test_whole_paths_of_posix_are_known_on_windows(path):
    assert foreign_system(path, on_windows=True) == "Linux or macOS"
    assert foreign_system(path, on_windows=False) is None
    assert parts_of(path)[-1] == PurePosixPath(path).name


@pytest.mark.parametrize("path", ["a.png", "a\\b.png", "..\\b.png", "12:30.png", "C:a.png", ""])
def test_other_paths_may_be_of_any_system(path):
    assert foreign_system(path, on_windows=False) is None
    assert foreign_system(path, on_windows=True) is None


def test_a_file_that_is_really_called_so_comes_first(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.png").touch()
    assert path_below(tmp_path, "clips\\a.png") == tmp_path / "clips" / "a.png"
    assert path_below(tmp_path, ".\\clips\\a.png") == tmp_path / "clips" / "a.png"
    (tmp_path / "clips\\a.png").touch()
    assert path_below(tmp_path, "clips\\a.png") == tmp_path / "clips\\a.png"
    assert path_below(tmp_path, "clips\\b.png") == tmp_path / "clips\\b.png"


@pytest.fixture
def dataset(tmp_path):
    """Two pictures, and `write(entries, **options)` of their manifest."""
    root = tmp_path / "data"
    for name in ("a", "b"):
        write_png(root / "clips" / f"{name}.png", pixels(1)[0])

    def write(*paths, encoding="utf-8", newline="\n"):
        entries = [{"file_path": path, "text": path[-5:], "type": "image"} for path in paths]
        text = json.dumps(entries, ensure_ascii=False, indent=1).replace("\n", newline)
        (root / "metadata.json").write_bytes(text.encode(encoding))
        return root / "metadata.json"

    return write


def test_a_manifest_of_windows_is_read(dataset):
    manifest = dataset("clips\\a.png", ".\\clips\\b.png", encoding="utf-8-sig", newline="\r\n")
    records = manifest_records(manifest, None, fps=8, report=print)
    assert [record.captions for record in records] == [("a.png",), ("b.png",)]


@pytest.mark.parametrize("path", WINDOWS)
def test_whole_paths_of_windows_in_a_manifest_are_refused_by_what_they_are(dataset, path):
    manifest = dataset("clips/a.png", path)
    with pytest.raises(InputError) as error:
        manifest_records(manifest, None, fps=8, report=print)
    assert f"file_path of entry 2 is {path}, which is a Windows path" in str(error.value)


@pytest.mark.parametrize("form", ["json", "object", "csv"])
def test_captions_of_windows_are_read(dataset, form):
    root = dataset("clips/a.png").parent
    rows = [("clips\\a.png", "one"), (".\\clips\\b.png", "two")]
    source = root / f"CAPTIONS.{'CSV' if form == 'csv' else 'JSON'}"
    if form == "csv":
        text = "file_path,text\r\n" + "".join(f"{path},{text}\r\n" for path, text in rows)
    else:
        rows = dict(rows) if form == "object" else [{"file_path": p, "text": t} for p, t in rows]
        text = json.dumps(rows)
    source.write_text(text, encoding="utf-8-sig", newline="")
    read_captions(root, source)
    assert captions_of(root, find_files(root)) == {"clips/a.png": "one", "clips/b.png": "two"}


def test_two_spellings_of_one_path_do_not_hide_a_text(dataset):
    root = dataset("clips/a.png").parent
    source = root / "captions.json"
    source.write_text(json.dumps({"clips\\a.png": "one", "clips/a.png": "two"}))
    with pytest.raises(InputError, match=r"two texts for clips/a\.png"):
        read_captions(root, source)


def test_prompts_of_windows_are_found_by_the_name_of_the_video(tmp_path):
    write_mp4(tmp_path / "videos" / "sub" / "a.mp4", pixels(1, frames=5), fps=8)
    manifest, clip = tmp_path / "prompts.json", tmp_path / "clip"
    for path in ("sub\\a.mp4", "C:\\Users\\me\\a.mp4", LONG.replace("start.png", "a.mp4")):
        manifest.write_text(json.dumps([{"file_path": path, "text": "a fox"}]))
        found = find_video_set(tmp_path / "videos", prompts=manifest, clip=clip)
        assert found.prompts == {"sub/a": "a fox"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("output: 'C:\\runs\\a'", "C:\\runs\\a, which is a Windows path"),
        ('output: "C:\\runs\\a"', "contains the control character '\\r'"),
        ('output: "C:\\Users\\a"', "Write Windows paths with / or without the double"),
    ],
)
def test_paths_of_windows_in_a_config_are_refused_before_a_folder_is_made(tmp_path, written, said):
    rest = {"task": "vae", "model": {"checkpoint": "x"}, "data": {}, "run": {"steps": 1}}
    config = tmp_path / "train.yaml"
    config.write_text(f"{yaml.safe_dump(rest)}{written}\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_config(config)
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["sub\\a", "..\\a", "C:a", "C:\\x\\a", "a:b", "..\\..\\nul"])
def test_an_index_of_shards_names_no_path_of_windows(checkpoint_copy, name):
    folder = checkpoint_copy(V5_1, Head.T2V) / "transformer"
    (weights,) = folder.glob("*.safetensors")
    index = {"weight_map": {"x": f"{name}.safetensors"}}
    Path(f"{weights}.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="a shard must be a plain file name"):
        inspect_checkpoint(folder.parent)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_what_powershell_writes_is_refused_with_a_remedy_by_every_reader(dataset, encoding):
    root = dataset("clips/a.png").parent
    texts = {
        "manifest.json": '[{"file_path": "clips/a.png", "text": "a", "type": "image"}]',
        "captions.csv": "file_path,text\r\nclips/a.png,a\r\n",
        "train.yaml": "task: vae\r\n",
        "tracks.json": '[{"x": 1, "y": 2}, {"x": 3, "y": 4}]',
        "poses.txt": to_cameractrl_text(camera_path(["Pan Up"], frames=5)),
    }
    for name, text in texts.items():
        (root / name).write_bytes(text.encode(encoding))
    readers = {
        "manifest.json": lambda file: manifest_records(file, root, fps=8, report=print),
        "captions.csv": lambda file: read_captions(root, file),
        "train.yaml": read_config,
        "tracks.json": lambda file: read_tracks(str(file)),
        "poses.txt": read_camera_file,
    }
    for name, read in readers.items():
        with pytest.raises(EasyAnimateError, match=r"UTF-16 text.* Out-File -Encoding utf8"):
            read(root / name)
        (root / name).write_bytes(texts[name].replace("\n", "\r\n").encode("utf-8-sig"))
        if name != "train.yaml":
            read(root / name)


def test_backslashes_that_begin_no_character_are_explained():
    with pytest.raises(InputError, match=r"In Windows paths, write / or \\\\ instead of \\\."):
        json_value('{"file_path": "C:\\Users\\me"}', dict, "a.json", error=InputError)
    with pytest.raises(InputError, match="without the double quotes"):
        yaml_value('a: "C:\\Users"', dict, "a.yaml", error=InputError)
    assert yaml_value("a: C:\\new\\Users", dict, "", error=InputError) == {"a": "C:\\new\\Users"}


def test_an_output_on_a_drive_is_refused_where_there_are_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for option, value in (
        ("--output", "C:\\Users\\me\\a.mp4"),
        ("--start-image", "\\\\server\\share\\a.png"),
        ("--frame", "2=C:\\a.png"),
        ("--lora", "C:\\loras\\a.safetensors=0.7:0-3"),
        ("--trajectory", "D:\\tracks.json"),
    ):
        try:
            assert main(["generate", "--prompt", "a", option, value]) == 2
        except SystemExit as end:
            assert end.code == 2
        said = capsys.readouterr().err
        path = value.removeprefix("2=").removesuffix("=0.7:0-3")
        assert f"The path is {path}, which is a Windows path" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("C:\\videos\\nul.mp4", "a device"),
        ("con/a.mp4", "a device"),
        ("C:\\videos\\fox: a tale.mp4", "does not allow ':'"),
        ("D:\\a?.mp4", "does not allow '?'"),
        ("D:\\folder.\\a.mp4", "drops a dot"),
    ],
)
def test_windows_writes_no_result_to_a_device_or_beside_its_name(path, said):
    with pytest.raises(InputError) as error:
        check_here(PureWindowsPath(path), on_windows=True)
    assert said in str(error.value)
    check_here(PureWindowsPath(path), on_windows=False)


@pytest.mark.parametrize(
    "path", ["C:\\videos\\a.mp4", "..\\a.mp4", ".\\.hidden\\a.mp4", "\\\\s\\x\\a", "字" * 200]
)
def test_windows_writes_everything_else(path):
    check_here(PureWindowsPath(path), on_windows=True)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("prompt", "prompt"),
        ("foxes\\red fox", "foxes/red fox"),
        ("foxes/2026-01-02/", "foxes/2026-01-02"),
        ("../up", "../up"),
        ("/etc/x", "/etc/x"),
        ("", ""),
    ],
)
def test_a_prefix_means_the_same_on_every_system(text, prefix):
    assert file_prefix(text) == prefix


@pytest.mark.parametrize("text", ["a:b", "C:\\x", "foxes/nul", "aux.v2/a", "what?", "a\nb", "a./b"])
def test_a_prefix_that_some_system_cannot_write_is_refused(text):
    with pytest.raises(InputError, match=r"filename_prefix is .* Choose another, such as prompt"):
        file_prefix(text)


def test_a_recipe_whose_name_is_a_control_character_is_no_file(made):
    sidecar, _ = made
    content = changed(sidecar, start="C:\\x\\a\rb.png")
    with pytest.raises(RecipeError, match="control character"):
        Recipe.from_json(content)


def test_the_project_itself_can_be_cloned_on_windows():
    from easyanimate_core.files.names import name_fault

    root = Path(__file__).parents[3]
    folders = ("configs", "docs", "easyanimate_core", "locales", "nodes", "tests", "tools", "web")
    files = [file for folder in folders for file in (root / folder).rglob("*")]
    names = {part for file in files for part in file.relative_to(root).parts}
    assert [name for name in names if name_fault(name)] == []
    lower = [str(file.relative_to(root)).lower() for file in files]
    assert len(set(lower)) == len(lower)
