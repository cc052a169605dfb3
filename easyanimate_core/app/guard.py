"""Requests that the page does not answer: of other sites, and for addresses elsewhere.

A browser lets any site send requests to this machine. Gradio only keeps the answers from such a
site; an upload or a run would happen all the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote, urlsplit

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: The hosts of a page that only this machine may use. Other names could lead here too (DNS
#: rebinding), and would make a foreign site the same one to the browser.
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class Guard:
    """ASGI middleware; `hosts` are the names by which the page may be called, None for any."""

    def __init__(self, app: Any, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Answer with 403, or hand on."""
        fault = self._fault(scope) if scope["type"] in ("http", "websocket") else ""
        if not fault:
            await self._app(scope, receive, send)
            return
        kind = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 403, "headers": kind})
        await send({"type": "http.response.body", "body": fault.encode()})

    def _fault(self, scope: Scope) -> str:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return (
                f"{host!r} is not a name of this page: open it as http://127.0.0.1 with its port, "
                "or start it with --host."
            )
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return f"Requests of other sites ({origin}) are not answered."
        if headers.get(b"sec-fetch-site") == "cross-site" and scope["method"] != "GET":
            return "Requests of other sites are not answered."
        _, is_file, named = unquote(scope["path"]).partition("/file=")
        if is_file and "://" in named:
            return "Files of other addresses are not fetched."
        return ""


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
