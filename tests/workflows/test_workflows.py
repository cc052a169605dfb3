"""The ready-made workflows hold together: files, links, widgets and layout, without ComfyUI.

The schemas are a snapshot; `tests/comfy/test_workflows.py` holds it against real servers.
"""

import json
import re
from itertools import combinations

import pytest
from PIL import Image

from easyanimate_core import small_model
from easyanimate_core.hub import find_model, how_to_install
from easyanimate_core.models.specs import Head
from easyanimate_core.preprocess import KINDS
from easyanimate_core.shapes.scenes import caption, make_scene
from tests.factories import V5, V5_1
from tools.workflows import catalog, schemas
from tools.workflows.canvas import CORE_ORIGIN, FOLDER, VIDEO_HELPER_ORIGIN, pack_origin

#: With the small model of the pack: they run on a fresh install.
TRIALS = {
    "1 Try it - text": (Head.INPAINT, V5_1),
    "1 Try it in four steps": (Head.INPAINT, V5_1),
    "1 Try it - start image": (Head.INPAINT, V5_1),
    "1 Try it - control video": (Head.INPAINT, V5_1),
    "1 Try it - camera": (Head.CAMERA, V5_1),
    "1 Try it with V5 - text": (Head.INPAINT, V5),
    "1 Try it with V5 - control": (Head.INPAINT, V5),
}
#: Every mode once with ComfyUI's own nodes, each kind of source with VideoHelperSuite, and V5.
NAMES = [
    *TRIALS,
    "2 Text to video",
    "2 Text to video - long",
    "2 Text to video - KSampler",
    "2 Text to image",
    "3 Image to video",
    "3 Start and end image",
    "4 Video to video",
    "4 Video inpaint",
    "5 Control - any kind",
    "5 Control - pose",
    "5 Control - two mixed",
    "5 Control - start and end",
    "5 Control - ready video",
    "6 Camera - one move",
    "6 Camera - several moves",
    "6 Camera - keyframes",
    "6 Camera - file",
    "6 Trajectory",
    "7 LoRA",
    "7 Train a LoRA",
    "8 VHS - image to video",
    "8 VHS - video to video",
    "8 VHS - control",
    "9 V5 - text to video",
    "9 V5 - image to video",
    "9 V5 - control",
]
#: What a card of the template browser shows of a name.
CARD = 27
VHS = "8 VHS"
FILES = sorted(FOLDER.glob("*.json"), key=lambda file: file.name)


AGAIN = "write it again: python -m tools.workflows (see --help)"
TITLE_BAR = 30
SCHEMAS = {version: schemas.read(version) for version in schemas.VERSIONS}

every_workflow = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
every_trial = pytest.mark.parametrize(
    "file", [file for file in FILES if file.stem in TRIALS], ids=lambda file: file.stem
)
every_published = pytest.mark.parametrize(
    "file", [file for file in FILES if file.stem not in TRIALS], ids=lambda file: file.stem
)
every_version = pytest.mark.parametrize("version", schemas.VERSIONS)


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


def label(node):
    return f"{node['id']} ({node['type']})"


def widget_values(node, schema):
    """(widget, value) of a node; a widget that only a newer ComfyUI has is left at its default."""
    values = node["widgets_values"]
    if isinstance(values, list):
        left = iter(values)
        return schema.filled(lambda widget: next(left, widget.default))
    widgets = [*schema.widgets, *schema.format_widgets(values["format"])]
    return [(widget, values[widget.name]) for widget in widgets]


def is_valid(widget, value, key):
    """Whether ComfyUI takes the value; files are the user's and any name will do."""
    if key in schemas.FILE_LISTS:
        return isinstance(value, str)
    if widget.options is not None:
        return value in widget.options
    if widget.type == "BOOLEAN":
        return isinstance(value, bool)
    if widget.type == "STRING":
        return isinstance(value, str)
    if not isinstance(value, int if widget.type == "INT" else (int, float)):
        return False
    low, high = (widget.settings.get(side, value) for side in ("min", "max"))
    steps = (value - (low if "min" in widget.settings else 0)) / widget.settings.get("step", 1)
    exact = abs(steps - round(steps)) < 1e-6 or "step" not in widget.settings
    return low <= value <= high and exact


