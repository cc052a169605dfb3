"""The YAML reader: plain values only, limited in number, and no surprises.

Dates stay text, keys must be unique and text, tags are rejected, and aliases count as the values
that they expand to, so that a small file cannot expand without limit.
"""

from __future__ import annotations

import math
import os
from typing import Any, TypeVar

import yaml

from ..errors import EasyAnimateError
from .shown import short
from .text import read_text

Value = TypeVar("Value")

#: The project's largest file has 3 kB. Parsing takes about 10 s per megabyte.
_MAX_BYTES = 2**18
_DEPTH = 32
#: What to do, by a word of PyYAML's message. In `"C:\Users"` a backslash starts an escape sequence.
_REMEDIES = {
    "escape": "Write Windows paths with / or without the double quotes.",
    "mapping values are not allowed": "Put a value that contains a colon and a space in quotes.",
}
_MAX_NODES = 100_000
_MAX_DIGITS = 100
_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")
}
_MERGE = "tag:yaml.org,2002:merge"
_KINDS: dict[Any, str] = {dict: "`key: value` lines", list: "a list"}


def read_yaml(
    path: str | os.PathLike[str],
    kind: type[Value],
    *,
    error: type[EasyAnimateError],
    remedy: str = "",
) -> Value:
    """Read a YAML file. Raises `error` with the file and what is wrong.

    Args:
        path: The file, in UTF-8 with or without a byte order mark.
        kind: Required type of the value: `dict`, `list`, or `object` for any. An empty file is
            None.
        error: The exception type to raise.
        remedy: What to do about a missing or damaged file, as a sentence.
    """
    text = read_text(path, error=error, remedy=remedy, limit=_MAX_BYTES)
    return yaml_value(text, kind, os.fspath(path), error=error, remedy=remedy)


def yaml_value(
    text: str, kind: type[Value], name: str, *, error: type[EasyAnimateError], remedy: str = ""
) -> Value:
    """Parse YAML text, as `read_yaml` does; messages refer to it by `name`."""
    loader = None
    try:
        loader = _Loader(text)
        loader.name = name
        root = loader.get_single_node()
        if root is not None:
            _check(root)
        value = None if root is None else loader.construct_document(root)
    except RecursionError:
        raise error(
            f"{name} is not valid YAML: it is nested too deeply. {remedy}".rstrip()
        ) from None
    except (yaml.YAMLError, ValueError) as fault:
        said = " ".join(str(fault).split())
        told = next((text for word, text in _REMEDIES.items() if word in said), remedy)
        raise error(f"{name} is not valid YAML: {said}. {told}".rstrip()) from fault
    except (
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
    ) as fault:  # PyYAML raises these for `!!bool 7`
        said = f"a value does not fit its tag ({fault})"
        raise error(f"{name} is not valid YAML: {said}. {remedy}".rstrip()) from fault
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(value, kind):
        found = "nothing" if value is None else short(value)
        raise error(f"{name} holds {found}; write {_KINDS[kind]}. {remedy}".rstrip())
    return value


class _Loader(yaml.SafeLoader):
    """A safe loader without dates and with limits on numbers."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in {*_TAGS, _MERGE}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(node.value)} digits{_place(node)}")
    return loader.construct_yaml_int(node)


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    value = loader.construct_yaml_float(node)
    if not math.isfinite(value):
        raise ValueError(f"{short(node.value)} is not a finite number{_place(node)}")
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def _check(root: yaml.Node) -> None:
    """Check depth, number and tags of all nodes; aliases count as what they expand to."""
    counts: dict[int, int] = {}
    _count(root, (), counts)


def _count(node: yaml.Node, above: tuple[int, ...], counts: dict[int, int]) -> int:
    if id(node) in above:
        raise ValueError(f"a value contains itself through an alias{_place(node)}")
    if id(node) in counts:
        return counts[id(node)]
    if len(above) > _DEPTH:
        raise RecursionError
    if node.tag not in _TAGS:
        raise ValueError(
            f"the tag {short(node.tag)} is not supported{_place(node)}; write plain values"
        )
    below: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        below = _checked_pairs(node)
    elif isinstance(node, yaml.SequenceNode):
        below = node.value
    count = 1 + sum(_count(item, (*above, id(node)), counts) for item in below)
    if count > _MAX_NODES:
        raise ValueError(
            f"its aliases expand to more than {_MAX_NODES:,} values{_place(node)}; use fewer"
        )
    counts[id(node)] = count
    return count


def _checked_pairs(node: yaml.MappingNode) -> list[yaml.Node]:
    """The values of a mapping, after checking that its keys are text and unique."""
    seen = set()
    for key, _ in node.value:
        if key.tag == _MERGE:
            continue
        if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str"):
            said = short(key.value) if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
            raise ValueError(f"the key {said} is not text{_place(key)}; put it in quotes")
        if key.value in seen:
            raise ValueError(f"the key {short(key.value)} appears twice{_place(key)}")
        seen.add(key.value)
    return [value for _, value in node.value]


def _place(node: yaml.Node) -> str:
    return f" (line {node.start_mark.line + 1})"
