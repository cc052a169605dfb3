"""Files: read with every fault known, written whole or not at all, and never over another one.

YAML is read by `files.yaml_text`, which needs a package that an installation may lack.
"""

from .atomic import atomic_file, atomic_folder, write_error
from .cache_folder import cache_folder, temporary_cache
from .digest import sha256_of
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
from .leftovers import sweep
from .named import check_is_text, is_file, is_folder, named_path
from .shown import short
from .tensors import save_tensors
from .text import DATASET_BYTES, MAX_BYTES, read_bytes, read_text, text_of
from .writing import Result, check_folder, check_results, check_writable

__all__ = [
    "DATASET_BYTES",
    "MAX_BYTES",
    "NUMBER",
    "SWITCH",
    "TEXT",
    "Result",
    "Rule",
    "atomic_file",
    "atomic_folder",
    "cache_folder",
    "check_fields",
    "check_folder",
    "check_is_text",
    "check_results",
    "check_writable",
    "is_file",
    "is_folder",
    "json_value",
    "listed",
    "named_path",
    "number",
    "one_of",
    "optional",
    "read_bytes",
    "read_json",
    "read_text",
    "save_tensors",
    "sha256_of",
    "short",
    "sweep",
    "temporary_cache",
    "text_of",
    "whole",
    "write_error",
]
