"""Reading files with precise errors, and writing them whole or not at all.

YAML is read by `files.yaml_text`, which needs a package that may not be installed.
"""

from .atomic import atomic_file, atomic_folder, write_error
from .cache_folder import cache_folder, temporary_cache
from .digest import sha256_of
from .elsewhere import foreign_system, parts_of, path_below
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
from .moving import discard, is_held, patiently, remove, remove_tree, rename, replace
from .named import check_is_text, is_file, is_folder, named_path
from .shown import short
from .tensors import read_tensors, save_tensors, write_tensors
from .text import DATASET_BYTES, MAX_BYTES, read_bytes, read_text, text_of
from .together import Together
from .writing import Result, check_folder, check_results, check_writable

__all__ = [
    "DATASET_BYTES",
    "MAX_BYTES",
    "NUMBER",
    "SWITCH",
    "TEXT",
    "Result",
    "Rule",
    "Together",
    "atomic_file",
    "atomic_folder",
    "cache_folder",
    "check_fields",
    "check_folder",
    "check_is_text",
    "check_results",
    "check_writable",
    "discard",
    "foreign_system",
    "is_file",
    "is_folder",
    "is_held",
    "json_value",
    "listed",
    "named_path",
    "number",
    "one_of",
    "optional",
    "parts_of",
    "path_below",
    "patiently",
    "read_bytes",
    "read_json",
    "read_tensors",
    "read_text",
    "remove",
    "remove_tree",
    "rename",
    "replace",
    "save_tensors",
    "sha256_of",
    "short",
    "sweep",
    "temporary_cache",
    "text_of",
    "whole",
    "write_error",
    "write_tensors",
]
