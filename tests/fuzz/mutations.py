"""Changes of a valid file's bytes, by a seeded generator: of bytes, of text, and of structure."""

import copy
import json
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

#: Values that a reader meets only in hostile or broken files.
HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 10**9, -(10**9), 2**31, 2**63, 2**64, 10**60,
    10**90,
    0.0, -0.5, 0.5, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"),
    "", " ", "x", "0", "1e9", "\0", "a\0b", "..", "../../x", "/", "/dev/zero", "x" * 300, "é" * 300,
    "\ud800", "\u202e", "\x1b[31m", "<b>", "{{ 7 * 7 }}", "%s%n", "好" * 100,
    [], [[]], [0], [1] * 1000, {}, {"": {}}, {"file": "x"}, {"a": [1]},
)  # fmt: skip
HOSTILE_TEXTS = (
    b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"NaN", b"1e999", b"9" * 5000, b"-",
    b"\t", b"\r", b"\n\n", b"[" * 3000, b"{" * 3000, b'"', b"'", b"&a *a", b"!!python/none",
    b"<<: 1", b": ", b"- ", b"#", b"\\", b"\xe2\x80\xa8", b"1:2:3", b"2024-01-01", b".inf", b"0x",
    b"*", b"| ", b",",
)  # fmt: skip
_NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40,
            2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip

Mutation = Callable[[bytes, Random], bytes]


def of_bytes(content: bytes, random: Random) -> bytes:
    """A few bytes or numbers changed, ranges left out, doubled or moved, or the end cut off."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        if not changed:
            return bytes(changed)
        # Headers are at the beginning: half of all changes are made there.
        reach = len(changed) if random.random() < 0.5 else min(len(changed), 256)
        place = random.randrange(reach)
        _change(changed, place, random)
    return bytes(changed)


def _change(changed: bytearray, place: int, random: Random) -> None:
    length = random.choice((1, 2, 4, 8, 64, 1024))
    match random.randrange(8):
        case 0:
            changed[place] ^= 1 << random.randrange(8)
        case 1:
            changed[place] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        case 2:
            del changed[place : place + length]
        case 3:
            changed[place:place] = random.randbytes(length)
        case 4:
            changed[place:place] = changed[place : place + length]
        case 5:
            del changed[place:]
        case 6:
            form = random.choice("BHIQ")
            packed = struct.pack(
                random.choice("<>") + form,
                random.choice(_NUMBERS) % (1 << 8 * struct.calcsize(form)),
            )
            changed[place : place + len(packed)] = packed
        case _:
            other = random.randrange(len(changed))
            part = changed[other : other + length]
            changed[place : place + len(part)] = part


def of_text(content: bytes, random: Random) -> bytes:
    """Odd words put in, lines left out, doubled or exchanged, another encoding, changed bytes."""
    draw = random.random()
    if draw < 0.2:
        return of_bytes(content, random)
    if draw < 0.25:
        text = content.decode("utf-8", "replace")
        return text.encode(random.choice(("utf-16", "utf-16-be", "utf-8-sig", "utf-7", "utf-32")))
    lines = content.split(b"\n")
    for _ in range(random.choice((1, 1, 2, 4))):
        number = random.randrange(len(lines))
        line = lines[number]
        match random.randrange(5):
            case 0:
                del lines[number]
                lines = lines or [b""]
            case 1:
                lines.insert(number, line)
            case 2:
                lines[number] = random.choice(HOSTILE_TEXTS)
            case _:
                place = random.randrange(len(line) + 1)
                end = place + random.choice((0, 1, 4, len(line)))
                lines[number] = line[:place] + random.choice(HOSTILE_TEXTS) + line[end:]
    return b"\n".join(lines)


def of_json(content: bytes, random: Random) -> bytes:
    """Values exchanged for those of other types and sizes, keys renamed or doubled; or its text."""
    if random.random() < 0.2:
        return of_text(content, random)
    value = json.loads(content)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        value = _with_change(value, random)
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    if random.random() < 0.05:
        text = text.replace("{", '{"format": 7, "in_channels": 9, ', 1)
    return text.encode("utf-8", "surrogatepass")


def _with_change(value: Any, random: Random) -> Any:
    places = [place for place in _places(value) if place] or [()]
    place = random.choice(places)
    if not place:
        return _hostile(random)
    holder = value
    for step in place[:-1]:
        holder = holder[step]
    key = place[-1]
    match random.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[random.choice(("", "x", "\0", "y" * 300))] = holder.pop(key)
        case 2:
            deep: Any = holder[key]
            for _ in range(random.choice((1, 3, 70, 400))):
                deep = [deep] if random.random() < 0.5 else {"a": deep}
            holder[key] = deep
        case 3 if isinstance(holder[key], list):
            holder[key] = holder[key] * random.choice((0, 2, 50))
        case 4 if type(holder[key]) in (int, float):
            holder[key] = holder[key] * random.choice((-1, 0, 2, 16, 1000, 10**9, 10**40))
        case _:
            holder[key] = _hostile(random)
    return value


def _hostile(random: Random) -> Any:
    return copy.deepcopy(random.choice(HOSTILE_VALUES))


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [place]
    if isinstance(value, dict | list) and len(place) < 12:
        items = list(value.items() if isinstance(value, dict) else enumerate(value))[:200]
        for key, below in items:
            found += _places(below, (*place, key))
    return found


def of_safetensors(content: bytes, random: Random) -> bytes:
    """The header as JSON, its length, or the bytes."""
    draw = random.random()
    if draw < 0.3:
        return of_bytes(content, random)
    (size,) = struct.unpack("<Q", content[:8])
    header, body = content[8 : 8 + size], content[8 + size :]
    if draw < 0.9:
        header = of_json(header, random)
    size = len(header) if random.random() < 0.9 else random.choice(_NUMBERS)
    if random.random() < 0.2:
        body = of_bytes(body, random)
    return struct.pack("<Q", size) + header + body


def of_png(content: bytes, random: Random) -> bytes:
    """What a chunk holds, its check sum made right again; chunks left out, doubled or moved."""
    if random.random() < 0.2:
        return of_bytes(content, random)
    chunks, place = [], 8
    while place + 8 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        kind = content[place + 4 : place + 8]
        chunks.append((kind, content[place + 8 : place + 8 + size]))
        place += 12 + size
    number = random.randrange(len(chunks))
    kind, body = chunks[number]
    match random.randrange(6):
        case 0:
            del chunks[number]
        case 1:
            chunks.insert(random.randrange(len(chunks)), (kind, body))
        case 2:
            chunks[number] = (random.choice((b"tEXt", b"zTXt", b"iTXt", b"PLTE", b"fdAT")), body)
        case 3 if kind in (b"IDAT", b"fdAT"):
            chunks[number] = (kind, zlib.compress(random.randbytes(64)))
        case _:
            chunks[number] = (kind, of_bytes(body, random))
    packed = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return content[:8] + packed
