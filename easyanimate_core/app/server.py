"""Serves the page: to this machine alone by default, with nothing fetched from elsewhere."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import cache_folder, discard, sweep, temporary_cache
from ..files.leftovers import temporary_name
from .checkpoints import Checkpoints
from .guard import LOCAL_HOSTS, Guard
from .jobs import Jobs
from .results import Results
from .runner import Machine, Runner
from .texts import translations

#: Largest upload; a minute of video of a camera is smaller.
LARGEST_UPLOAD = "500mb"
_STOP_SECONDS = 2


@dataclass(frozen=True)
class Place:
    """Where the page is served; `account` is a user's name and password, None for anybody."""

    host: str = "127.0.0.1"
    port: int = 7860
    account: tuple[str, str] | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOCAL_HOSTS


@dataclass(frozen=True)
class Offer:
    """What the page offers: models, where results go, how runs use the machine, and its texts."""

    models: Sequence[Path]
    output: Path
    helps: Mapping[str, str]
    machine: Machine = field(default_factory=Machine)


def serve(place: Place, offer: Offer, ready: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C; `ready` is called with its address when it can be opened.

    Raises:
        InputError: The port is in use, the host has no such address, or the output folder cannot be
            made.
    """
    with listening(place) as listener, _uploads() as uploads:
        _keep_gradio_here(uploads)
        results = Results(offer.output)
        jobs = Jobs(Runner(results, offer.machine))
        try:
            app = _application(place, offer, results, jobs)
            _run(app, listener, lambda: ready(_address(place, listener)))
        finally:
            jobs.close()


@contextlib.contextmanager
def listening(place: Place) -> Iterator[socket.socket]:
    """A socket that listens there; port 0 is any free one."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        listener = socket.create_server((place.host, place.port), family=family)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise InputError(
                f"Port {place.port} is in use or not permitted ({error.strerror}). The page may be "
                f"running already: open http://{place.host}:{place.port}, or choose another port "
                f"with --port {place.port + 1 if place.port < 65535 else 7860}."
            ) from error
        raise InputError(
            f"{place.host} port {place.port} cannot be served: {error}. Use --host 127.0.0.1, or "
            "0.0.0.0 for the network, and a port from 0 to 65535."
        ) from error
    with listener:
        yield listener


@contextlib.contextmanager
def _uploads() -> Iterator[Path]:
    """A folder for uploads that other users cannot read; that of a killed page is removed."""
    root = cache_folder("app")
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
    except OSError:
        root = temporary_cache()
    folder = root / temporary_name("uploads")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        discard(folder)


def _keep_gradio_here(uploads: Path) -> None:
    """Settings that gradio reads from the environment, before it is imported."""
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=str(uploads),
        GRADIO_EXAMPLES_CACHE=str(uploads / "examples"),
        GRADIO_SSR_MODE="False",
        GRADIO_MCP_SERVER="False",
        HF_HUB_DISABLE_TELEMETRY="1",
    )


def _application(place: Place, offer: Offer, results: Results, jobs: Jobs) -> Any:
    import gradio as gr
    from fastapi import FastAPI

    from .page import CSS, Session, build_page, theme

    i18n = gr.I18n(**translations(offer.helps))
    page = build_page(Session(Checkpoints(offer.models), results, jobs, i18n))
    page.queue(api_open=False)
    hosts = LOCAL_HOSTS if place.is_local else None
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        auth=place.account,
        allowed_paths=[str(results.folder)],
        max_file_size=LARGEST_UPLOAD,
        show_error=True,
        run_history=False,
        footer_links=[],
        ssr_mode=False,
        mcp_server=False,
        i18n=i18n,
        theme=theme(),
        css=CSS,
    )
    page.has_launched = True  # else gradio takes any file of this machine for an upload
    return Guard(app, hosts)


def _run(app: Any, listener: socket.socket, ready: Callable[[], None]) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    config = uvicorn.Config(
        app, log_level="error", access_log=False, timeout_graceful_shutdown=_STOP_SECONDS
    )
    Server(config).run(sockets=[listener])


def _address(place: Place, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(place.host, place.host)  # noqa: S104
    return f"http://{host}:{port}"
