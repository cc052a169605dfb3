"""`dev.py comfyui`: a real ComfyUI on the CPU with this pack and tiny models, to try it out."""

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
#: Ignores HTTP_PROXY, because the servers are local.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def server_command(
    comfyui: Path, python: str, base: Path, *, port: int, extra: Sequence[str] = ()
) -> list[str]:
    """The command line of a server that only writes to `base`."""
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
    """Whether a ComfyUI responds at `url`."""
    try:
        with DIRECT.open(f"{url}/system_stats", timeout=10) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def wait_until_ready(url: str, runs: Callable[[], bool], seconds: float = START_SECONDS) -> bool:
    """Wait for the server; returns whether it responds before it exits or the time is up."""
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
    """Parse the options; everything after `--` is for ComfyUI."""
    parser = argparse.ArgumentParser(
        prog="dev.py comfyui",
        description="Start ComfyUI on the CPU with this pack, VideoHelperSuite, tiny models with "
        f"random weights, and example images and clips, in {BASE}. ComfyUI is taken from "
        "COMFYUI_PATH, or else from the cache, where it is cloned if missing. "
        "Arguments after -- are passed to ComfyUI's main.py.",
    )
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    parser.add_argument("--version", help=f"version of ComfyUI, such as {' or '.join(TAGS)}")
    parser.add_argument(
        "--environment",
        action="store_true",
        help="only set up; the last line is the path of ComfyUI's Python",
    )
    parser.add_argument("main", nargs="*", help="arguments for ComfyUI's main.py")
    return parser.parse_args(arguments)


def announce(url: str, process: subprocess.Popen[bytes], version: str) -> None:
    """Print the server's address as soon as it responds."""
    if wait_until_ready(url, lambda: process.poll() is None):
        dev.say(f"\nComfyUI {version} is ready: {url}    (Ctrl-C stops it)")
    elif process.poll() is None:
        dev.say(f"\nComfyUI does not respond at {url} after {START_SECONDS} s; it may need longer.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up what is missing and run the server until it exits."""
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
            f"Port {options.port} is in use, perhaps by another ComfyUI. Choose another: "
            f"python dev.py comfyui --port {options.port + 1}"
        )
        return 1
    from .comfyui_base import PACK, VIDEO_HELPER_SUITE, make_base, say_what_it_is

    base = make_base(BASE, {PACK: dev.ROOT, VIDEO_HELPER_SUITE: suite})
    version = version_of(comfyui)
    dev.say(f"Starting ComfyUI {version} from {comfyui}; it writes to {base}.")
    say_what_it_is(base)
    command = server_command(comfyui, python, base, port=options.port, extra=options.main)
    process = subprocess.Popen(command, cwd=base)
    url = f"http://{HOST}:{options.port}"
    threading.Thread(target=announce, args=(url, process, version), daemon=True).start()
    return dev.wait_for(process)


if __name__ == "__main__":
    raise SystemExit(main())
