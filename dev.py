r"""Everyday commands of the project: `python dev.py COMMAND [ARGUMENTS]`.

  venv        set up the development environment; the last line is the path of its Python
  test        run the everyday tests; arguments go to pytest    (dev.py test -k vae)
  test-slow   run the tests that take longer: several processes, kills, the small model
  test-comfy  run the tests in every ComfyUI of this machine
  test-all    run every test, the campaigns of some minutes included
  demo        make a tiny model and a video with it; arguments go to the demo
  lint        ruff check, ruff format --check, mypy, lint-imports
  bench       run benchmarks/*.py, results into benchmarks/results/
  comfyui     start a real ComfyUI with this pack and tiny models   (dev.py comfyui --help)
  clean       remove the environments and the tools' caches

Tests run in one process per CPU, those in ComfyUI in one; the argument `-n 0` makes it one for all.

The environments are outside the clone, in $EASYANIMATE_CACHE, by default ~/.cache/easyanimate
(Windows: %LOCALAPPDATA%\easyanimate\Cache). Their names contain the Python version and a hash of
the requirement files, so that clones share them and a changed requirement makes a new one.

Needs Python 3.10 or newer and nothing else.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (before anything that an old Python cannot read)
    sys.exit(
        f"Python {sys.version.split()[0]} is too old: this project needs Python 3.10 or newer. "
        "Run dev.py with a newer one, for example: python3.12 dev.py test, "
        "or make test PYTHON=python3.12"
    )

import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from easyanimate_core.console import prepare_streams

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = "requirements-dev.txt"
#: Written last: an environment without it is a broken half and is built again.
MARKER = "easyanimate-complete"
ENVIRONMENT_NAME = re.compile(r"venv-(comfyui-)?\d+\.\d+-[0-9a-f]{12}")
TOOL_CACHES = (
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "build",
    "dist",
)


def say(text: str) -> None:
    """Messages go to stderr: stdout is for results, such as the path that `venv` prints."""
    print(text, file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """The folder of this machine's environments."""
    chosen = os.environ.get("EASYANIMATE_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    local = os.environ.get("LOCALAPPDATA")
    if sys.platform == "win32" and local:
        return Path(local) / "easyanimate" / "Cache"
    return Path.home() / ".cache" / "easyanimate"


def environment_folder() -> Path:
    """The environment for this Python, machine type and requirements."""
    digest = hashlib.sha256(f"{sys.platform} {platform.machine()}".encode())
    for file in sorted(ROOT.glob("requirements*.txt")):
        digest.update(file.name.encode() + file.read_bytes())
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return cache_folder() / f"venv-{version}-{digest.hexdigest()[:12]}"


def environment_python(folder: Path) -> Path:
    """The Python of an environment."""
    if sys.platform == "win32":
        return folder / "Scripts" / "python.exe"
    return folder / "bin" / "python"


def is_complete(folder: Path) -> bool:
    """Whether the installation was completed and its base Python still exists."""
    return (folder / MARKER).is_file() and environment_python(folder).exists()


def try_lock(file: IO[str]) -> bool:
    """Take a lock of the operating system, which is released however the process ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[IO[str]]:
    """Let only one process at a time change an environment; closing the file releases the lock."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("a", encoding="utf-8") as file:
        if not try_lock(file):
            say(f"Another process is setting up {folder}; waiting for it.")
            while not try_lock(file):
                time.sleep(0.5)
        yield file


def remove(folder: Path) -> None:
    """Delete an environment, marker first: an interrupted removal does not look complete."""
    (folder / MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder)


def check_venv_module() -> None:
    """Require venv: Debian and Ubuntu ship parts of the standard library as separate packages."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    sys.exit(
        f"{sys.executable} cannot make virtual environments: its venv or ensurepip module is "
        f"missing. On Debian and Ubuntu: sudo apt install python3-venv (or python{version}-venv); "
        "elsewhere use a Python from python.org, pyenv, uv or conda."
    )


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a process; 128 + n if it was ended by signal n, as in a shell."""
    while True:
        # Ctrl-C reaches the child process too: let it clean up first.
        with contextlib.suppress(KeyboardInterrupt):
            status = process.wait()
            return status if status >= 0 else 128 - status


def run_step(command: Sequence[str], lock: IO[str]) -> None:
    """Run one step of the setup; if it fails, exit with its status."""
    # A terminal on stderr still shows pip's progress bars. pip holds the lock too: should it
    # outlive this process, nobody removes the folder that it writes to.
    kept = () if sys.platform == "win32" else (lock.fileno(),)
    status = wait_for(subprocess.Popen(command, stdout=sys.stderr, pass_fds=kept))
    if status:
        say(f"Setting up failed in: {' '.join(command)}")
        say("The reason is shown above. The next run starts over.")
        raise SystemExit(status)


def make_environment(folder: Path, lock: IO[str]) -> list[str]:
    """Create an empty environment; returns the start of its pip command."""
    run_step([sys.executable, "-m", "venv", str(folder)], lock)
    python = str(environment_python(folder))
    return [python, "-m", "pip", "install", "--disable-pip-version-check"]


def install(folder: Path, lock: IO[str]) -> None:
    """Create the development environment."""
    size = "6 GB" if sys.platform == "linux" else "2 GB"
    say(f"Setting up the development environment: {folder}")
    say(f"This happens once. It takes some minutes and about {size}, most of it PyTorch.")
    run_step([*make_environment(folder, lock), "-r", str(ROOT / REQUIREMENTS)], lock)


def ready_environment(folder: Path, install: Callable[[Path, IO[str]], None]) -> str:
    """The Python of an environment, which is set up first if missing or incomplete."""
    if not is_complete(folder):
        check_venv_module()
        with locked(folder) as lock:
            if not is_complete(folder):  # the process waited for may have made it
                if folder.exists():
                    say(f"{folder} is incomplete; it is removed and built again.")
                    remove(folder)
                start = time.monotonic()
                install(folder, lock)
                (folder / MARKER).write_text("complete\n", encoding="utf-8")
                say(f"The environment is ready after {time.monotonic() - start:.0f} s.")
    return str(environment_python(folder))


def ready_python() -> str:
    """The Python of the development environment."""
    return ready_environment(environment_folder(), install)


def call(command: Sequence[str]) -> int:
    """Run a command in the root of the clone; returns its exit status."""
    return wait_for(subprocess.Popen(command, cwd=ROOT))


def call_all(commands: Sequence[Sequence[str]]) -> int:
    """Run all commands, even after a failure; returns the first failing status."""
    status = 0
    for command in commands:
        say(f"$ {' '.join(command[1:])}")
        status = call(command) or status
    return status


def run_venv(arguments: list[str]) -> int:
    """Set up the environment and print the path of its Python."""
    if arguments:
        sys.exit(f"dev.py venv takes no arguments, not {' '.join(arguments)}")
    print(ready_python())
    return 0


def pytest_command(*arguments: str) -> list[str]:
    """Tests in one process per CPU, each of which takes more than 1 GB of memory."""
    parallel = ("-n", "logical", "--maxprocesses", "8", "--dist", "worksteal")
    return [ready_python(), "-m", "pytest", *parallel, *arguments]


def run_test(arguments: list[str]) -> int:
    """The everyday tests, or what the arguments choose."""
    return call(pytest_command(*arguments))


def run_test_slow(arguments: list[str]) -> int:
    """The tests marked slow; arguments narrow them down."""
    return call(pytest_command("-m", "slow", *arguments))


def run_test_comfy(arguments: list[str]) -> int:
    """The tests in ComfyUI, two servers at a time; arguments narrow them down."""
    return call(pytest_command("--maxprocesses", "2", "tests/comfy", *arguments))


def run_test_all(arguments: list[str]) -> int:
    """Every test; arguments narrow them down."""
    status = call(pytest_command("-m", "", *arguments))
    return run_test_comfy(["-m", "", *arguments]) or status


def run_demo(arguments: list[str]) -> int:
    """Run the command line's demo."""
    return call([ready_python(), "-m", "easyanimate_core", "demo", "--force", *arguments])


def run_lint(arguments: list[str]) -> int:
    """Run all checks other than tests; arguments (files) restrict ruff."""
    python = ready_python()
    return call_all(
        [
            [python, "-m", "ruff", "check", *arguments],
            [python, "-m", "ruff", "format", "--check", *arguments],
            [python, "-m", "mypy"],
            [python, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        ]
    )


def run_bench(arguments: list[str]) -> int:
    """Run every benchmark; arguments are passed on to each."""
    scripts = sorted(ROOT.glob("benchmarks/[!_]*.py"))
    if not scripts:
        sys.exit(f"There are no benchmarks in {ROOT / 'benchmarks'}.")
    python = ready_python()
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    day = time.strftime("%Y-%m-%d")
    return call_all(
        [
            [python, str(script), "--json", str(results / f"{day}-{script.stem}.json"), *arguments]
            for script in scripts
        ]
    )


def run_comfyui(arguments: list[str]) -> int:
    """Start ComfyUI with this pack, to try it by hand."""
    return call([ready_python(), "-m", "tools.comfyui", *arguments])


def run_clean(arguments: list[str]) -> int:
    """Remove everything that dev.py and the tools created; the next command sets up again."""
    if arguments:
        sys.exit(f"dev.py clean takes no arguments, not {' '.join(arguments)}")
    for folder in sorted(cache_folder().glob("venv-*")):
        if ENVIRONMENT_NAME.fullmatch(folder.name) and folder.is_dir():
            with locked(folder):
                say(f"Removing {folder}")
                remove(folder)
    for name in TOOL_CACHES:
        if (ROOT / name).is_dir():
            say(f"Removing {ROOT / name}")
            shutil.rmtree(ROOT / name)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "venv": run_venv,
    "test": run_test,
    "test-slow": run_test_slow,
    "test-comfy": run_test_comfy,
    "test-all": run_test_all,
    "demo": run_demo,
    "lint": run_lint,
    "bench": run_bench,
    "comfyui": run_comfyui,
    "clean": run_clean,
}


def main(arguments: list[str]) -> int:
    """Run the given command."""
    prepare_streams()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        say(f"dev.py has no command {name!r}; it has {', '.join(COMMANDS)}.")
        return 2
    return COMMANDS[name](rest)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
