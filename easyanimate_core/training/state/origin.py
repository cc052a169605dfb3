"""What a state was trained on, kept beside it, and how that differs from what is there now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import EasyAnimateError, counted
from ...files import DATASET_BYTES, read_text
from ..data.listing import Listing
from ..data.texts import some

LISTING_FILE = "data.json"


@dataclass(frozen=True)
class Origin:
    """The clips of a run, a hash of the `weights` that it began with, and the clips `held_out`."""

    data: Listing
    weights: str
    held_out: Listing = Listing(())

    def write(self, folder: Path) -> None:
        """Write the listing of the clips into the folder of a state."""
        (folder / LISTING_FILE).write_text(self.data.to_json(), encoding="utf-8")

    def changes_since(self, folder: Path, digest: str) -> tuple[str, ...]:
        """What is no longer as it was for the state in `folder`, whose data had this `digest`.

        States of earlier versions do not tell their data: their `digest` is "".
        """
        if digest in ("", self.data.digest):
            return ()
        before = _read(folder / LISTING_FILE, digest)
        if before is None:
            return ("The data has changed since the last state.",)
        said = f"The data has changed since the last state: {self.data.changes_since(before)}."
        trained = {row.content for row in before.rows} - {row.content for row in self.data.rows}
        known = [row.name for row in self.held_out.rows if row.content in trained]
        if not known:
            return (said,)
        return (
            said,
            f"Validation measures {counted(len(known), 'clip')} that the run has been trained on "
            f"until now: {some(known)}.",
        )


#: What a run without data begins with.
NOTHING = Origin(Listing(()), "")


def _read(path: Path, digest: str) -> Listing | None:
    """The listing in a file; None unless it is the one with this digest."""
    try:
        text = read_text(path, error=EasyAnimateError, limit=DATASET_BYTES)
        listing = Listing.from_json(text)
    except (EasyAnimateError, ValueError, TypeError):
        return None
    return listing if listing.digest == digest else None
