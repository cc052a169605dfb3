"""The README and the pages in `docs`, in both languages.

Their code runs, their commands parse, their tables agree with the code.
"""

import argparse
import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest
import torch

import dev
import easyanimate_core
from easyanimate_core.cli.main import build_parser
from easyanimate_core.cli.sources import task_of
from easyanimate_core.hub import MODELS
from easyanimate_core.media import write_png
from easyanimate_core.memory.tested import DEVICES, SYSTEMS
from easyanimate_core.models.specs import Head, Version
from easyanimate_core.paths.camera import CAMERA_MOVES
from easyanimate_core.preprocess import KINDS
from easyanimate_core.recipe import Recipe
from easyanimate_core.sampling import DEFAULT_SCHEDULER
from easyanimate_core.sampling.schedulers import SCHEDULERS
from easyanimate_core.settings import Settings
from easyanimate_core.tasks import TASKS
from easyanimate_core.tiny.checkpoint import make_tiny

ROOT = Path(__file__).parents[2]
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README_zh-CN.md"}
FOLDERS = {"en": ROOT / "docs", "zh": ROOT / "docs" / "zh"}
#: The pages that are there in both languages.
PAGES = sorted(path.name for path in FOLDERS["zh"].glob("*.md"))
MOST_README_BYTES = 12_000
COMMAND = "python -m easyanimate_core "
#: Lines of the Python block that a reader changes; the test puts its own values there.
OWN_VALUES = re.compile(r"^(model|image|settings) = .*$", re.MULTILINE)

both_languages = pytest.mark.parametrize("language", list(READMES))


def pages_of(language):
    return [READMES[language], *(FOLDERS[language] / name for name in PAGES)]


def text_of(language):
    return "\n".join(page.read_text(encoding="utf-8") for page in pages_of(language))


def blocks(language, kind=r"\w*"):
    """The contents of the fenced code blocks."""
    fence = rf"^```({kind})\n(.*?)^```$"
    return [(m[1], m[2]) for m in re.finditer(fence, text_of(language), re.MULTILINE | re.DOTALL)]


def prose(language):
    return re.sub(r"^```.*?^```$", "", text_of(language), flags=re.MULTILINE | re.DOTALL)


def code_spans(text):
    return re.findall(r"`([^`\n]+)`", text)


