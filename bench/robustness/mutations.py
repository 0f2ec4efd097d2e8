"""Damage done to files, documents and texts, all of it drawn from one `random.Random`."""

from __future__ import annotations

import contextlib
import copy
import random
import re
import struct
import zlib
from typing import Any

OUTSIDE = "@OUTSIDE@"
"""Stands for the path of a file that is nobody's business; filled in by who writes the file."""
NASTY_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2**31, 2**63, -(2**63), 2**64 - 1, 10**40, 0.0, -0.0, 1e-320, 1e308, 0.5, True,
)  # fmt: skip
NASTY_TEXTS = (
    "", " ", ".", "..", "../../outside/kept.txt", OUTSIDE, "a/b", "a\\b", "C:", "NUL", "\0", "a\0b",
    "\x1b[2J\x1b]0;title\x07", "\u202egnp.exe", "\u2028", "\ufeff", "\ud800", "é" * 300, "😀",
    "x" * 70_000, "~", "$HOME", "`id`", "%s%n", "{0}", "null", "true", "1e999", "nan", "-inf",
    "0x10", "1_000", "!!python/object/apply:os.system [id]", "&a [*a]", "--help", "-", "=", "a=b",
    "\n", "\r\n", "\t", "*", "?", "[", "a,b", "run.json", "result", "input", "2026-13-45",
    "blake2b:" + "0" * 32,
)  # fmt: skip
NASTY_BYTES = (
    b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", b"\n", b'"', b"{", b"[" * 3000, b"null",
    b"9" * 5000, b"1e999", b"NaN", b"-Infinity", b"\\ud800", b"\\u0000",
)  # fmt: skip
JPEG_MARKERS = b"\xc0\xc2\xc4\xda\xdb\xdd\xe1\xe2\xfe\xd9"


def value(rng: random.Random, deep: int = 2) -> Any:
    """Some plain value that probably does not belong where it is put."""
    kind = rng.randrange(6 if deep else 4)
    if kind == 0:
        return rng.choice(NASTY_NUMBERS)
    if kind == 1:
        return rng.choice(NASTY_TEXTS)
    if kind == 2:
        return rng.choice((None, True, False, [], {}))
    if kind == 3:
        return rng.randrange(-10, 10_000)
    if kind == 4:
        return [value(rng, deep - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(NASTY_TEXTS): value(rng, deep - 1) for _ in range(rng.randrange(4))}


def document(rng: random.Random, data: Any) -> Any:
    """A copy of a document of lists and mappings with one to four things in it changed."""
    changed = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(changed))
        if not places:
            return value(rng)
        holder, key = rng.choice(places)
        act = rng.randrange(6)
        if act == 0:
            del holder[key]
        elif act == 1:
            other, name = rng.choice(places)
            holder[key] = copy.deepcopy(other[name])
        elif act == 2 and isinstance(holder, dict):
            holder[rng.choice(NASTY_TEXTS)] = holder.pop(key)
        elif act == 3:
            nested: Any = value(rng)
            for _ in range(rng.choice((1, 3, 60))):
                nested = [nested] if rng.random() < 0.5 else {"a": nested}
            holder[key] = nested
        else:
            holder[key] = value(rng)
    return changed


def _places(data: Any) -> Any:
    """(holder, key) of everything in a document."""
    level = [data]
    while level:
        holder = level.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                level.append(holder[key])


def content(rng: random.Random, data: bytes, others: tuple[bytes, ...] = ()) -> bytes:
    """A file with one to eight pieces of damage."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(damaged) + 1)
        if rng.random() < 0.5:  # what is read first decides most
            at = min(at, rng.randrange(200))
        length = rng.choice((1, 2, 4, 16, 200))
        act = rng.randrange(9)
        if act == 0 and damaged:
            damaged[min(at, len(damaged) - 1)] ^= 1 << rng.randrange(8)
        elif act == 1:
            damaged[at : at + length] = rng.randbytes(length)
        elif act == 2:
            del damaged[at : at + length]
        elif act == 3:
            del damaged[at:]
        elif act == 4:
            damaged[at:at] = damaged[at : at + length] * rng.choice((1, 2, 50))
        elif act == 5:
            number = rng.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
            layout = rng.choice(("<I", ">I", "<H", ">H", "<Q"))
            size = struct.calcsize(layout)
            damaged[at : at + size] = struct.pack(layout, number & ((1 << (8 * size)) - 1))
        elif act == 6:
            damaged[at:at] = rng.choice(NASTY_BYTES)
        elif act == 7 and others:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            damaged[at : at + length * 8] = other[begin : begin + length * 8]
        else:
            damaged += rng.randbytes(length)
    return bytes(damaged)


def picture(rng: random.Random, data: bytes, others: tuple[bytes, ...]) -> bytes:
    """Damage, and for some PNGs right checksums over it, or a marker of JPEG in a JPEG."""
    if data.startswith(b"\x89PNG") and rng.random() < 0.6:
        return _png(rng, data)
    if data.startswith(b"\xff\xd8") and rng.random() < 0.4:
        damaged = bytearray(data)
        marks = [found.start() for found in re.finditer(rb"\xff[\xc0-\xfe]", data)]
        at = rng.choice(marks)
        damaged[at + 1 : at + 1 + rng.randrange(1, 9)] = bytes(
            [rng.choice(JPEG_MARKERS)]
        ) + rng.randbytes(rng.randrange(8))
        return bytes(damaged)
    return content(rng, data, others)


def _png(rng: random.Random, data: bytes) -> bytes:
    """A PNG whose chunks are damaged, doubled, dropped or exchanged, with checksums that are right:
    a decoder that checks them looks further."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    for _ in range(rng.choice((1, 2, 3))):
        index = rng.randrange(len(chunks))
        name, body = chunks[index]
        act = rng.randrange(5)
        if act == 0 and len(chunks) > 1:
            del chunks[index]
        elif act == 1:
            chunks.insert(rng.randrange(len(chunks)), (name, body))
        elif act == 2:
            chunks.insert(
                index,
                (
                    rng.choice((b"tRNS", b"iCCP", b"PLTE", b"eXIf", b"acTL", b"IDAT")),
                    rng.randbytes(rng.randrange(40)),
                ),
            )
        elif act == 3 and name == b"IDAT":
            with contextlib.suppress(zlib.error):  # damaged already
                raw = zlib.decompressobj().decompress(body, 1 << 22)
                chunks[index] = (name, zlib.compress(content(rng, raw)))
        else:
            chunks[index] = (name, content(rng, body))
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def text(rng: random.Random, source: str) -> str:
    """A text file with lines and words changed."""
    lines = source.split("\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(lines))
        act = rng.randrange(7)
        if act == 0 and len(lines) > 1:
            del lines[at]
        elif act == 1:
            lines.insert(at, rng.choice(lines))
        elif act == 2:
            lines[at] = " " * rng.randrange(9) + lines[at].strip()
        elif act == 3:
            words = re.split(r"(\W+)", lines[at])
            words[rng.randrange(len(words))] = rng.choice(
                (*NASTY_TEXTS, str(rng.choice(NASTY_NUMBERS)))
            )
            lines[at] = "".join(words)
        elif act == 4:
            lines[at] += rng.choice(
                (":", " {", " [", " &a", " *a", " !!binary x", " #", "\t", ": |", "'", '"')
            )
        elif act == 5:
            lines.insert(at, f"{rng.choice(NASTY_TEXTS)}: {rng.choice(NASTY_TEXTS)}")
        else:
            lines[at] = rng.choice(NASTY_TEXTS)
    return "\n".join(lines)
