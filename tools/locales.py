"""Generates the texts of the nodes from the code: `python -m tools.locales`.

It reads the nodes' schemas from a real ComfyUI, and rewrites

* locales/en: names, tooltips and descriptions, as ComfyUI's frontend reads them;
* the tables of inputs and outputs in every help page, web/docs/NODE/LANGUAGE.md, whose
  descriptions are the tooltips of locales/LANGUAGE;
* web/docs/NODE.md, a copy of the English page, which the frontend shows in all other languages;
* the pages of the nodes under the original's ids, which are copies of docs/original-workflows.md.

Then it lists what has to be written by hand: missing Chinese texts and help pages, and Chinese
texts that are no longer used.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dev
from easyanimate_core.console import prepare_streams

from .workflows.schemas import FILE_LISTS, Input

LOCALES = dev.ROOT / "locales"
PAGES = dev.ROOT / "web" / "docs"
#: What all nodes under the original's ids have as their page, by language.
ORIGINAL = {
    "en": dev.ROOT / "docs" / "original-workflows.md",
    "zh": dev.ROOT / "docs" / "zh" / "original-workflows.md",
}
#: A combo whose choices add inputs, which the frontend calls COMBO.INPUT.
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
#: Parts of categories that ComfyUI's frontend does not translate itself.
CATEGORIES = ("EasyAnimate", "load", "lora", "original")
#: Old frontends parse these characters in tooltips as vue-i18n syntax, new ones do not, so a text
#: with one of them is broken in one of the two.
SYNTAX = re.compile(r"[{}|@]")
#: Prints a list with the `/object_info` of every node; runs inside ComfyUI.
SCRIPT = """
import asyncio, json
extension = asyncio.run(load_pack().comfy_entrypoint())
nodes = asyncio.run(extension.get_node_list())
print(json.dumps([node.GET_NODE_INFO_V1() for node in nodes]))
"""
#: The maximum seed, which is unreadable as a number.
LARGEST = 2**63 - 1

Texts = Mapping[str, Any]


@dataclass(frozen=True)
class Node:
    """A node's schema from ComfyUI; `outputs` are (name, type, tooltip).

    One that `is_original` has an id of the original pack: its texts are in the code alone, because
    locales would also apply to that pack's node.
    """

    id: str
    display_name: str
    description: str
    category: str
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str, str], ...]
    is_original: bool


@dataclass(frozen=True)
class Words:
    """The words in a language's tables: headings first, then cells."""

    inputs: str
    outputs: str
    input_columns: tuple[str, str]
    output_columns: tuple[str, str]
    facts: str
    default: str
    optional: str
    file: str
    text: str
    empty: str
    switch: tuple[str, str]
    span: str
    steps: str
    comma: str


WORDS = {
    "en": Words(
        inputs="Inputs",
        outputs="Outputs",
        input_columns=("Input", "Meaning"),
        output_columns=("Output", "Meaning"),
        facts="{} *{}.*",
        default="{}; default {}",
        optional="{}, optional",
        file="one from the list",
        text="text",
        empty="empty",
        switch=("off", "on"),
        span="{} to {}",
        steps="{}, in steps of {}",
        comma=", ",
    ),
    "zh": Words(
        inputs="输入",
        outputs="输出",
        input_columns=("输入", "含义"),
        output_columns=("输出", "含义"),
        facts="{}*{}。*",
        default="{}；默认 {}",
        optional="{}，可选",
        file="从列表中选择",
        text="文本",
        empty="空",
        switch=("关", "开"),
        span="{} 到 {}",
        steps="{}，步长 {}",
        comma="、",
    ),
}


def read_nodes(printed: str) -> list[Node]:
    """The nodes that `SCRIPT` printed."""
    return [_node(info) for info in json.loads(printed.splitlines()[-1])]


def _node(info: Mapping[str, Any]) -> Node:
    inputs = _inputs(info["input"])
    outputs = zip(info["output_name"], info["output"], info["output_tooltips"], strict=True)
    return Node(
        info["name"],
        info["display_name"],
        info["description"],
        info["category"],
        tuple(inputs),
        tuple(outputs),
        info["deprecated"],
    )


