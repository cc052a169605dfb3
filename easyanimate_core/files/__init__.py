"""What comes from outside, read with every fault known: a value, or a refusal that says why.

YAML is read by `files.yaml_text`, which needs a package that an installation may lack.
"""

from .fields import (
    NUMBER,
    SWITCH,
    TEXT,
    Rule,
    check_fields,
    listed,
    number,
    one_of,
    optional,
    whole,
)
from .json_text import json_value, read_json
from .names import is_file, named_path
from .shown import short
from .text import DATASET_BYTES, MAX_BYTES, read_bytes, read_text, text_of

__all__ = [
    "DATASET_BYTES",
    "MAX_BYTES",
    "NUMBER",
    "SWITCH",
    "TEXT",
    "Rule",
    "check_fields",
    "is_file",
    "json_value",
    "listed",
    "named_path",
    "number",
    "one_of",
    "optional",
    "read_bytes",
    "read_json",
    "read_text",
    "short",
    "text_of",
    "whole",
]
