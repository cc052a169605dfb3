"""The doctor: what a machine has, whether it fits, and whether its results are right."""

from .examine import Examination, Host
from .finding import Finding, Section, State, fine, note, wrong
from .folders import Folders
from .page import count, is_page, page, summary, told

__all__ = [
    "Examination",
    "Finding",
    "Folders",
    "Host",
    "Section",
    "State",
    "count",
    "fine",
    "is_page",
    "note",
    "page",
    "summary",
    "told",
    "wrong",
]
