"""Notes about a node's run, shown on it by `web/js/notes.js`."""

from __future__ import annotations

import sys

EVENT = "easyanimate-note"
#: Maximum number of characters to show. Texts of files may have any length.
LONGEST = 10_000


def show(node_id: str | None, text: str) -> None:
    """Show `text` on the node in the browser that runs it; an empty text clears the last one.

    The browser shows it as plain text. Does nothing if no server is running.
    """
    server = sys.modules.get("server")  # scripts use the nodes without a server
    instance = getattr(getattr(server, "PromptServer", None), "instance", None)
    client = getattr(instance, "client_id", None)
    if node_id is None or client is None:
        return
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} ... (the output report has all of it)"
    instance.send_sync(EVENT, {"node": node_id, "text": text}, client)
