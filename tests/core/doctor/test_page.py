"""The page for bug reports: complete, and silent on who the user is."""

import sys
from pathlib import Path

import pytest

from easyanimate_core.doctor import (
    Section,
    State,
    count,
    fine,
    is_page,
    note,
    page,
    summary,
    told,
    wrong,
)
from easyanimate_core.doctor.page import HOME, LONGEST, SECRET, USER, scrubbed

SECTIONS = (
    Section("Versions", (fine("torch 2"), note("gguf is old", "Install another"))),
    Section("Weights", (wrong("it is damaged", "Download it again"),)),
)


def test_every_finding_is_told_with_its_remedy():
    assert [*told(SECTIONS[0])] == [
        "Versions",
        "  ok    torch 2",
        "  note  gguf is old",
        "        remedy: Install another",
    ]
    assert summary(SECTIONS) == "1 problem, 1 note"
    assert summary(()) == "no problem, 0 notes"
    assert count(SECTIONS, State.WRONG) == 1


def test_a_page_is_one_fenced_text_and_is_known_again(tmp_path):
    text = page(SECTIONS)
    assert text.startswith("**EasyAnimate doctor ")
    assert text.count("```") == 2
    assert "\n  WRONG it is damaged\n        remedy: Download it again\n```\n" in text
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    assert is_page(tmp_path / "page.md")
    (tmp_path / "other.md").write_text("# mine", encoding="utf-8")
    assert not is_page(tmp_path / "other.md")


def test_hostile_names_change_neither_the_page_nor_the_terminal():
    text = page([Section("Weights", (wrong("a```b \x1b[31mred\u202e\ud800\r\nnext"),))])
    assert text.count("```") == 2
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[31mred" in text
    text.encode("utf-8")


def test_a_long_error_is_cut():
    lines = [*told(Section("Weights", (wrong("x" * 100_000),)))]
    assert sum(map(len, lines)) < LONGEST + 100


@pytest.fixture
def at_home(monkeypatch, tmp_path):
    """A user called ada, whose home folder is not at the usual place."""
    home = tmp_path / "ada"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "ada")
    return home


def test_neither_the_home_folder_nor_the_user_is_named(at_home):
    assert scrubbed(f"{at_home}/models/x is damaged") == f"{HOME}/models/x is damaged"
    assert scrubbed(f"in {at_home}.") == f"in {HOME}."
    assert scrubbed(f"{at_home}bert/x") == f"{at_home}bert/x"
    assert scrubbed("/mnt/ada/models and /mnt/adams") == f"/mnt/{USER}/models and /mnt/adams"
    assert scrubbed(r"D:\people\ada\x") == rf"D:\people\{USER}\x"
    assert "ada" not in page([Section("Folders", (fine(str(at_home)), note("x", str(at_home))))])


def test_the_home_folder_of_a_link_is_not_named(at_home, monkeypatch, tmp_path):
    if sys.platform == "win32":
        pytest.skip("links need a privilege on Windows")
    link = tmp_path / "link"
    link.symlink_to(at_home)
    monkeypatch.setenv("HOME", str(link))
    for home in (link, at_home):
        assert scrubbed(f"{home}/x") == f"{HOME}/x"


def test_a_root_as_home_hides_no_path(monkeypatch):
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv("USERPROFILE", Path.cwd().anchor)
    assert scrubbed("/mnt/models/x") == "/mnt/models/x"


@pytest.mark.parametrize(
    "text",
    [
        "token hf_abcdefghijklmnopqrstuvwx was refused",
        "https://user:secret-word@host/x",
        "https://host/x?X-Amz-Signature=0123abcd&y=1",
        "Authorization: Bearer abc.def",
    ],
)
def test_no_token_is_told(text):
    found = scrubbed(text, {})
    assert SECRET in found
    for part in ("abcdefghij", "secret-word", "0123abcd", "abc.def"):
        assert part not in found


def test_no_value_of_a_secret_variable_is_told():
    found = scrubbed("--key=corr3ct-horse", {"MY_API_KEY": "corr3ct-horse", "PATH": "--key"})
    assert found == f"--key={SECRET}"
