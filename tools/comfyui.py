"""`dev.py comfyui`: a real ComfyUI on the CPU with this pack and tiny models, to try by hand."""

from __future__ import annotations

import argparse
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import dev
from easyanimate_core.console import prepare_streams

from .comfyui_install import TAGS, ready_comfyui, ready_python, ready_video_helper_suite, version_of

HOST = "127.0.0.1"
PORT = 8188
BASE = dev.ROOT / "outputs" / "comfyui"
START_SECONDS = 300
#: Servers of this machine are asked directly, whatever HTTP_PROXY says.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def server_command(
    comfyui: Path, python: str, base: Path, *, port: int, extra: Sequence[str] = ()
) -> list[str]:
    """The command of a server that writes into `base` only."""
    return [
        python,
        str(comfyui / "main.py"),
        "--cpu",
        "--disable-auto-launch",
        *("--preview-method", "latent2rgb"),
        *("--base-directory", str(base)),
        *("--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"),
        *("--port", str(port)),
        *extra,
    ]


def answers(url: str) -> bool:
    """Whether a ComfyUI answers there."""
    try:
        with DIRECT.open(f"{url}/system_stats", timeout=10) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def wait_until_ready(url: str, runs: Callable[[], bool], seconds: float = START_SECONDS) -> bool:
    """Whether the server answers before it ends or the time is over."""
    end = time.monotonic() + seconds
    while runs() and time.monotonic() < end:
        if answers(url):
            return True
        time.sleep(0.3)
    return False


def is_free(port: int) -> bool:
    """Whether a server can listen on this port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; what follows `--` is ComfyUI's."""
    parser = argparse.ArgumentParser(
        prog="dev.py comfyui",
        description="Start ComfyUI on the CPU with this pack, VideoHelperSuite, tiny models of "
        f"random weights, and pictures and clips to start from, in {BASE}. ComfyUI is taken from "
        "COMFYUI_PATH, or else from the cache, into which it is cloned where it is missing. "
        "Arguments after -- go to ComfyUI's main.py.",
    )
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    parser.add_argument("--version", help=f"of ComfyUI, such as {' or '.join(TAGS)}")
    parser.add_argument(
        "--environment",
        action="store_true",
        help="only set up; the last line is the path of the Python for ComfyUI",
    )
    parser.add_argument("main", nargs="*", help="arguments of ComfyUI's main.py")
    return parser.parse_args(arguments)


def announce(url: str, process: subprocess.Popen[bytes], version: str) -> None:
    """Say where it is as soon as it answers."""
    if wait_until_ready(url, lambda: process.poll() is None):
        dev.say(f"\nComfyUI {version} is ready: {url}    (Ctrl-C ends it)")
    elif process.poll() is None:
        dev.say(f"\nComfyUI does not answer at {url} after {START_SECONDS} s; it may still come.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up what is missing and run the server until it ends."""
    prepare_streams()
    options = parse(arguments)
    comfyui = ready_comfyui(options.version)
    suite = ready_video_helper_suite()
    python = ready_python(comfyui, [suite])
    if options.environment:
        print(python)
        return 0
    if not is_free(options.port):
        dev.say(
            f"Port {options.port} is taken, perhaps by another ComfyUI. Choose one: "
            f"python dev.py comfyui --port {options.port + 1}"
        )
        return 1
    from .comfyui_base import PACK, VIDEO_HELPER_SUITE, make_base, say_what_it_is

    base = make_base(BASE, {PACK: dev.ROOT, VIDEO_HELPER_SUITE: suite})
    version = version_of(comfyui)
    dev.say(f"Starting ComfyUI {version} of {comfyui}; it writes into {base}.")
    say_what_it_is(base)
    command = server_command(comfyui, python, base, port=options.port, extra=options.main)
    process = subprocess.Popen(command, cwd=base)
    url = f"http://{HOST}:{options.port}"
    threading.Thread(target=announce, args=(url, process, version), daemon=True).start()
    return dev.wait_for(process)


if __name__ == "__main__":
    raise SystemExit(main())
