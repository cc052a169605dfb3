"""Pictures of a run, which is not ended by a program that has one of them open."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..errors import HeldError

logger = logging.getLogger(__name__)


def write_shown(write: Callable[[], object]) -> None:
    """Call `write`; if another program has the old file open, log it and continue the run."""
    said = ""
    try:
        write()
    except HeldError as error:
        said = str(error)
    if said:
        logger.error(said)
