"""What a node says about its run, shown on it by `web/js/notes.js`."""

from __future__ import annotations

import sys

EVENT = "easyanimate-note"
#: Letters that are shown. A file may hold a text of any length.
LONGEST = 10_000


def show(node_id: str | None, text: str) -> None:
    """Show `text` on the node in the browser that runs it; an empty one takes the last away.

    The browser gets it as it is and shows it as text. Nothing happens where no server runs.
    """
    server = sys.modules.get("server")  # scripts use the nodes without one
    instance = getattr(getattr(server, "PromptServer", None), "instance", None)
    client = getattr(instance, "client_id", None)
    if node_id is None or client is None:
        return
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} ... (the output report has all of it)"
    instance.send_sync(EVENT, {"node": node_id, "text": text}, client)
