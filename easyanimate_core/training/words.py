"""The words of captions: one rule of what a word is, and of which words say nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTERS = rf"[^\W_{_IDEOGRAPHS}]+(?:[-_'\u2019][^\W_{_IDEOGRAPHS}]+)*"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|{_LETTERS}")
_RUN = re.compile(rf"[{_IDEOGRAPHS}]+")
_PART = re.compile(rf"[{_IDEOGRAPHS}]+|{_LETTERS}")
_ARTICLES = "a an the this that these those and or but nor its his her their it he she they"
_PREPOSITIONS = "as at by for from in into of off on onto out over so to up with without while"
_VERBS = "is are was were be been being has have had do does which who there then than"
#: Words of English that every caption may contain, whatever it shows.
_GRAMMAR = frozenset(f"{_ARTICLES} {_PREPOSITIONS} {_VERBS}".split())


def words_of(caption: str) -> list[str]:
    """The words of a caption; each Chinese or Japanese character counts as one."""
    return _WORD.findall(caption)


def telling_words(caption: str) -> list[str]:
    """The words that say something, in order; Chinese or Japanese that is not spaced is one."""
    return [word for word in _PART.findall(caption) if word.casefold() not in _GRAMMAR]


def common_words(captions: Sequence[str]) -> tuple[str, ...]:
    """Words that all captions have in common, as candidates for a trigger word.

    They are in the order and spelling of the shortest caption. Empty captions, upper case and
    words such as "the" do not count; of Chinese, what at least two characters share counts.
    """
    texts = sorted({text for text in captions if text.strip()}, key=lambda text: (len(text), text))
    if not texts:
        return ()
    shared = {word.casefold() for word in words_of(texts[0])} - _GRAMMAR
    for text in texts[1:]:
        if not shared and not _RUN.search(texts[0]):
            return ()
        shared &= {word.casefold() for word in words_of(text)}
    found = [
        (match.start(), match.group())
        for match in _WORD.finditer(texts[0])
        if match.group().casefold() in shared and not _RUN.fullmatch(match.group())
    ]
    found += [
        (run.start() + start, part)
        for run in _RUN.finditer(texts[0])
        for start, part in _shared_parts(run.group(), texts)
    ]
    return tuple({word.casefold(): word for _, word in sorted(found, reverse=True)}.values())[::-1]


def _shared_parts(run: str, texts: Sequence[str]) -> list[tuple[int, str]]:
    """The longest parts of `run`, of two characters or more, that all texts contain."""
    parts, start = [], 0
    while start < len(run) - 1:
        end = start + 1
        while end < len(run) and all(run[start : end + 1] in text for text in texts):
            end += 1
        if end - start > 1:
            parts.append((start, run[start:end]))
        start = end
    return parts
