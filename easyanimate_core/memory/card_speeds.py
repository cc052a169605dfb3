"""How fast a card computes and is reached: measured once per machine, or published figures."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from ..errors import InputError
from ..files import atomic_file, cache_folder, read_json
from .devices import card_of

logger = logging.getLogger(__name__)

#: Share of the published figures that long kernels reach.
_REACHED = 0.6
#: Sizes of the measurement: bytes that are copied, rows and width of a product.
_COPIED, _ROWS, _WIDTH = 2**28, 8192, 4096
_REPEATS = 5
#: A copy within main memory where nothing was measured: two channels of DDR4.
_PACKING = 10e9


@dataclass(frozen=True)
class Speeds:
    """Of a card: FLOP/s of products in half precision, and bytes per second.

    Args:
        flops: Products of matrices.
        memory: What element-wise kernels read and write.
        link: From page-locked main memory to the card.
        packing: Within main memory, by which weights are packed.
        source: Where the figures are from, as the end of a sentence.
    """

    flops: float
    memory: float
    link: float
    packing: float
    source: str


def _published(teraflops: float, memory: float, link: float) -> tuple[float, float, float]:
    return teraflops * 1e12, memory * 1e9, link * 1e9


#: NVIDIA's data sheets: dense TFLOP/s in bfloat16 with float32 sums, GB/s of the card's memory and
#: of its PCI Express link.
_CARDS = {
    "RTX 3060": _published(25, 360, 31.5),
    "RTX 3090": _published(71, 936, 31.5),
    "RTX 4060 Ti": _published(44, 288, 15.8),
    "RTX 4080": _published(97, 717, 31.5),
    "RTX 4090": _published(165, 1008, 31.5),
    "RTX 5090": _published(209, 1792, 63),
    "L40S": _published(362, 864, 31.5),
    "A100": _published(312, 2039, 31.5),
    "H100": _published(989, 3350, 63),
    "H200": _published(989, 4800, 63),
}


def published_speeds(name: str) -> Speeds:
    """The speeds of a card that is not here, by its name; `InputError` if it is unknown."""
    known = {_short(card): card for card in _CARDS}
    found = known.get(_short(name).removeprefix("nvidia").removeprefix("geforce"))
    if found is None:
        raise InputError(f"The GPU {name!r} is unknown. Known are {', '.join(_CARDS)}.")
    flops, memory, link = (_REACHED * value for value in _CARDS[found])
    source = f"published for the {found} ({_REACHED:.0%} of its data sheet; nothing was measured)"
    return Speeds(flops, memory, link, _PACKING, source)


def _short(name: str) -> str:
    return name.casefold().replace(" ", "")


def speeds_of(device: torch.device) -> Speeds | None:
    """The speeds of this machine's card, measured at the first call; None for other devices.

    Also None if the card has no memory left to measure with.
    """
    if device.type != "cuda":
        return None
    card = card_of(device)
    key = "|".join((platform.node(), card.device, card.name, torch.__version__))
    file = cache_folder("card_speeds.json")
    known = _read(file)
    if key not in known:
        try:
            known[key] = _measured(device, f"measured on this {card.name}")
        except torch.OutOfMemoryError:
            return None
        _write(file, known)
    return known[key]


def _measured(device: torch.device, source: str) -> Speeds:
    """Half a second of copies and products."""
    half = torch.float16 if (card_of(device).capability or 80) < 80 else torch.bfloat16
    left = torch.ones(_ROWS, _WIDTH, dtype=half, device=device)
    right = torch.ones(_WIDTH, _WIDTH, dtype=half, device=device)
    here, packed = (torch.zeros(_COPIED, dtype=torch.uint8) for _ in range(2))
    locked = torch.zeros(_COPIED, dtype=torch.uint8, pin_memory=True)
    there, other = (torch.empty(_COPIED, dtype=torch.uint8, device=device) for _ in range(2))

    def seconds(run: Callable[[], object]) -> float:
        run()
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        for _ in range(_REPEATS):
            run()
        torch.cuda.synchronize(device)
        return (time.perf_counter() - began) / _REPEATS

    with torch.inference_mode():
        return Speeds(
            flops=2 * _ROWS * _WIDTH**2 / seconds(lambda: left @ right),
            memory=2 * _COPIED / seconds(lambda: other.copy_(there)),
            link=_COPIED / seconds(lambda: there.copy_(locked, non_blocking=True)),
            packing=_COPIED / seconds(lambda: packed.copy_(here)),
            source=source,
        )


def _read(file: Path) -> dict[str, Speeds]:
    """What was measured before; nothing if the file is missing or of another kind."""
    names = {field.name for field in fields(Speeds)}
    try:
        value = read_json(file, dict, error=InputError)
        return {
            key: Speeds(**entry)
            for key, entry in value.items()
            if entry.keys() == names and all(entry[n] > 0 for n in names - {"source"})
        }
    except (InputError, AttributeError, TypeError):
        return {}


def _write(file: Path, known: dict[str, Speeds]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as target:
            text = json.dumps({key: asdict(entry) for key, entry in known.items()}, indent=2)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        logger.warning("What was measured of the card is not kept: %s", error)
