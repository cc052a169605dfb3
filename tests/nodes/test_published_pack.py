"""The pack as it is published for ComfyUI: whole for nodes, and clear about what it leaves out."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from easyanimate_core.cli.main import _COMMANDS
from easyanimate_core.left_out import REPOSITORY
from easyanimate_core.models.specs import Head
from easyanimate_core.small_model import EXAMPLE_PROMPT, small_checkpoint
from tests.nodes.test_package import needs_weights, project, publish, shipped

ROOT = Path(__file__).parents[2]
CORE = PurePosixPath("easyanimate_core")
FOLDERS = ("easyanimate_core", "nodes")
COMMANDS = {name.replace("_", "-"): CORE / "cli" / f"{name}.py" for name in _COMMANDS}
LEFT_OUT = (
    "make-clips",
    "evaluate",
    "evaluate-meaning",
    "compare-runs",
    "make-tiny",
    "demo",
    "app",
)
#: Modules that import what is left out, after a check that refuses it.
CHECKED = {
    CORE / "__init__.py",
    *(CORE / "training" / name for name in ("clips.py", "config.py", "prompts.py")),
}


def files_of(module):
    """The files that an import of a module runs, those of its packages included."""
    packages = [folder / "__init__.py" for folder in (module, *module.parents)]
    files = (module.with_name(f"{module.name}.py"), *packages)
    return {file for file in files if file.parts[0] in FOLDERS and (ROOT / file).is_file()}


def imported_by(file):
    """The pack's files that a module imports anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = file.parents[node.level - 1] if node.level else PurePosixPath()
            base = base.joinpath(*(node.module or "").split("."))
            modules = [base, *(base / alias.name for alias in node.names)]
            if node.level:
                assert files_of(base) or base.name == "", f"{file}:{node.lineno} imports nothing"
        elif isinstance(node, ast.Import):
            modules = [PurePosixPath(*alias.name.split(".")) for alias in node.names]
        else:
            continue
        found.update(*(files_of(module) for module in modules if module.name))
    return found


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("published") / "easyanimate-nodes")


@pytest.fixture
def run(published, tmp_path):
    """Runs a Python command line in the published pack."""

    def run(*words):
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=published,
            env={**kept, "PYTHONIOENCODING": "utf-8", "EASYANIMATE_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    return run


def refusal(feature):
    return f"{feature} is not included in the pack published for ComfyUI, .* {REPOSITORY}\n"


# What is in it


def test_the_repository_is_that_of_the_metadata():
    assert project()["project"]["urls"]["Repository"] == REPOSITORY


def test_every_import_is_of_an_included_module():
    files = shipped()
    modules = {file for file in files if file.suffix == ".py"}
    assert {file for file in modules if imported_by(file) - files} == CHECKED


def test_every_included_module_is_reached():
    files = shipped()
    entries = {PurePosixPath(name) for name in ("__init__.py", "easyanimate.py", "install.py")}
    waiting = [*entries, *(file for file in COMMANDS.values() if file in files)]
    reached = set()
    while waiting:
        file = waiting.pop()
        if file not in reached:
            reached.add(file)
            waiting += imported_by(file) & files
    assert {file for file in files if file.suffix == ".py"} == reached


def test_every_included_command_is_one_that_its_users_read_of():
    """In messages, help pages and the documentation; what is in no text cannot be reached."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "web").rglob("*.md")]
    codes = [ROOT / file for file in shipped() if file.suffix == ".py"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in (*pages, *codes))
    called = r"(?:easyanimate_core|easyanimate\.py) +|own_command\(\s*[\"']"
    named = {*re.findall(rf"(?:{called})([a-z-]+)", text)}
    assert COMMANDS.keys() - set(LEFT_OUT) <= named


def test_messages_name_included_commands():
    named = set()
    for file in shipped():
        if file.suffix == ".py":
            text = (ROOT / file).read_text(encoding="utf-8")
            named |= {*re.findall(r"""own_command\(\s*["']([\w-]+)""", text)}
    assert len(named) >= 4
    assert named <= COMMANDS.keys() - set(LEFT_OUT)


# What it says


def test_the_help_lists_included_commands(run):
    done = run("easyanimate.py", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^    ([a-z-]+)(?:  |$)", done.stdout, re.MULTILINE)
    assert listed == [name for name in COMMANDS if name not in LEFT_OUT]


@pytest.mark.parametrize("command", LEFT_OUT)
def test_a_command_that_is_left_out_is_refused(run, command):
    done = run("easyanimate.py", "--verbose", command, "--out", "folder", "-h")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("error: " + refusal(command), done.stderr)


def test_a_public_name_that_is_left_out_is_refused(run):
    done = run("-c", "from easyanimate_core import Settings, make_tiny")
    assert re.search("LeftOutError: " + refusal("make_tiny"), done.stderr)


def test_a_config_of_synthetic_clips_is_refused(run):
    pytest.importorskip("pydantic", reason="pip install -r requirements-training.txt")
    done = run("easyanimate.py", "train", ROOT / "configs" / "small" / "pictures.yaml")
    assert done.returncode == 2
    assert re.fullmatch("error: " + refusal(r"data\.synthetic"), done.stderr)


# What it does


@needs_weights
@pytest.mark.slow
def test_doctor_describe_and_plan(run):
    model = small_checkpoint(Head.INPAINT)
    commands = (
        ["doctor", "--models", model],
        ["describe", model],
        ["plan", "--model", model, "--size", "96x96x17"],
    )
    for words in commands:
        done = run("easyanimate.py", *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout


@needs_weights
@pytest.mark.slow
def test_the_small_model_generates(run, tmp_path):
    made = tmp_path / "made.png"
    settings = ("--prompt", EXAMPLE_PROMPT, "--steps", 2, "--frames", 1)
    done = run("easyanimate.py", "generate", *settings, "--output", made)
    assert done.returncode == 0, done.stderr
    assert made.stat().st_size > 0
