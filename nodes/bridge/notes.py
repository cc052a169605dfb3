"""Text under a node while it runs."""

from __future__ import annotations

import sys


def show(node_id: str | None, text: str) -> None:
    """Show `text` on the node; nothing happens where no server runs."""
    server = sys.modules.get("server")  # scripts use the nodes without one
    instance = getattr(getattr(server, "PromptServer", None), "instance", None)
    if node_id and text and instance is not None:
        instance.send_progress_text(text, node_id)