def rectangle(node):
    """Left, top, right, bottom, the title bar included."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE_BAR, x + width, y + height


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_every_mode_is_there_under_a_name_that_a_card_shows_whole():
    assert sorted(file.stem for file in FILES) == sorted(NAMES)
    assert len(NAMES) <= 33
    assert max(map(len, NAMES)) <= CARD
    assert sorted(NAMES)[: len(TRIALS)] == sorted(TRIALS)
    # Frontends put the name into an address as it is.
    assert all(re.fullmatch(r"\d [A-Za-z0-9 -]+", name) for name in NAMES)


def test_the_folder_holds_workflows_and_their_pictures_only():
    wanted = {file.with_suffix(end).name for file in FILES for end in (".json", ".jpg")}
    assert {path.name for path in FOLDER.iterdir()} == wanted, AGAIN


def test_the_files_are_what_the_generator_writes():
    made = catalog.files()
    assert {file.name for file in FILES} == made.keys(), AGAIN
    changed = [file.name for file in FILES if file.read_text(encoding="utf-8") != made[file.name]]
    assert not changed, f"{changed}: {AGAIN}"


def test_the_snapshot_has_the_nodes_of_the_pack_and_those_that_are_used():
    used = {node["type"] for file in FILES for node in read(file)["nodes"]} - {schemas.NOTE}
    known = set(schemas.read_compact(schemas.NEWEST))
    pack = {name for name in known if name.startswith(schemas.PACK_PREFIX)}
    assert known - pack == set(schemas.FOREIGN) == used - pack
    assert used <= known


@every_workflow
def test_a_small_moving_picture_lies_beside_it(file):
    picture = file.with_suffix(".jpg")  # what ComfyUI asks for; browsers go by the content
    assert picture.stat().st_size < 60_000
    with Image.open(picture) as image:
        assert (image.format, image.size) == ("WEBP", (400, 225))
        assert image.n_frames > 1 or "image" in file.stem


@every_workflow
@every_version
def test_nodes_are_known_and_connected(file, version):
    for node in read(file)["nodes"]:
        assert node["type"] in SCHEMAS[version], f"ComfyUI {version} has no {node['type']}"
        schema = SCHEMAS[version][node["type"]]
        outputs = [(output["name"], output["type"]) for output in node["outputs"]]
        assert outputs == list(schema.outputs)[: len(outputs)], label(node)
        given = {entry["name"]: entry for entry in node["inputs"]}
        for socket in schema.sockets:
            assert given[socket.name]["type"] == socket.type, f"{label(node)}: {socket.name}"
            assert socket.optional or given[socket.name]["link"] is not None, (
                f"{label(node)}: {socket.name} is not connected"
            )


@every_workflow
def test_inputs_have_the_frontend_s_order(file):
    for node in read(file)["nodes"]:
        if node["type"] == schemas.NOTE:
            continue
        schema = SCHEMAS[schemas.OLDEST][node["type"]]
        added = (
            []
            if isinstance(node["widgets_values"], list)
            else schema.format_widgets(node["widgets_values"]["format"])
        )
        values = widget_values(node, schema)
        given = [w for w, _ in values if w not in added and w.name != "control_after_generate"]
        widgets = [w.name for w in (*given, *added)]
        wanted = [s.name for s in schema.sockets] + widgets
        assert [entry["name"] for entry in node["inputs"]] == wanted, label(node)
        sockets = len(schema.sockets)
        assert all("widget" not in entry for entry in node["inputs"][:sockets])
        assert all(e["widget"] == {"name": e["name"]} for e in node["inputs"][sockets:])


@every_workflow
def test_links_agree_with_both_ends(file):
    workflow = read(file)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"])
    assert workflow["last_node_id"] == max(nodes)
    assert workflow["last_link_id"] == max(link[0] for link in workflow["links"])
    entering = {
        (entry["link"], node["id"], slot)
        for node in nodes.values()
        for slot, entry in enumerate(node["inputs"])
        if entry["link"] is not None
    }
    leaving = {
        (link, node["id"], slot)
        for node in nodes.values()
        for slot, output in enumerate(node["outputs"])
        for link in output["links"] or ()
    }
    rows = workflow["links"]
    assert entering == {(link, to, slot) for link, _, _, to, slot, _ in rows}
    assert leaving == {(link, start, slot) for link, start, slot, *_ in rows}
    assert len({link[0] for link in rows}) == len(rows)
    for _, start, output, to, slot, kind in rows:
        assert start < to, "nodes are numbered in the order in which they run"
        assert nodes[start]["outputs"][output]["type"] == kind
        assert nodes[to]["inputs"][slot]["type"] == kind


@every_workflow
@every_version
def test_widget_values_are_valid(file, version):
    for node in read(file)["nodes"]:
        schema = SCHEMAS[version][node["type"]]
        for widget, value in widget_values(node, schema):
            key = (node["type"], widget.name)
            assert is_valid(widget, value, key), f"{label(node)}: {widget.name} = {value!r}"


@every_workflow
def test_widget_values_are_complete(file):
    for node in read(file)["nodes"]:
        schema = SCHEMAS[schemas.OLDEST][node["type"]]
        values = node["widgets_values"]
        known = schema.widgets
        if isinstance(values, dict):
            names = [w.name for w in (*known, *schema.format_widgets(values["format"]))]
            assert sorted(values) == sorted([*names, "videopreview"]), label(node)
            assert values["videopreview"] == {"hidden": False, "paused": False, "params": {}}
        else:
            assert len(schema.named(values)) == len(values), label(node)


@every_workflow
def test_a_newer_comfyui_only_adds_widgets_at_the_end(file):
    for node in read(file)["nodes"]:
        old, new = (SCHEMAS[version][node["type"]].widgets for version in schemas.VERSIONS)
        names = [widget.name for widget in old]
        first, second = ({w.name for w in ws if w.type == schemas.DYNAMIC} for ws in (old, new))
        if first != second:
            continue  # the frontend reads the old values of such a node itself
        assert [widget.name for widget in new][: len(names)] == names, label(node)


@every_workflow
def test_nodes_lie_apart_and_inside_one_step(file):
    workflow = read(file)
    rectangles = {label(node): rectangle(node) for node in workflow["nodes"]}
    found = [
        f"{one} and {other}"
        for one, other in combinations(rectangles, 2)
        if overlap(rectangles[one], rectangles[other])
    ]
    assert not found
    groups = [group["bounding"] for group in workflow["groups"]]
    frames = [(x, y, x + width, y + height) for x, y, width, height in groups]
    assert not any(overlap(one, other) for one, other in combinations(frames, 2))
    for name, (left, top, right, bottom) in rectangles.items():
        inside = [
            f for f in frames if f[0] < left and f[1] < top and right < f[2] and bottom < f[3]
        ]
        assert len(inside) == 1, f"{name} lies in {len(inside)} groups"
    links = {link[0]: link for link in workflow["links"]}
    assert len(links) >= len(workflow["nodes"]) - 2, "every node but the note is part of the graph"


@every_workflow
def test_it_fits_a_screen_with_readable_text(file):
    groups = [group["bounding"] for group in read(file)["groups"]]
    width = max(left + wide for left, _, wide, _ in groups)
    height = max(top + high for _, top, _, high in groups)
    # "Fit view" fills three quarters of the screen; below 8 pixels of 14 the text is not drawn.
    assert 0.75 * min(1920 / width, 1080 / height) > 8 / 14


@every_workflow
def test_groups_tell_the_steps(file):
    titles = [group["title"] for group in read(file)["groups"]]
    assert titles[0] == "About"
    assert sorted(title[0] for title in titles[1:]) == list("12345")
    assert {"1  Load", "2  Prompt", "4  Sample", "5  Decode and save"} <= set(titles)


def notes_of(file):
    """The note on the canvas, in English and in Chinese."""
    workflow = read(file)
    (note,) = [node for node in workflow["nodes"] if node["type"] == schemas.NOTE]
    chinese = workflow["extra"]["easyanimate_texts"]["zh"]["nodes"][str(note["id"])]
    return note["widgets_values"][0], chinese["text"]


@every_published
def test_the_note_begins_with_how_to_get_the_weights(file):
    nodes = read(file)["nodes"]
    (loader,) = [node for node in nodes if node["type"] == "EasyAnimateLoadCheckpoint"]
    folder = loader["widgets_values"][0]
    assert folder.startswith("EasyAnimateV5-" if file.stem[0] in "9" else "EasyAnimateV5")
    assert find_model(folder).name == folder
    # The same command, size and node as in the messages about missing weights.
    message = how_to_install(folder, command=f"python install.py {folder}", node=True)
    command, size, by = re.fullmatch(r"Run (.+) \((.+)\), or the node (.+)", message).groups()
    for text, title, node in zip(
        notes_of(file),
        ("## Weights", "## 权重"),
        (by, "EasyAnimate 下载模型"),
        strict=True,
    ):
        weights = text.split(title)[1].split("##")[0]
        assert weights.index(f"\n{command}\n") < weights.index(node) < weights.index(size)
        assert f"models/EasyAnimate/{folder}" in weights
        assert f"https://huggingface.co/alibaba-pai/{folder}" in weights


@every_workflow
def test_every_text_is_there_in_chinese(file):
    workflow = read(file)
    chinese = workflow["extra"]["easyanimate_texts"]["zh"]
    titled = {str(node["id"]) for node in workflow["nodes"] if "title" in node}
    assert {key for key, texts in chinese["nodes"].items() if "title" in texts} == titled
    assert len(chinese["groups"]) == len(workflow["groups"])
    english, other = notes_of(file)
    assert other.count("\n") == english.count("\n")
    assert len(re.findall(r"[\u4e00-\u9fff]", other)) > 100


@every_trial
def test_a_trial_needs_no_file(file):
    nodes = read(file)["nodes"]
    loaders = [node for node in nodes if node["type"] == "EasyAnimateLoadCheckpoint"]
    chosen = [loader["widgets_values"][0] for loader in loaders]
    assert small_model.NAMES[chosen[0]] == TRIALS[file.stem]
    assert {small_model.NAMES[name].version for name in chosen} == {TRIALS[file.stem][1]}
    assert not any(node["properties"].get("models") for node in nodes)
    loras = [node["widgets_values"][0] for node in nodes if node["type"] == "EasyAnimateLoadLora"]
    assert {small_model.LORA_NAMES[name] for name in loras} <= {TRIALS[file.stem]}
    own = {("EasyAnimateLoadCheckpoint", "checkpoint"), ("EasyAnimateLoadLora", "lora")}
    files = schemas.FILE_LISTS - own
    assert not {node["type"] for node in nodes} & {kind for kind, _ in files}
    english, chinese = notes_of(file)
    assert "Nothing to download" in english
    assert "小模型" in chinese


@every_trial
def test_a_trial_is_of_the_small_model_s_size(file):
    frames, height, width = small_model.SIZE
    found = []
    for node in read(file)["nodes"]:
        widgets = {w.name: v for w, v in widget_values(node, SCHEMAS[schemas.OLDEST][node["type"]])}
        if "length" in widgets:
            found.append(tuple(widgets[name] for name in ("length", "height", "width")))
        if node["type"] == "EasyAnimateSampler":
            follows_a_video = "copy" in node.get("title", "")
            usual = (20, 2 if follows_a_video else 4)
            is_distilled = "four steps" in file.stem
            assert (widgets["steps"], widgets["cfg"]) == ((4, 1) if is_distilled else usual)
            _, version = TRIALS[file.stem]
            assert widgets["scheduler"] == ("DDIM" if version is V5 else "auto")
    assert found
    assert set(found) == {(frames, height, width)}


@every_trial
def test_the_words_of_a_trial_are_those_of_the_small_model(file):
    captions = [caption(make_scene(3, index)) for index in range(300)]
    known = {word.strip(".").lower() for text in captions for word in text.split()}
    for node in read(file)["nodes"]:
        if node["type"] in ("CLIPTextEncode", "EasyAnimateTextEncode"):
            words = node["widgets_values"][0].strip(".").lower().split()
            assert set(words) <= known


@every_workflow
def test_the_note_says_how_to_get_the_detectors(file):
    detectors = [node for node in read(file)["nodes"] if node["type"] == "EasyAnimatePreprocess"]
    for kind in {node["widgets_values"][0] for node in detectors}:
        needs = KINDS[kind].needed_files(KINDS[kind].complete({}))
        for text in notes_of(file):
            assert not needs or f"python install.py --annotators {kind}" in text


def test_the_note_of_any_kind_names_every_kind():
    for text in notes_of(FOLDER / "5 Control - any kind.json"):
        for kind in KINDS:
            assert kind in text or kind.split("_")[0] + "_…" in text


@every_workflow
def test_a_control_video_is_shown_before_it_is_sampled(file):
    nodes = {node["id"]: node for node in read(file)["nodes"]}
    links = read(file)["links"]
    for node in nodes.values():
        if node["type"] == "EasyAnimatePreprocess":
            goes_to = {nodes[to]["type"] for _, start, _, to, *_ in links if start == node["id"]}
            assert goes_to == {"PreviewImage", "EasyAnimateControl"}


@every_workflow
def test_nodes_say_whose_they_are(file):
    for node in read(file)["nodes"]:
        properties = node["properties"]
        origin = properties["cnr_id"], properties["ver"]
        if node["type"].startswith(schemas.PACK_PREFIX):
            assert origin == pack_origin()
        elif node["type"].startswith("VHS_"):
            assert file.stem.startswith(VHS)
            assert origin == VIDEO_HELPER_ORIGIN
        else:
            assert origin == CORE_ORIGIN
    types = {node["type"] for node in read(file)["nodes"]}
    videos = {"LoadVideo", "SaveVideo", "CreateVideo", "GetVideoComponents"}
    assert not (file.stem.startswith(VHS) and types & videos)


@every_workflow
def test_loaders_name_their_files(file):
    for node in read(file)["nodes"]:
        for model in node["properties"].get("models", []):
            assert model.keys() == {"name", "url", "directory"}
            assert model["url"].startswith("https://huggingface.co/alibaba-pai/")
            chosen = node["widgets_values"][0]
            assert model["name"].split("/")[0] == chosen
            assert model["url"].endswith(model["name"].removeprefix(f"{chosen}/"))
        if node["type"] == "EasyAnimateLoadCheckpoint" and file.stem not in TRIALS:
            names = [model["name"] for model in node["properties"]["models"]]
            assert any("/transformer/" in name for name in names)
            assert any("/vae/" in name for name in names)
