"""Notes about a node's run, shown on it by `web/js/notes.js`."""

from __future__ import annotations

import logging
import sys

_LOG = logging.getLogger(__name__)
EVENT = "easyanimate-note"
#: Maximum number of characters to show. Texts of files may have any length.
LONGEST = 10_000


def show(node_id: str | None, text: str) -> None:
    """Show `text` on the node in the browser that runs it; an empty text clears the last one.

    The browser shows it as plain text. Does nothing if no server is running. Nodes that another one
    expands into have its id and more after a dot: their texts are shown on it, after its own.
    """
    node_id, _, expanded = (node_id or "").partition(".")
    if expanded and text:
        _LOG.info("%s", text)
    server = sys.modules.get("server")  # scripts use the nodes without a server
    instance = getattr(getattr(server, "PromptServer", None), "instance", None)
    client = getattr(instance, "client_id", None)
    if not node_id or client is None or (expanded and not text):
        return
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} ... (the output report has all of it)"
    message = {"node": node_id, "text": text, "more": bool(expanded)}
    instance.send_sync(EVENT, message, client)
