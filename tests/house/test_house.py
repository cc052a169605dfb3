"""The rules of the house: the tools' checks, and the rules that no tool checks.

Every failure lists `file:line: what is wrong`, with the number where the rule has one.
"""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CORE = ROOT / "easyanimate_core"
NODES = ROOT / "nodes"
BRIDGE = NODES / "bridge"
#: Runs a TorchScript file, after a check of what it calls.
PROGRAMS = CORE / "evaluation" / "program.py"
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
#: A node's `execute` hands on to the core; its inputs alone are a line each.
MAX_EXECUTE_STATEMENTS = 15
#: Loading with these runs code from the file that is loaded.
UNSAFE_IMPORTS = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
#: Calls that read pickles, or programs, or write what only they read: of accelerate, of DeepSpeed,
#: of PyTorch and of numpy.
UNPICKLING = re.compile(
    r"(^|\.)((load|save)_(state|checkpoint)|register_for_checkpointing|load_checkpoint_\w+"
    r"|jit\.load|hub\.load\w*|load_url|load_state_dict_from_url|(np|numpy)\.load)$"
)
#: What raises a dozen kinds of errors, or reads without a bound.
READERS_OF_THEIR_OWN = re.compile(
    r"(json|yaml)\.(\w+_)?load(s|_all)?$|\.read_text$|literal_eval$|tomllib\.loads?$"
)
#: What Windows refuses for a moment, or for good, while another program looks at a file.
MOVES = {
    "unlink",
    "rename",
    "renames",
    "rmdir",
    "rmtree",
    "removedirs",
    "replace",
    "remove",
    "move",
}
HOST_IMPORTS = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes"}
TEXT_SUFFIXES = {"", ".css", ".js", ".json", ".md", ".py", ".sh", ".svg", ".toml", ".txt", ".yml"}
UNCHECKED_FOLDERS = (
    "tests/parity/data/",
    "easyanimate_core/doctor/recordings/",
    "benchmarks/results/",
)
TEXT_RULES = {
    "trailing space": re.compile(r"[ \t]+$"),
    "Windows line end (CR)": re.compile(r"\r"),
    "merge conflict marker": re.compile(r"^(<{7}|>{7}) |^={7}$"),
    "a path that only one machine has": re.compile(
        r"(?<![\w./~<-])(/(home/\w|Users/\w|root/|work/)|[A-Z]:\\Users\\)"
    ),
    "zero-width or no-break character": re.compile("[\u00a0\u200b-\u200f\u2028\u2029\u2060\ufeff]"),
    "an open end (name an issue or do it)": re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b"),
}


def run_tool(module: str, *command: str) -> None:
    """Run a tool of this Python in the root; fail with all that it said."""
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed here: pip install -r requirements-dev.txt")
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = f"{module} finds faults (status {done.returncode})\n{done.stdout}\n{done.stderr}"
        pytest.fail(said, pytrace=False)


def core_files() -> list[Path]:
    return sorted(CORE.rglob("*.py"))


def own_files() -> list[Path]:
    """The core, the nodes and the tools."""
    folders = (CORE, NODES, ROOT / "tools")
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT).as_posix()}:{line}"


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def nodes_of(files: list[Path]) -> Iterator[tuple[Path, ast.AST]]:
    for path in files:
        for node in ast.walk(tree_of(path)):
            yield path, node


def core_nodes() -> Iterator[tuple[Path, ast.AST]]:
    return nodes_of(core_files())


