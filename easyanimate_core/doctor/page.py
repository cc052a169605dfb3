"""Findings as text, and as a page for a bug report that names neither the user nor a token."""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

from ..errors import printable
from ..version import __version__
from .finding import Finding, Section, State

#: What stands for the home folder: what the system's shell takes for it.
HOME = "%USERPROFILE%" if sys.platform == "win32" else "~"
USER, SECRET = "[user]", "[secret]"
#: Characters of a finding: an error's text may be of any length.
LONGEST = 1200
_MARKS = {State.OK: "ok", State.NOTE: "note", State.WRONG: "WRONG"}
_FIRST = "**EasyAnimate doctor"
_INDENT = " " * 8
#: Tokens of hubs and services, and credentials in addresses.
_TOKENS = re.compile(
    r"\b(hf_|ghp_|github_pat_|sk-|ms-)[\w-]{16,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?<=[?&])(X-Amz-[\w-]+|[\w-]*(token|sig|signature|key))=[^&\s]+|(?<=Bearer )\S+",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL", re.IGNORECASE)


def told(section: Section) -> Iterator[str]:
    """The lines of a section."""
    yield section.title
    for finding in section.findings:
        yield from _lines(finding)


def count(sections: Iterable[Section], state: State) -> int:
    """How many findings have this state."""
    return sum(finding.state is state for section in sections for finding in section.findings)


def summary(sections: Iterable[Section]) -> str:
    """The numbers of faults and notes."""
    sections = tuple(sections)
    faults, notes = (count(sections, state) for state in (State.WRONG, State.NOTE))
    found = f"{faults} {'problem' if faults == 1 else 'problems'}" if faults else "no problem"
    return f"{found}, {notes} {'note' if notes == 1 else 'notes'}"


def page(sections: Iterable[Section]) -> str:
    """Everything as Markdown, to paste into a bug report."""
    sections = tuple(sections)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    lines = [line for section in sections for line in ("", *told(section))]
    # A name of a file may hold the fence's end.
    text = "\n".join(lines).replace("```", "'''")
    return f"{_FIRST} {__version__}: {summary(sections)}** ({now})\n\n```text{text}\n```\n"


def is_page(path: Path) -> bool:
    """Whether a file is such a page."""
    with path.open("rb") as opened:
        return opened.read(len(_FIRST)) == _FIRST.encode()


def scrubbed(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text without the home folder's path, the user's name in paths, and secrets."""
    environment = os.environ if environment is None else environment
    for name, value in environment.items():
        if len(value) >= 8 and _SECRET_NAME.search(name):
            text = text.replace(value, SECRET)
    text = _TOKENS.sub(SECRET, text)
    ignore_case = re.IGNORECASE if sys.platform == "win32" else re.RegexFlag(0)
    for home in _homes():
        whole = re.escape(home) + r"(?![\w-]|\.\w)"
        text = re.sub(whole, lambda _: HOME, text, flags=ignore_case)
    user = _user()
    if user:
        part = r"(?<=[/\\])" + re.escape(user) + r"(?![\w.-])"
        text = re.sub(part, USER, text, flags=ignore_case)
    return text


def _lines(finding: Finding) -> Iterator[str]:
    first, *others = _short(finding.text).splitlines() or [""]
    yield f"  {_MARKS[finding.state]:<6}{first}"
    yield from (_INDENT + line for line in others)
    if finding.remedy:
        yield f"{_INDENT}remedy: {' '.join(_short(finding.remedy).split())}"


def _short(text: str) -> str:
    text = printable(scrubbed(text), keep="\n")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _homes() -> list[str]:
    """Spellings of the home folder's path, the longest first; none for a home that is the root."""
    found = set()
    for path in (_home(), os.environ.get("HOME"), os.environ.get("USERPROFILE")):
        if path and len(Path(path).parts) > 1:
            found |= {path.rstrip("/\\"), os.path.realpath(path)}
    found |= {home.replace("\\", other) for home in found for other in ("/", "\\\\")}
    return sorted(found, key=len, reverse=True)


def _home() -> str | None:
    try:
        return str(Path.home())
    except RuntimeError:  # neither HOME nor a passwd entry
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # Windows without USERNAME, an unknown id
        return None
