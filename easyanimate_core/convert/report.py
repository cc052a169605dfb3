"""Reports the fidelity of a conversion as text, Markdown, JSON and an image."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..errors import InputError
from ..files import Result, Together, atomic_file, check_results
from ..files.kinds import is_png, json_with, text_with
from .fidelity import Fidelity, LayerError

REPORT_SUFFIXES = (".md", ".json")
_SHOWN, _BARS = 3, 40

_WIDTH, _MARGIN, _ROW, _BAR, _GAP = 1000, 28, 22, 14, 14
_BACKGROUND, _TEXT, _FAINT, _ACCENT = (22, 24, 29), (236, 238, 242), (120, 126, 140), (98, 160, 234)


def check_report(path: Path, sources: Sequence[Path], *, force: bool, held: bool = False) -> None:
    """Raise unless the report's format is known and the report and its image can be written."""
    if path.suffix.lower() not in REPORT_SUFFIXES:
        raise InputError(f"The report {path} must end in {' or '.join(REPORT_SUFFIXES)}.")
    is_json = path.suffix.lower() == ".json"
    keys, words = ("source", "target", "layers"), "| relative error |"
    is_report = json_with(*keys) if is_json else text_with(words)
    results = [
        Result(path, "report of a conversion", is_report),
        Result(path.with_suffix(".png"), "PNG picture", is_png),
    ]
    check_results(results, sources=sources, force=force, held=held)


def summary(fidelity: Fidelity) -> list[str]:
    """Lines for the terminal."""
    lines = [
        f"{fidelity.target}",
        f"  {fidelity.part}: {_bytes(fidelity.bytes_before)} -> {_bytes(fidelity.bytes_after)} "
        f"({fidelity.bytes_after / fidelity.bytes_before:.0%}), {fidelity.seconds:.1f} s",
    ]
    if not fidelity.layers:
        lines.append(f"  all {fidelity.num_weights} weights are bit-identical to the source")
    elif fidelity.relative_rms == 0:
        lines.append(f"  all {fidelity.num_weights} weights have the same values as the source")
    else:
        lines.append(
            f"  {len(fidelity.layers)} of {fidelity.num_weights} weights changed, relative error "
            f"{fidelity.relative_rms:.2e} (root mean square)"
        )
        lines += [
            f"    {layer.name}  {layer.kind}  {layer.relative_rms:.2e}"
            for layer in fidelity.worst_first[:_SHOWN]
        ]
    if fidelity.probe is not None:
        cosine, psnr = min(fidelity.probe.cosine), min(fidelity.probe.psnr)
        lines.append(f"  predictions: cosine at least {cosine:.6f}, PSNR at least {_db(psnr)}")
        if fidelity.probe.frames_psnr is not None:
            lines.append(f"  decoded frames: PSNR {_db(fidelity.probe.frames_psnr)}")
    return lines + [f"  {note}" for note in fidelity.notes]


def write_report(fidelity: Fidelity, path: Path) -> Path | None:
    """Write the report, `.md` or `.json`, and next to it an image of the errors, if any.

    Returns the path of the image.
    """
    check_report(path, [], force=True, held=True)
    picture = None
    with Together() as together:
        if fidelity.relative_rms:
            picture = together.write(_write_picture, path.with_suffix(".png"), fidelity)
        if path.suffix.lower() == ".json":
            text = json.dumps(_finite(to_json(fidelity)), indent=2, ensure_ascii=False) + "\n"
        else:
            text = to_markdown(fidelity, None if picture is None else picture.name)
        together.write(_write_text, path, text)
    return picture


def _write_picture(path: Path, fidelity: Fidelity) -> Path:
    with atomic_file(path) as temporary:
        draw_errors(fidelity).save(temporary, format="PNG")
    return path


def _write_text(path: Path, text: str) -> Path:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def to_json(fidelity: Fidelity) -> dict[str, Any]:
    """All figures, with the worst layers first."""
    layers = [asdict(layer) for layer in fidelity.worst_first]
    return asdict(fidelity) | {"relative_rms": fidelity.relative_rms, "layers": layers}


def to_markdown(fidelity: Fidelity, picture: str | None) -> str:
    """Sizes, comparison and a table of the layers, worst first."""
    lines = [f"# {Path(fidelity.target).name}", ""]
    lines += ["| | |", "|---|---|"]
    facts = {
        "source": f"`{fidelity.source}`",
        "part": fidelity.part,
        "dtype": fidelity.dtype,
        "size before": _bytes(fidelity.bytes_before),
        "size after": f"{_bytes(fidelity.bytes_after)} "
        f"({fidelity.bytes_after / fidelity.bytes_before:.1%})",
        "weights changed": f"{len(fidelity.layers)} of {fidelity.num_weights}",
        "relative error": f"{fidelity.relative_rms:.3e} (root mean square)",
    }
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", *fidelity.notes] if fidelity.notes else []
    if fidelity.probe is not None:
        lines += ["", "## The same inputs through both", "", "| timestep | cosine | PSNR |"]
        lines += ["|---|---|---|"]
        rows = zip(
            fidelity.probe.timesteps, fidelity.probe.cosine, fidelity.probe.psnr, strict=True
        )
        lines += [f"| {step} | {cosine:.8f} | {_db(psnr)} |" for step, cosine, psnr in rows]
        if fidelity.probe.frames_psnr is not None:
            lines += ["", f"Decoded frames: PSNR {_db(fidelity.probe.frames_psnr)}."]
    if fidelity.layers:
        lines += ["", "## Error of each weight", ""]
        lines += [f"![Relative error of the worst weights]({picture})", ""] if picture else []
        lines += [
            "| weight | stored as | relative RMS | largest | cosine |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {layer.name} | {layer.kind} | {layer.relative_rms:.3e} | {layer.largest:.3e} | "
            f"{layer.cosine:.8f} |"
            for layer in fidelity.worst_first
        ]
    return "\n".join(lines) + "\n"


def draw_errors(fidelity: Fidelity) -> Image.Image:
    """Draw a bar chart of the worst relative errors."""
    layers = fidelity.worst_first[:_BARS]
    font, small = ImageFont.load_default(size=20), ImageFont.load_default(size=13)
    top = _MARGIN + 58
    picture = Image.new("RGB", (_WIDTH, top + _ROW * len(layers) + _MARGIN), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN - 6), f"{Path(fidelity.target).name}", font=font, fill=_TEXT)
    said = f"relative error (RMS) of the {len(layers)} worst of {len(fidelity.layers)} weights"
    draw.text((_MARGIN, _MARGIN + 24), said, font=small, fill=_FAINT)
    left = _MARGIN + max(draw.textlength(_label(layer), font=small) for layer in layers) + _GAP
    room = _WIDTH - left - _MARGIN - 70
    largest = max(layer.relative_rms for layer in layers)
    for index, layer in enumerate(layers):
        y = top + index * _ROW
        draw.text((_MARGIN, y), _label(layer), font=small, fill=_TEXT)
        end = left + max(1.0, room * layer.relative_rms / largest)
        draw.rectangle((left, y + 2, end, y + 2 + _BAR), fill=_ACCENT)
        draw.text((end + 8, y), f"{layer.relative_rms:.2e}", font=small, fill=_FAINT)
    return picture


def _label(layer: LayerError) -> str:
    short = layer.name.removeprefix("transformer_").removesuffix(".weight")
    return f"{short}  {layer.kind}"


def _finite(value: Any) -> Any:
    """Replace infinity, which JSON lacks, by null: the PSNR of an exact match."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _db(value: float) -> str:
    return "infinite (equal)" if math.isinf(value) else f"{value:.1f} dB"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"