def imported_names(node: ast.AST) -> list[str]:
    """The absolute modules that an import statement, or `import_module("name")`, names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or ""]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        return [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
    return []


def imports_of(files: list[Path], roots: set[str]) -> list[str]:
    return [
        f"{place(path, node.lineno)}: imports {name}"
        for path, node in nodes_of(files)
        for name in imported_names(node)
        if name.split(".")[0] in roots
    ]


def assert_none(found: list[str], rule: str) -> None:
    if found:
        pytest.fail("\n".join([rule, *found]), pytrace=False)


def test_ruff_check():
    run_tool("ruff", "-m", "ruff", "check", "--output-format=concise", ".")


def test_ruff_format():
    run_tool("ruff", "-m", "ruff", "format", "--check", ".")


def test_types():
    run_tool("mypy", "-m", "mypy")


def test_import_direction():
    call = "from importlinter.cli import lint_imports_command as lint_imports; lint_imports()"
    run_tool("importlinter", "-c", call)


def test_files_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in own_files()}
    found = [
        f"{place(path, 1)}: {length} lines"
        for path, length in lengths.items()
        if length > MAX_FILE_LINES
    ]
    assert_none(found, f"A file has at most {MAX_FILE_LINES} lines: split by subject.")


def test_functions_are_short():
    found = []
    for path, node in nodes_of(own_files()):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{place(path, node.lineno)}: {node.name} has {length} lines")
    assert_none(found, f"A function has at most {MAX_FUNCTION_LINES} lines: name its steps.")


def is_re_export(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    if isinstance(statement, ast.Assign):
        return {ast.unparse(target) for target in statement.targets} <= {"__all__", "__version__"}
    return False


def is_lazy_import(statement: ast.stmt) -> bool:
    """The package's own __init__ re-exports lazily (PEP 562), so that importing it stays quick."""
    if isinstance(statement, ast.If):
        return ast.unparse(statement.test) == "TYPE_CHECKING"
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0]) == "_HOMES"
    functions = ("_homes", "__getattr__")
    return isinstance(statement, ast.FunctionDef) and statement.name in functions


def test_init_files_only_re_export():
    found = [
        f"{place(path, statement.lineno)}: {ast.unparse(statement).splitlines()[0]}"
        for path in core_files()
        if path.name == "__init__.py"
        for statement in tree_of(path).body
        if not is_re_export(statement) and not (path.parent == CORE and is_lazy_import(statement))
    ]
    assert_none(found, "An __init__.py holds a docstring, imports, __all__ and __version__ only.")


def reads_tensors_only(path: Path, call: ast.Call) -> bool:
    """Published text encoders and detectors may be pickles: one module reads them, running no code.

    The argument has to be spelled out: below PyTorch 2.6 it is off by default.
    """
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    only_tensors = ast.unparse(call.func) == "torch.load" and given.get("weights_only") == "True"
    return only_tensors and path == CORE / "weights" / "files" / "pickles.py"


def test_core_never_unpickles():
    calls = [
        f"{place(path, node.lineno)}: calls {ast.unparse(node.func)}"
        for path, node in core_nodes()
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        if not reads_tensors_only(path, node)
    ]
    allowed = [
        f"{place(path, node.value.lineno)}: allow_pickle={ast.unparse(node.value)}"
        for path, node in core_nodes()
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle"
        if ast.unparse(node.value) != "False"
    ]
    found = calls + allowed + imports_of(core_files(), UNSAFE_IMPORTS)
    assert_none(found, "A checkpoint must not be able to run code: read safetensors only.")


def test_files_are_read_by_their_reader():
    found = [
        f"{place(path, node.lineno)}: calls {ast.unparse(node.func)}"
        for path, node in nodes_of([*core_files(), *sorted(NODES.rglob("*.py"))])
        if isinstance(node, ast.Call) and READERS_OF_THEIR_OWN.search(ast.unparse(node.func))
        if path.parent != CORE / "files"
    ]
    assert_none(found, "JSON, YAML and text are read by easyanimate_core.files, which refuses.")


def test_no_library_unpickles_for_us():
    files = [path for path in own_files() if NODES not in path.parents and path != PROGRAMS]
    found = [
        f"{place(path, node.lineno)}: calls {ast.unparse(node.func)}"
        for path, node in nodes_of(files)
        if isinstance(node, ast.Call) and UNPICKLING.search(ast.unparse(node.func))
    ]
    found += [
        f"{place(path, node.lineno)}: imports {name}"
        for path, node in nodes_of(files)
        for name in imported_names(node)
        if name.startswith(("torch.distributed.checkpoint", "torch.package"))
    ]
    assert_none(found, "States and weights are safetensors and JSON, which cannot run code.")


