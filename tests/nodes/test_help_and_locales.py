"""Help pages and locales against the code of the nodes, without ComfyUI."""

import ast
import json
import re
from pathlib import Path

import pytest

from easyanimate_core.preprocess import KINDS
from tools.locales import CATEGORIES, SYNTAX, WORDS, leaves
from tools.locales import ORIGINAL as PAGE_OF_ORIGINAL

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "web" / "docs"
TREES = {
    path: ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("nodes", "easyanimate_core")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
MODULES = [tree for path, tree in TREES.items() if path.parent == ROOT / "nodes"]
FUNCTIONS = {
    node.name: node for tree in MODULES for node in tree.body if isinstance(node, ast.FunctionDef)
}
HEADINGS = {"en": ("Inputs", "Outputs", "Tips", "Errors"), "zh": ("输入", "输出", "提示", "错误")}
CHINESE = re.compile("[\u4e00-\u9fff]")
#: Words in help pages that are no input, output or choice of a node of this pack.
OTHER_WORDS = {"EasyAnimate", "Pan", "Zoom", "checkpoints", "context_length", "diffusers"}
OTHER_WORDS |= {
    "training",
    "diffusion_models",
    "dim",
    "prompt",
    "size",
    "spiece_model",
    "spline",
    "EASYANIMATE_CACHE",
    "WRONG",
    "note",
    "ok",
}

#: Inputs that choices of a dynamic combo bring, from the core's table: COMBO_INPUT.
OF_CHOICES = {
    "EasyAnimatePreprocess": {f"kind_{o.name}" for kind in KINDS.values() for o in kind.options}
}

#: Inputs of the original's nodes that only link them with each other.
OF_LINKS = {"easyanimate_model", "prompt", "negative_prompt", "video"}

both_languages = pytest.mark.parametrize("language", WORDS)


def is_call(node, name):
    """`io.Schema(...)`, `io.Image.Input(...)`."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == name


def keyword(call, name):
    return next((entry.value for entry in call.keywords if entry.arg == name), None)


def input_names(tree):
    """The names of the inputs that an expression, or a function that it calls, makes."""
    names = set()
    for node in ast.walk(tree):
        if is_call(node, "Input"):
            names.add(ast.literal_eval(node.args[0]))
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).split(".")[-1]
            names |= input_names(FUNCTIONS[called]) if called in FUNCTIONS else set()
    return names


def schemas(*, original):
    """The call of `io.Schema` of every node by the node's id, read as ComfyUI-Manager reads it.

    The Manager finds nodes by classes that derive from ComfyNode and by a literal `node_id`. Those
    under ids of the original pack are deprecated.
    """
    found = {}
    for tree in MODULES:
        for class_ in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            if any(ast.unparse(base).split(".")[-1] == "ComfyNode" for base in class_.bases):
                (schema,) = (node for node in ast.walk(class_) if is_call(node, "Schema"))
                if (keyword(schema, "is_deprecated") is not None) == original:
                    found[ast.literal_eval(keyword(schema, "node_id"))] = schema
    return found


NODES, ORIGINAL = schemas(original=False), schemas(original=True)


def locale(language, file="nodeDefs.json"):
    return json.loads((ROOT / "locales" / language / file).read_text(encoding="utf-8"))


def page_text(node, language):
    return (PAGES / node / f"{language}.md").read_text(encoding="utf-8")


def section(text, heading):
    """What stands under a heading."""
    (_, rest) = text.split(f"\n## {heading}\n\n")
    return rest.split("\n## ")[0].rstrip("\n")


def rows(table):
    """Cells of a table's rows, without its header."""
    return [[cell.strip() for cell in line[1:-1].split(" |")] for line in table.splitlines()[2:]]


def code_spans(text):
    return re.findall(r"`([^`]+)`", text)


def quoted_messages(node, language):
    return [
        code_spans(row[0])[0]
        for row in rows(section(page_text(node, language), HEADINGS[language][3]))
    ]


def in_message(part):
    """A part of an f-string; counts are in the plural."""
    if isinstance(part, ast.Constant):
        return part.value
    found = re.match(r"(counted|there_are)\(.*, '([\w ]+)'\)", ast.unparse(part.value))
    if found is None:
        return "…"
    capital = "T" if ".capitalize()" in ast.unparse(part.value) else "t"
    return f"{capital}here are … {found[2]}s" if found[1] == "there_are" else f"… {found[2]}s"


def messages_of_the_code():
    """Every string of the code, with … for what is filled in."""
    found = []
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(map(in_message, node.values)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_every_node_is_listed_by_its_module():
    """A class that `NODES` of its module forgets would never reach ComfyUI."""
    listed = [
        ast.unparse(element)
        for tree in MODULES
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NODES"
        for element in node.value.elts
    ]
    assert len(listed) == len(NODES) + len(ORIGINAL) >= 14
    assert all(node.startswith("EasyAnimate") and "." not in node for node in NODES)


@both_languages
def test_locales_have_the_nodes_and_inputs_of_the_code(language):
    texts = locale(language)
    assert set(texts) == set(NODES)
    for node, schema in NODES.items():
        inputs = input_names(keyword(schema, "inputs")) | OF_CHOICES.get(node, set())
        assert set(texts[node]["inputs"]) == inputs, node


def test_an_option_means_the_same_in_every_kind():
    """It has one text, as the frontend knows it by its combo and its name."""
    meanings = {}
    for kind in KINDS.values():
        for option in kind.options:
            assert meanings.setdefault(option.name, option.meaning) == option.meaning, kind.name


@pytest.mark.parametrize("file", ["main.json", "nodeDefs.json"])
def test_locales_have_the_same_keys(file):
    english, chinese = dict(leaves(locale("en", file))), dict(leaves(locale("zh", file)))
    assert list(english) == list(chinese)
    for key, text in [*english.items(), *chinese.items()]:
        assert text.strip() == text != "", key
        assert not SYNTAX.search(text), f"{key}: vue-i18n reads {text!r} as its syntax"


def test_categories_have_words():
    used = set()
    for tree in MODULES:
        used |= set(re.findall(r"['\"](EasyAnimate/[\w/]+)['\"]", ast.unparse(tree)))
    parts = {part for category in used for part in category.split("/")}
    assert set(locale("en", "main.json")["nodeCategories"]) == set(CATEGORIES)
    frontends_own = {"conditioning", "latent", "sampling", "text"}
    assert parts == set(CATEGORIES) | frontends_own


def test_chinese_texts_are_chinese():
    for key, text in leaves(locale("zh")):
        if key.split(".")[-1] != "name":
            assert CHINESE.search(text), f"{key}: {text}"
    for node in NODES:
        prose = [line for line in page_text(node, "zh").splitlines() if line.strip("|- #*")]
        foreign = [line for line in prose if not CHINESE.search(line)]
        assert not foreign, node


def test_there_is_a_page_of_every_node_and_of_nothing_else():
    wanted = {f"{node}/{language}.md" for node in NODES for language in WORDS}
    wanted |= {f"{node}.md" for node in (*NODES, *ORIGINAL)}
    wanted |= {f"{node}/zh.md" for node in ORIGINAL}
    assert {p.relative_to(PAGES).as_posix() for p in PAGES.rglob("*") if p.is_file()} == wanted
    for node in NODES:
        assert (PAGES / f"{node}.md").read_text(encoding="utf-8") == page_text(node, "en")


def test_the_original_s_nodes_share_a_page_which_has_all_of_them():
    for language, page in PAGE_OF_ORIGINAL.items():
        text = page.read_text(encoding="utf-8")
        named = set(code_spans(text))
        for node, schema in ORIGINAL.items():
            copy = f"{node}.md" if language == "en" else f"{node}/{language}.md"
            assert (PAGES / copy).read_text(encoding="utf-8") == text, (
                "run: python -m tools.locales"
            )
            # Links between its nodes; a number at the end counts equal sources.
            inputs = {re.sub(r"_?\d$", "", name) for name in input_names(keyword(schema, "inputs"))}
            assert {node, *inputs} - OF_LINKS <= named, (node, language)


def meaning(row):
    """The second of two cells without its facts, such as *IMAGE, optional.*, at the end."""
    _, cell = row
    text, facts = re.fullmatch(r"(.+?) ?\*([^*]+)[.。]\*", cell).groups()
    assert facts, row
    return text


@both_languages
@pytest.mark.parametrize("node", NODES)
def test_page_has_the_inputs_outputs_and_texts_of_the_node(node, language):
    text, texts = page_text(node, language), locale(language)[node]
    inputs, outputs, tips, errors = HEADINGS[language]
    assert text.startswith(f"# {texts['display_name']}\n\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [inputs, outputs, tips, errors]
    table = rows(section(text, inputs))
    shown = [[name.replace(".", "_") for name in code_spans(row[0])] for row in table]
    assert shown == [[name] for name in texts["inputs"]]
    for found, named in ((table, "inputs"), (rows(section(text, outputs)), "outputs")):
        assert [meaning(row) for row in found] == [e["tooltip"] for e in texts[named].values()]
    assert section(text, tips).startswith("* ")


@pytest.mark.parametrize("node", NODES)
def test_both_languages_say_the_same(node):
    english, chinese = page_text(node, "en"), page_text(node, "zh")
    assert quoted_messages(node, "en") == quoted_messages(node, "zh")
    tips = [
        [sorted(code_spans(line)) for line in section(page_text(node, code), names[2]).splitlines()]
        for code, names in HEADINGS.items()
    ]
    assert tips[0] == tips[1]
    assert set(code_spans(english)) == set(code_spans(chinese))


@pytest.mark.parametrize("node", NODES)
def test_quoted_messages_are_the_code_s(node):
    known = messages_of_the_code()
    for message in quoted_messages(node, "en"):
        pattern = re.compile(".*".join(map(re.escape, message.split("…"))), re.DOTALL)
        assert any(map(pattern.search, known)), f"no message of the code is like {message!r}"


@pytest.mark.parametrize("node", NODES)
def test_names_in_the_prose_are_inputs_outputs_or_choices(node):
    """A renamed input must not live on in a tip."""
    known = set(OTHER_WORDS)
    for name, texts in locale("en").items():
        known |= set(texts["inputs"]) | {text["name"] for text in texts["outputs"].values()}
        for row in rows(section(page_text(name, "en"), "Inputs")):
            known |= set(code_spans(row[1].removeprefix(meaning(row))))
    prose = page_text(node, "en").replace(section(page_text(node, "en"), "Outputs"), "")
    assert {span for span in code_spans(prose) if re.fullmatch(r"\w+", span)} <= known