def tables(language):
    """Every table as a list of rows, without its header."""
    found, rows = [], []
    for line in [*prose(language).splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append(rows[2:])
            rows = []
    return found


def table_with(language, column, value):
    """The one table that has `value` in a column."""
    (table,) = (t for t in tables(language) if any(value in row[column : column + 1] for row in t))
    return table


def commands(language):
    """Arguments of every `python -m easyanimate_core`, lines joined."""
    lines = [line for _, b in blocks(language) for line in b.replace("\\\n", " ").splitlines()]
    lines += code_spans(prose(language))
    return [shlex.split(line)[3:] for line in lines if line.startswith(COMMAND)]


def options_of_generate(title):
    """The options in one of the groups that `generate --help` shows."""
    (commands_of,) = (
        action.choices
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    (group,) = (g for g in commands_of["generate"]._action_groups if g.title == title)
    flags = {flag for action in group._group_actions for flag in action.option_strings}
    return {flag for flag in flags if flag.replace("--no-", "--", 1) not in flags - {flag}}


def test_the_python_block_runs(tmp_path, monkeypatch, capsys):
    ((_, code),) = blocks("en", "python")
    assert len([line for line in code.splitlines() if line]) <= 10
    given = {m[1]: m[0] for m in OWN_VALUES.finditer(code)}
    assert list(given) == ["model", "image", "settings"]
    exec(given["settings"], {"Settings": Settings})  # the values that the README shows are allowed

    monkeypatch.chdir(tmp_path)
    make_tiny(Path("tiny"), version=Version.V5_1, head=Head.INPAINT)
    write_png(Path("start.png"), torch.rand(48, 64, 3, generator=torch.Generator().manual_seed(0)))
    own = {
        "model": "model = 'tiny'",
        "image": "image = 'start.png'",
        "settings": "settings = Settings(height=32, width=48, frames=5, steps=2)",
    }
    exec(compile(OWN_VALUES.sub(lambda m: own[m[1]], code), "README.md", "exec"), {})

    assert "[1, 5, 32, 48, 3]" in capsys.readouterr().out
    (video,) = re.findall(r"save\(\"(.+?)\"\)", code)
    for file in (Path(video), Path(video).with_suffix(".json")):
        assert Recipe.read(file).settings.steps == 2


@both_languages
def test_every_command_parses(language):
    found = commands(language)
    modes = []
    for arguments in found:
        try:
            parsed = build_parser().parse_args(arguments)
        except SystemExit as end:
            assert arguments[-1] == "--help", f"{shlex.join(arguments)} does not parse"
            assert end.code == 0
            continue
        if arguments[0] == "generate" and parsed.recipe is None:
            modes.append(task_of(parsed).mode)
    assert {arguments[0] for arguments in found} == {
        "app",
        "generate",
        "encode",
        "preprocess",
        "camera",
        "trajectory",
        "describe",
        "doctor",
        "download",
        "plan",
        "convert",
        "merge-lora",
        "make-tiny",
        "train",
        "prepare-data",
        "evaluate",
        "evaluate-meaning",
        "compare-runs",
        "make-clips",
    }
    classes = {task.__name__: mode for mode, task in TASKS.items()}
    in_table = [classes[row[4].strip("`")] for row in table_with(language, 4, "`Camera`")]
    assert list(dict.fromkeys(modes)) == in_table, "one example per mode, in the table's order"


@both_languages
def test_every_line_of_install_parses(language):
    lines = [line for _, block in blocks(language) for line in block.splitlines()]
    found = [shlex.split(line)[2:] for line in lines if line.startswith("python install.py ")]
    assert len(found) >= 4
    for arguments in found:
        parsed = build_parser().parse_args(["download", *arguments])
        assert {*parsed.names} <= set(MODELS)
        assert {*parsed.annotators} <= set(KINDS)


@both_languages
def test_make_and_dev_commands_exist(language):
    found = re.findall(r"(?:\bmake|dev\.py) ([a-z]+)", "\n".join(code_spans(prose(language))))
    found += [m for _, b in blocks(language) for m in re.findall(r"\bmake ([a-z]+)", b)]
    assert {"comfyui", "demo", "test", "venv"} <= set(found) <= set(dev.COMMANDS)
    for folder in re.findall(r"\btests/[a-z]+", text_of(language)):
        assert (ROOT / folder).is_dir(), f"{folder} is not there"


@both_languages
def test_links_lead_somewhere(language):
    leads_to = set()
    for page in pages_of(language):
        targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        for target in targets:
            if target.startswith("https://"):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            assert file.is_file(), f"{page.name} leads to {target}"
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.M) if anchor else []
            anchors = {heading.lower().replace(" ", "-") for heading in headings}
            assert not anchor or anchor in anchors, f"{page.name} leads to {target}"
            leads_to.add(file.relative_to(ROOT).as_posix())
    other = READMES["zh" if language == "en" else "en"]
    pages = {page.relative_to(ROOT).as_posix() for page in pages_of(language)}
    pictures = {"docs/control.jpg", "docs/demo.jpg", "docs/workflow.jpg"}
    named = {other.name, "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "SECURITY.md"}
    assert named | pictures | pages - {READMES[language].name} <= leads_to
    for picture in pictures:
        assert (ROOT / picture).stat().st_size <= 400_000


@both_languages
def test_the_readme_is_short(language):
    assert READMES[language].stat().st_size <= MOST_README_BYTES


def test_both_languages_say_the_same():
    assert blocks("en") == blocks("zh")
    levels = [re.findall(r"^(#+) ", prose(r), re.MULTILINE) for r in ("en", "zh")]
    assert levels[0] == levels[1]
    sizes = [[[len(row) for row in t] for t in tables(r)] for r in ("en", "zh")]
    assert sizes[0] == sizes[1]
    assert set(code_spans(prose("en"))) == set(code_spans(prose("zh")))
    figures = [sorted(re.findall(r"\d+(?:[.e-]*\d+)*", prose(r))) for r in ("en", "zh")]
    assert figures[0] == figures[1]


@both_languages
def test_table_of_modes(language):
    table = table_with(language, 4, "`Camera`")
    by_name = {task.__name__: task for task in TASKS.values()}
    assert sorted(row[4].strip("`") for row in table) == sorted(by_name)
    used = set()
    for _, heads, _, flags, name in table:
        task = by_name[name.strip("`")]
        assert code_spans(heads) == [head.value for head in task.heads]
        assert hasattr(easyanimate_core, task.__name__)
        used |= set(code_spans(flags))
        assert ("`--reference`" in flags) == ("reference" in task.__dataclass_fields__)
    assert used == options_of_generate("inputs of the mode")


@both_languages
def test_table_of_nodes(language):
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    table = table_with(language, 1, "`EasyAnimateSampler`")
    named = {node.strip("`"): name for name, node, _ in table}
    assert named == {node: text["display_name"] for node, text in texts.items()}


@both_languages
def test_table_of_settings(language):
    table = table_with(language, 0, "guidance_scale")
    fields = dataclasses.fields(Settings)
    assert [row[0] for row in table] == [field.name for field in fields]
    flags = options_of_generate("settings")
    assert {flag for row in table for flag in code_spans(row[1])} == flags
    for field, (_, _, default, _) in zip(fields, table, strict=True):
        expected = [] if field.default is None else [str(field.default)]
        assert code_spans(default) == expected, f"{field.name}'s default"


@both_languages
def test_defaults_that_depend_on_the_source(language):
    rows = {row[0]: row[2] for row in table_with(language, 0, "guidance_scale")}
    target = Settings().target(easyanimate_core.TextToVideo().load())
    for name in ("height", "width", "frames"):
        assert str(getattr(target, name)) in rows[name]


@both_languages
def test_table_of_schedulers(language):
    table = table_with(language, 0, "V5.1")
    assert {row[0] for row in table} == {version.value for version in Version}
    for version, names, default in table:
        fits = Version(version).prediction_type
        assert set(code_spans(names)) == {n for n, kind in SCHEDULERS.items() if kind == fits}
        assert code_spans(default) == [DEFAULT_SCHEDULER[Version(version)]]


@both_languages
def test_camera_moves_are_named(language):
    spans = code_spans(prose(language))
    start = spans.index(CAMERA_MOVES[0])
    assert tuple(spans[start : start + len(CAMERA_MOVES)]) == CAMERA_MOVES


@both_languages
def test_number_of_recorded_runs(language):
    folders = ("tests/parity/data", "easyanimate_core/doctor/recordings")
    runs = sum(len([*(ROOT / f).glob("pipeline/*.safetensors")]) for f in folders)
    assert re.search(rf"\b{runs} (complete denoising runs|次完整去噪)", text_of(language))


@both_languages
def test_table_of_what_was_tested(language):
    rows = [*SYSTEMS.values(), *DEVICES]
    table = table_with(language, 0, "Linux")
    assert [row[1] for row in table] == [row.means for row in rows]
    if language == "en":
        assert [row[0] for row in table] == [row.platform for row in rows]