def test_models_of_transformers_are_tensors_from_a_folder():
    """Nothing is downloaded, no pickle is read, no program that lies beside the weights runs."""
    found = []
    for path, node in core_nodes():
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        wanted = {}
        if function == "load_foreign":  # which adds the rest
            kind = ast.unparse(node.args[0])
            wanted = {"use_safetensors": "True"} if "Model" in kind else {}
        if function.endswith(".from_pretrained"):
            kind = function.removesuffix(".from_pretrained")
            wanted = {"local_files_only": "True"}
            if "Model" in kind:
                wanted["use_safetensors"] = "True"
            if kind.startswith("Auto") or kind == "kind":
                wanted["trust_remote_code"] = "False"
        found += [
            f"{place(path, node.lineno)}: {kind} without {name}={value}"
            for name, value in wanted.items()
            if given.get(name) != value
        ]
    assert_none(found, "What transformers reads is told what it may not read.")


def test_core_never_imports_comfyui():
    found = imports_of(core_files(), HOST_IMPORTS)
    assert_none(found, "The core does the whole job without ComfyUI: the host stays outside.")


def test_only_the_bridge_imports_comfyuis_internals():
    files = [path for path in NODES.rglob("*.py") if BRIDGE not in path.parents]
    assert files
    found = imports_of(files, HOST_IMPORTS - {"comfy_api"} | {"server", "latent_preview"})
    assert_none(found, "Nodes use ComfyUI's public API; its internals are met in nodes/bridge.")


def test_a_command_is_imported_by_main_alone():
    files = sorted((CORE / "cli").glob("*.py"))
    commands = {path.stem for path in files if "\ndef add_parser(" in path.read_text("utf-8")}
    assert "generate" in commands
    found = [
        f"{place(path, node.lineno)}: imports {name}"
        for path, node in nodes_of([path for path in files if path.name != "main.py"])
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for name in ([node.module] if node.module else [alias.name for alias in node.names])
        if name in commands
    ]
    assert_none(found, "What commands share has a file of its own: cli/options.py, memory.py ...")


def test_the_pack_imports_itself_relatively():
    found = imports_of(sorted(NODES.rglob("*.py")), {"easyanimate_core", "nodes"})
    assert_none(found, "ComfyUI loads the pack under a path-derived name: relative imports only.")


def test_execute_is_short():
    found = []
    for path, node in nodes_of(sorted(NODES.glob("*.py"))):
        if isinstance(node, ast.FunctionDef) and node.name == "execute":
            statements = sum(isinstance(part, ast.stmt) for part in ast.walk(node)) - 1
            if statements > MAX_EXECUTE_STATEMENTS:
                found.append(f"{place(path, node.lineno)}: {statements} statements")
    assert_none(found, f"`execute` has at most {MAX_EXECUTE_STATEMENTS} statements.")


