"""A contact sheet: one image with a labelled strip of evenly spaced frames per video."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import InputError
from .canvas import drawn_pixels
from .scale import check_pixels
from .writer import to_bytes

_BACKGROUND = (22, 24, 29)
_CELL = (38, 41, 49)
_LABEL = (236, 238, 242)
_ACCENT = (98, 160, 234)

_MARGIN = 28
_GAP = 8
_LABEL_SIZE = 22
_ROW_SPACE = 26


def contact_sheet(
    rows: Sequence[tuple[str, Tensor]], *, columns: int = 6, cell_width: int = 224
) -> Tensor:
    """Draw each (label, frames [F, H, W, 3]) as a strip; returns the sheet [1, height, width, 3].

    A strip has `columns` frames evenly spaced from first to last, or all frames of a shorter clip.
    Each row keeps the aspect ratio of its frames. Long labels are wrapped.
    """
    if not rows:
        raise InputError("A contact sheet needs at least one row.")
    if columns < 1 or cell_width < 16:
        raise InputError(
            f"columns is {columns} and cell_width is {cell_width}; they must be at least 1 and 16."
        )
    for label, frames in rows:
        check_pixels(f"The row {label!r}", frames)
    font = ImageFont.load_default(size=_LABEL_SIZE)
    strip_width = columns * cell_width + (columns - 1) * _GAP
    labels = [_wrapped(label, font, strip_width - _GAP) for label, _ in rows]
    line_height = round(_LABEL_SIZE * 1.35)
    heights = [_cell_height(frames, cell_width) for _, frames in rows]
    total = sum(len(lines) * line_height for lines in labels) + sum(heights)
    total += len(rows) * (_GAP + _ROW_SPACE) - _ROW_SPACE + 2 * _MARGIN

    sheet = Image.new("RGB", (strip_width + 2 * _MARGIN, total), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for (_, frames), lines, height in zip(rows, labels, heights, strict=True):
        label_height = len(lines) * line_height
        draw.rectangle((_MARGIN, top, _MARGIN + 3, top + label_height - 4), fill=_ACCENT)
        for line in lines:
            draw.text((_MARGIN + 2 * _GAP, top), line, font=font, fill=_LABEL)
            top += line_height
        top += _GAP
        _draw_strip(sheet, frames, top=top, columns=columns, cell=(cell_width, height))
        top += height + _ROW_SPACE
    return drawn_pixels(sheet)


def _cell_height(frames: Tensor, cell_width: int) -> int:
    return max(1, round(cell_width * frames.shape[1] / frames.shape[2]))


def _draw_strip(
    sheet: Image.Image, frames: Tensor, *, top: int, columns: int, cell: tuple[int, int]
) -> None:
    """Paste the frames of one row; cells that a short clip leaves unused are drawn empty."""
    shown = min(columns, len(frames))
    indices = torch.linspace(0, len(frames) - 1, shown).round().to(torch.int64).tolist()
    for column in range(columns):
        left = _MARGIN + column * (cell[0] + _GAP)
        if column < shown:
            picture = Image.fromarray(to_bytes(frames[indices[column]]))
            sheet.paste(picture.resize(cell, Image.Resampling.LANCZOS), (left, top))
        else:
            sheet.paste(_CELL, (left, top, left + cell[0], top + cell[1]))


def _wrapped(
    label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """Wrap `label` at spaces into lines of at most `width` pixels."""
    lines: list[str] = []
    for word in label.split() or [" "]:
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