def _inputs(sections: Mapping[str, Any]) -> list[Input]:
    """Inputs in order; those of a dynamic combo's choices follow it, each once."""
    found: dict[str, Input] = {}
    for section in ("required", "optional"):
        for name, (kind, *rest) in sections.get(section, {}).items():
            settings = rest[0] if rest else {}
            found[name] = Input(name, kind, section == "optional", settings)
            if kind != DYNAMIC_COMBO:
                continue
            for choice in settings["options"]:
                for entry in _inputs(choice["inputs"]):
                    nested = {"display_name": entry.name, **entry.settings}
                    full = f"{name}.{entry.name}"
                    found.setdefault(full, Input(full, entry.type, entry.optional, nested))
    return list(found.values())


def english(nodes: Sequence[Node]) -> dict[str, Any]:
    """The content of locales/en/nodeDefs.json, in which dots in names become underscores."""
    return {
        node.id: {
            "display_name": node.display_name,
            "description": node.description,
            "inputs": {
                entry.name.replace(".", "_"): {
                    "name": entry.settings.get("display_name", entry.name),
                    "tooltip": entry.settings.get("tooltip", ""),
                }
                for entry in node.inputs
            },
            "outputs": {
                str(index): {"name": name, "tooltip": tooltip}
                for index, (name, _, tooltip) in enumerate(node.outputs)
            },
        }
        for node in nodes
        if not node.is_original
    }


def leaves(texts: Texts, path: str = "") -> Iterator[tuple[str, str]]:
    """All texts as (keys joined by dots, text)."""
    for key, value in texts.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def read_texts(language: str, file: str = "nodeDefs.json") -> dict[str, Any]:
    """The texts of a locale file, or none if it is missing."""
    path = LOCALES / language / file
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def with_tables(page: str, node: Node, texts: Texts, language: str) -> str:
    """A help page with its tables of inputs and outputs regenerated.

    They have two columns, which fit ComfyUI's narrow help panel. `texts` are the node's, in the
    page's language.
    """
    words = WORDS[language]
    inputs = [
        (
            _named(entry.name, text["name"]),
            words.facts.format(text["tooltip"], _facts(node.id, entry, words)),
        )
        for entry, text in zip(node.inputs, texts["inputs"].values(), strict=True)
    ]
    outputs = [
        (_named(name, text["name"]), words.facts.format(text["tooltip"], kind))
        for (name, kind, _), text in zip(node.outputs, texts["outputs"].values(), strict=True)
    ]
    page = _with_section(page, words.inputs, _table(words.input_columns, inputs))
    return _with_section(page, words.outputs, _table(words.output_columns, outputs))


def _named(name: str, shown: str) -> str:
    """The name in the code, and the displayed one if it differs."""
    return f"`{name}`" if name.lower() == shown.lower() else f"`{name}` {shown}"


def _facts(node: str, entry: Input, words: Words) -> str:
    """The limits, and the default if there is one."""
    limits, default = _limits(node, entry, words), _default(node, entry, words)
    return words.default.format(limits, default) if default else limits


def _limits(node: str, entry: Input, words: Words) -> str:
    settings = entry.settings
    if (node, entry.name) in FILE_LISTS:
        return words.file
    if entry.type == "COMBO":
        return words.comma.join(f"`{option}`" for option in settings["options"])
    if entry.type == DYNAMIC_COMBO:
        return words.comma.join(f"`{option['key']}`" for option in settings["options"])
    if entry.type == "BOOLEAN":
        return words.comma.join(words.switch)
    if entry.type == "STRING":
        return words.text
    if entry.type in ("INT", "FLOAT"):
        span = words.span.format(_number(settings["min"]), _number(settings["max"]))
        step = settings.get("step", 1)
        has_steps = entry.type == "INT" and step > 1
        return words.steps.format(span, step) if has_steps else span
    return words.optional.format(entry.type) if entry.optional else entry.type


def _default(node: str, entry: Input, words: Words) -> str:
    if (node, entry.name) in FILE_LISTS or "default" not in entry.settings:
        return ""
    value = entry.settings["default"]
    if entry.type == "BOOLEAN":
        return words.switch[value]
    if entry.type in ("INT", "FLOAT"):
        return _number(value)
    if "\n" in str(value):  # a table cell must be a single line
        return f"`{value.splitlines()[0]}` …"
    return f"`{value}`" if value else words.empty


