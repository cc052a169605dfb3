"""Installed packages against those that the tests ran with."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from easyanimate_core.doctor import State
from easyanimate_core.doctor.imports import failed_imports
from easyanimate_core.doctor.versions import (
    REQUIRED,
    TESTED,
    TESTED_COMFYUI,
    TESTED_FRONTEND,
    comfyui_version,
    findings,
    is_within,
)
from tools import comfyui_install, install_matrix

ROOT = Path(__file__).parents[3]


def requirements(name):
    """Package to rule, of a requirements file without the files that it names."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = {}
    for line in lines:
        match = re.match(r"([A-Za-z][\w.-]*)([^;]*)", line.split("#")[0].strip())
        if match:
            found.setdefault(match[1], match[2].strip())
    return found


def test_what_was_tested_is_what_the_requirement_files_say():
    stated = requirements("requirements-standalone.txt") | requirements("requirements.txt")
    optional = {"controlnet-aux"}
    assert TESTED.keys() == stated.keys() - optional
    of_tools = {"transformers"}
    assert {n: r for n, r in TESTED.items() if n not in of_tools} == {
        n: r for n, r in stated.items() if n not in {*optional, *of_tools}
    }
    assert set(REQUIRED) == requirements("requirements.txt").keys()


def test_the_tested_transformers_are_those_of_the_install_matrix():
    for pinned, _ in install_matrix.TRANSFORMERS.values():
        assert is_within(pinned.partition("==")[2], TESTED["transformers"])
    assert not is_within("4.49.0", TESTED["transformers"])
    assert not is_within("5.24.0", TESTED["transformers"])


def test_the_tested_comfyuis_are_those_of_the_tools():
    tags = [tag.removeprefix("v") for tag in comfyui_install.TAGS.values()]
    assert all(is_within(tag, TESTED_COMFYUI) for tag in tags)
    assert TESTED_COMFYUI.startswith(f">={tags[-1]},")
    assert is_within(comfyui_install.NEWEST_FRONTEND, TESTED_FRONTEND)
    assert not is_within("0.34.0", TESTED_COMFYUI)


@pytest.mark.parametrize(
    ("found", "rule", "within"),
    [
        ("2.11.0+cu130", "==2.11.0", True),
        ("2.11.1", "==2.11.0", False),
        ("2.9.0.dev20260101", "==2.11.0", False),
        ("5.23.4", ">=4.50,<5.24", True),
        ("4.5", ">=4.50,<5.24", False),
        ("6", ">=6", True),
        ("6.0.0", ">=6", True),
        ("19.0.0", ">=17.1,<19", False),
        ("18.9", ">=17.1,<19", True),
        ("17", ">=17.1,<19", False),
        ("anything", "", True),
    ],
)
def test_versions_within_a_rule(found, rule, within):
    assert is_within(found, rule) is within


def test_the_packages_of_this_environment():
    found = [*findings(None, imports=False)]
    told = "\n".join(finding.text for finding in found)
    assert f"torch {version('torch')}" in told
    assert not any(finding.state is State.WRONG for finding in found)
    texts = [finding.text for finding in findings("0.46.1", imports=False)]
    assert f"ComfyUI 0.46.1 is not among the tested versions ({TESTED_COMFYUI})." in texts


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Modules that break in the ways of packages, before all others in every new process."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name, code in {
        "good_one": "print('loaded')",
        "missing_part": "import a_module_that_nobody_has",
        "wrong_build": "raise OSError('DLL load failed: \\u4e00 undefined symbol')",
        "ends_it": "import os; os._exit(11)",
        "leaves": "raise SystemExit(3)",
    }.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.mark.usefixtures("packages")
def test_imports_that_fail_and_one_that_ends_the_process():
    names = ["good_one", "missing_part", "ends_it", "wrong_build", "leaves"]
    found = failed_imports(names)
    assert found.keys() == {"missing_part", "ends_it", "wrong_build", "leaves"}
    assert "No module named 'a_module_that_nobody_has'" in found["missing_part"]
    assert found["ends_it"] == "the process that imported it ended with status 11"
    assert "DLL load failed" in found["wrong_build"]
    assert "SystemExit" in found["leaves"]


def test_a_python_that_does_not_start():
    if sys.platform == "win32":
        pytest.skip("there is no such program on Windows")
    found = failed_imports(["torch"], python="/bin/false")
    assert found == {"torch": "the process that should import it ended with status 1"}


@pytest.mark.slow
def test_a_broken_package_is_told_with_its_remedy(packages):
    (packages / "gguf.py").write_text("raise ImportError('made for another NumPy')")
    found = [f for f in findings(None, imports=True) if f.state is State.WRONG]
    (broken,) = (f for f in found if f.text.startswith("gguf "))
    assert broken.text.startswith(f"gguf {version('gguf')} cannot be imported: ImportError: made")
    assert "--force-reinstall --no-deps gguf" in broken.remedy


def test_the_version_of_a_comfyui(tmp_path):
    assert comfyui_version(tmp_path) is None
    (tmp_path / "comfyui_version.py").write_text('# made\n__version__ = "0.33.0"\n')
    assert comfyui_version(tmp_path) == "0.33.0"
    (tmp_path / "comfyui_version.py").write_bytes(b"\xff\xfe\x00")
    assert comfyui_version(tmp_path) is None