def text_files() -> list[Path]:
    """The text files that git tracks or would track."""
    git = shutil.which("git")
    listed = (
        git
        and subprocess.run(
            [git, "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            check=False,
        ).stdout
    )
    if not listed:
        pytest.skip("this is not a git clone: which files belong to the project is not known")
    names = [n for n in listed.rstrip("\0").split("\0") if not n.startswith(UNCHECKED_FOLDERS)]
    return [ROOT / n for n in names if Path(n).suffix in TEXT_SUFFIXES and (ROOT / n).is_file()]


def text_problems(path: Path) -> Iterator[str]:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        yield f"{place(path, 1)}: not UTF-8 ({error})"
        return
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        yield f"{place(path, text.count(chr(10)) + 1)}: the file must end with one line end"
    for number, line in enumerate(text.split("\n"), start=1):
        for rule, pattern in TEXT_RULES.items():
            if pattern.search(line):
                yield f"{place(path, number)}: {rule}: {line.strip()[:80]!r}"


def test_text_hygiene():
    found = [problem for path in text_files() for problem in text_problems(path)]
    assert_none(found, "Text is UTF-8 with LF line ends, tidy, and true on every machine.")


def opens_text(call: ast.Call) -> bool:
    """Whether a call opens a file, or what a program prints, as text."""
    name = ast.unparse(call.func).rpartition(".")[2]
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in ("run", "Popen", "check_output", "check_call", "call"):
        return "text" in given or "universal_newlines" in given
    if ast.unparse(call.func) in ("read_text", "av.open"):  # the package's own reads UTF-8
        return False
    if name in ("read_text", "write_text", "TextIOWrapper"):
        return True
    if name not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        return False
    literals = [v.value for v in (*call.args, *given.values()) if isinstance(v, ast.Constant)]
    modes = [v for v in literals if isinstance(v, str) and re.fullmatch(r"[rwax][bt+]*", v)]
    is_pythons_own = isinstance(call.func, ast.Name) and name == "open"
    return any("b" not in mode for mode in modes) or (is_pythons_own and not modes)


def test_text_has_an_encoding():
    """Without one it is the machine's: cp1252 or GBK on Windows."""
    scripts = [ROOT / name for name in ("__init__.py", "dev.py", "easyanimate.py", "install.py")]
    found = [
        f"{place(path, node.lineno)}: {ast.unparse(node.func)}"
        for path, node in nodes_of([*own_files(), *scripts])
        if isinstance(node, ast.Call) and opens_text(node)
        if "encoding" not in {keyword.arg for keyword in node.keywords}
    ]
    assert_none(found, "Text is read and written with an encoding, which is named.")


def test_requirements_are_ascii():
    """pip reads them in the machine's encoding."""
    found = [
        file.name for file in ROOT.glob("requirements*.txt") if not file.read_bytes().isascii()
    ]
    assert_none(found, "Requirements are plain ASCII.")


def test_dependencies_are_requirements():
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["dependencies"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line.split(" #")[0].strip() for line in lines if line.strip()]
    required = [line for line in required if not line.startswith("#")]
    assert declared == required, (
        f"pyproject.toml: dependencies {declared} must be the lines of requirements.txt {required}"
    )


def test_the_architecture_page_names_what_exists_and_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms, walks = text.split("\n## ", 1)
    files = re.findall(r"`((?:easyanimate_core|nodes)/[\w/]+\.py)`", walks)
    assert len(files) > 10
    assert_none([name for name in files if not (ROOT / name).is_file()], "The walks name files.")
    named = set(re.findall(r"^\| `(\w+)` \|", rooms, re.M))
    folders = {path.parent.name for path in CORE.glob("*/__init__.py")}
    assert_none(sorted(named ^ folders), "The table names every room.")


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/platforms.md", "docs/zh/platforms.md"])
def test_promises_name_tests_that_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]*test_\w+(?:\.py)?)`", text))
    assert len(named) > 10
    paths = list((ROOT / "tests").rglob("test_*.py"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    functions = {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.M)}
    files = {path.name for path in paths}
    found = {name for name in named if name.rpartition("/")[2] in files or name in functions}
    assert_none(sorted(named - found), "A promise is shown by a test of that name.")


def moves_files(call: ast.Call) -> bool:
    """`Path.replace` takes one value; those of texts, dates and dataclasses take another number."""
    name = getattr(call.func, "attr", None)
    if name not in MOVES:
        return False
    owner = ast.unparse(call.func).rpartition(".")[0]
    if name in ("remove", "move"):
        return owner in ("os", "shutil")
    one = len(call.args) == 1 and not isinstance(call.args[0], ast.Starred) and not call.keywords
    return name != "replace" or one or owner == "os"


def test_files_are_moved_and_removed_by_one_helper():
    found = [
        f"{place(path, node.lineno)}: {ast.unparse(node.func)}"
        for path, node in nodes_of([*core_files(), *NODES.rglob("*.py"), ROOT / "install.py"])
        if isinstance(node, ast.Call) and moves_files(node) and CORE / "files" not in path.parents
    ]
    assert_none(found, "What another program may hold is moved and removed by files.moving")