def _number(value: float) -> str:
    return "2^63 - 1" if value == LARGEST else f"{value:g}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def _with_section(page: str, heading: str, content: str) -> str:
    """The page with the section under a heading replaced."""
    section = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if not section.search(page):
        raise SystemExit(f"A help page has no heading '## {heading}':\n{page[:200]}")
    text = f"## {heading}\n\n{content}\n\n"
    return section.sub(lambda _: text, page, count=1).rstrip("\n") + "\n"


def generated(nodes: Sequence[Node]) -> dict[Path, str]:
    """The content of every file generated from the nodes and the handwritten texts."""
    texts = {"en": english(nodes), "zh": read_texts("zh")}
    categories = {"nodeCategories": {name: name for name in CATEGORIES}}
    files = {
        LOCALES / "en" / "main.json": _json(categories),
        LOCALES / "en" / "nodeDefs.json": _json(texts["en"]),
    }
    for node in nodes:
        if node.is_original:
            files |= original_pages(node)
            continue
        for language in WORDS:
            path = PAGES / node.id / f"{language}.md"
            own = _merged(texts["en"][node.id], texts[language].get(node.id, {}))
            if path.is_file():
                files[path] = with_tables(path.read_text(encoding="utf-8"), node, own, language)
        if PAGES / node.id / "en.md" in files:
            files[PAGES / f"{node.id}.md"] = files[PAGES / node.id / "en.md"]
    return files


def original_pages(node: Node) -> dict[Path, str]:
    """The page that the nodes under the original's ids share, for one of them."""
    texts = {language: path.read_text(encoding="utf-8") for language, path in ORIGINAL.items()}
    return {PAGES / f"{node.id}.md": texts["en"], PAGES / node.id / "zh.md": texts["zh"]}


def _merged(base: Texts, over: Texts) -> dict[str, Any]:
    """`base`, overridden by the texts of `over`."""
    return {
        key: _merged(value, over.get(key, {}))
        if isinstance(value, Mapping)
        else over.get(key, value)
        for key, value in base.items()
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def left_to_write(nodes: Sequence[Node]) -> list[str]:
    """What has to be written by hand, one line each."""
    wanted, found = dict(leaves(english(nodes))), dict(leaves(read_texts("zh")))
    lines = [f"locales/zh/nodeDefs.json: {key} is missing" for key in wanted if not found.get(key)]
    lines += [
        f"locales/zh/nodeDefs.json: {key} is no longer used" for key in found if key not in wanted
    ]
    lines += [
        f"{key}: {text!r} contains vue-i18n syntax"
        for key, text in [*wanted.items(), *found.items()]
        if SYNTAX.search(text)
    ]
    pages = {PAGES / f"{node.id}.md" for node in nodes}
    pages |= {PAGES / node.id / "zh.md" for node in nodes}
    pages |= {PAGES / node.id / "en.md" for node in nodes if not node.is_original}
    there = set(PAGES.rglob("*.md"))
    lines += [f"{page.relative_to(dev.ROOT)} is missing" for page in sorted(pages - there)]
    return lines + [
        f"{page.relative_to(dev.ROOT)} belongs to no node" for page in sorted(there - pages)
    ]


def ask_comfyui() -> list[Node]:
    """The nodes' schemas from this machine's ComfyUI."""
    from tests.comfy.installation import Installation

    from .comfyui_install import ready_comfyui, ready_python, ready_video_helper_suite, version_of

    comfyui = ready_comfyui()
    python = ready_python(comfyui, [ready_video_helper_suite()])
    with tempfile.TemporaryDirectory() as base:
        here = Installation(comfyui, version_of(comfyui), python, Path(base), dev.ROOT)
        return read_nodes(here.run_script(SCRIPT))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerate the files; returns 1 if something has to be written by hand."""
    prepare_streams()
    parser = argparse.ArgumentParser(
        prog="python -m tools.locales",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    nodes = ask_comfyui()
    for path, text in generated(nodes).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"written: {path.relative_to(dev.ROOT)}")
    todo = left_to_write(nodes)
    print("\n".join(todo) or "Nothing is left to write.")
    return 1 if todo else 0


if __name__ == "__main__":
    raise SystemExit(main())
