"""The pictures of the template browser: what goes into a workflow and what comes out, in motion.

The small model makes them, on the scenes of `python -m easyanimate_core demo`. ComfyUI asks a pack
for NAME.jpg and for nothing else; browsers go by what a picture holds, so these hold an animated
WebP, which every frontend plays.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from easyanimate_core import ImageToVideo, Pipeline, Settings
from easyanimate_core.cli import demo
from easyanimate_core.files import atomic_file
from easyanimate_core.media.writer import to_bytes
from easyanimate_core.models.specs import Version
from easyanimate_core.small_model import small_checkpoint

from .canvas import FOLDER

SIZE = (400, 225)
STEPS = 20
SIDE, SMALL, MARGIN, FPS = 168, 82, 12, 8
QUALITY, BACKGROUND, INK = 55, "#1b1b1f", "#d8d8dc"
TEXT_SIZE, TEXT_WIDTH = 15, 20
#: The row of the demo that shows what a workflow does, by name; of V5 by title.
ROWS = {
    "1 Try it - text": "text to video",
    "1 Try it in four steps": "text to video",
    "1 Try it - start image": "start image",
    "1 Try it - control video": "control edges",
    "1 Try it - camera": "camera pan",
    "1 Try it with V5 - text": "V5 text to video",
    "1 Try it with V5 - control": "V5 control edges",
    "2 Text to video": "text to video",
    "2 Text to video - long": "text to video, Chinese",
    "2 Text to video - KSampler": "text to video",
    "2 Text to image": "text to image",
    "3 Image to video": "start image",
    "3 Start and end image": "start and end image",
    "4 Video to video": "video to video",
    "4 Video inpaint": "region, one mask",
    "5 Control - any kind": "control edges",
    "5 Control - pose": "control depth",
    "5 Control - two mixed": "control depth",
    "5 Control - start and end": "control edges, reference",
    "5 Control - ready video": "control depth, reference",
    "6 Camera - one move": "camera pan, reference",
    "6 Camera - several moves": "camera zoom, reference",
    "6 Camera - keyframes": "camera zoom",
    "6 Camera - file": "camera pan",
    "6 Trajectory": "trajectory, reference",
    "7 LoRA": "text to video",
    "7 Train a LoRA": "several frames",
    "8 VHS - image to video": "start image",
    "8 VHS - video to video": "video to video",
    "8 VHS - control": "control edges",
    "9 V5 - text to video": "V5 text to video",
    "9 V5 - image to video": "V5 start image",
    "9 V5 - control": "V5 control depth",
}


def write_pictures() -> None:
    """Write the picture of every workflow."""
    rows = {row.name if row.version is Version.V5_1 else row.title: row for row in demo.rows()}
    settings = Settings(
        height=demo.HEIGHT, width=demo.WIDTH, steps=STEPS, guidance_scale=demo.GUIDANCE
    )
    made: dict[str, list[Image.Image]] = {}
    for name in sorted(set(ROWS.values())):
        row = rows[name]
        pipeline = Pipeline.load(small_checkpoint(row.head, row.version), embedding_cache=False)
        result = pipeline.generate(row.prompt, row.task, replace(settings, frames=row.frames))
        made[name] = drawn(row, result.frames[0])
        print(name, flush=True)
    for workflow, name in ROWS.items():
        first, *others = made[name]
        with atomic_file(FOLDER / f"{workflow}.jpg") as temporary:
            first.save(
                temporary,
                format="WEBP",
                save_all=True,
                append_images=others,
                duration=1000 // FPS,
                loop=0,
                quality=QUALITY,
                method=6,
            )


def drawn(row: demo.Row, result: Any) -> list[Image.Image]:
    """The frames of a picture: the inputs, or the prompt where there are none, and the result."""
    frames, reference = demo.given_frames(row.task)
    stills = [] if reference is None else [to_bytes(reference)]
    if isinstance(row.task, ImageToVideo):
        given = [row.task.start, row.task.end, *(row.task.keyframes or {}).values()]
        stills = [to_bytes(picture[0]) for picture in given if picture is not None][:2]
        frames = None
    if row.name.startswith("camera"):  # its rays tell little as colours
        frames = None
    pictures = []
    for index, after in enumerate(to_bytes(result)):
        canvas = Image.new("RGB", SIZE, BACKGROUND)
        top = (SIZE[1] - SIDE) // 2
        right = SIZE[0] - MARGIN - SIDE
        before = [*([] if frames is None else [to_bytes(frames)[index]]), *stills]
        _draw_inputs(canvas, before, row.caption or row.prompt, top)
        _arrow(canvas, (MARGIN + SIDE + right) // 2, SIZE[1] // 2)
        canvas.paste(_scaled(after, SIDE), (right, top))
        pictures.append(canvas)
    return pictures


def _draw_inputs(canvas: Image.Image, pictures: Sequence[Any], prompt: str, top: int) -> None:
    """One picture large, two above each other, none as the text of the prompt."""
    if len(pictures) == 1:
        canvas.paste(_scaled(pictures[0], SIDE), (MARGIN, top))
    for index, picture in enumerate(pictures if len(pictures) > 1 else ()):
        left = MARGIN + (SIDE - SMALL) // 2
        canvas.paste(_scaled(picture, SMALL), (left, top + index * (SIDE - SMALL)))
    if not pictures:
        text = "\n".join(textwrap.wrap(prompt, TEXT_WIDTH))
        font = ImageFont.load_default(TEXT_SIZE)
        place = (MARGIN + SIDE // 2, SIZE[1] // 2)
        ImageDraw.Draw(canvas).multiline_text(
            place, text, INK, font, anchor="mm", align="center", spacing=6
        )


def _scaled(picture: Any, side: int) -> Image.Image:
    return Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)


def _arrow(canvas: Image.Image, x: int, y: int) -> None:
    draw = ImageDraw.Draw(canvas)
    draw.line((x - 12, y, x + 4, y), INK, 3)
    draw.polygon(((x + 13, y), (x + 2, y - 8), (x + 2, y + 8)), INK)
