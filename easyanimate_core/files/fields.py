"""Validation rules for the values in a file, each as a test and in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import EasyAnimateError
from .shown import short


@dataclass(frozen=True)
class Rule:
    """`said` completes the sentence "it must be ..."; `allows` tests a value."""

    said: str
    allows: Callable[[Any], bool]


def whole(low: int, high: int) -> Rule:
    """Integers from `low` to `high`; booleans are rejected."""
    return Rule(
        f"a whole number from {low:,} to {high:,}",
        lambda value: type(value) is int and low <= value <= high,
    )


def number(low: float, high: float) -> Rule:
    """Finite numbers from `low` to `high`; booleans are rejected."""
    return Rule(
        f"a number from {low:g} to {high:g}",
        lambda value: (
            type(value) in (int, float) and math.isfinite(float(value)) and low <= value <= high
        ),
    )


def one_of(*values: Any) -> Rule:
    """One of `values`, with the same type."""
    words = [repr(value) for value in values]
    said = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    return Rule(said, lambda found: any(type(found) is type(v) and found == v for v in values))


def listed(rule: Rule, least: int, most: int) -> Rule:
    """Lists of `least` to `most` values that each satisfy `rule`."""
    return Rule(
        f"a list of {least:,} to {most:,} values, each {rule.said}",
        lambda value: (
            isinstance(value, list | tuple)
            and least <= len(value) <= most
            and all(map(rule.allows, value))
        ),
    )


def optional(rule: Rule) -> Rule:
    """What `rule` allows, or None."""
    return Rule(f"{rule.said}, or null", lambda value: value is None or rule.allows(value))


#: Only true and false, nothing that merely compares equal to them.
SWITCH = Rule("true or false", lambda value: type(value) is bool)
#: Any number, infinities and NaN included: for values whose limits are checked elsewhere.
NUMBER = Rule("a number", lambda value: type(value) in (int, float))
TEXT = Rule("text", lambda value: isinstance(value, str))


def check_fields(
    values: Mapping[str, Any], rules: Mapping[str, Rule], name: str, error: type[EasyAnimateError]
) -> None:
    """Raise `error` for the first key of `values` that breaks its rule; `name` is their source.

    Missing keys and keys without a rule are accepted.
    """
    for key, rule in rules.items():
        if key in values and not rule.allows(values[key]):
            raise error(f"{name} has {key} = {short(values[key])}; it must be {rule.said}.")
