"""Text for people and for names of files: sizes, plain tables, paths, slugs."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def format_size(value: int) -> str:
    if value <= 0:
        return "-"
    return f"{value / 2**30:.2f} GiB" if value >= 1 << 30 else f"{value / 2**20:.0f} MiB"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain aligned table for logs and pipes."""
    widths = [max(_columns(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _columns(text: str) -> int:
    """How wide a text is in a font of fixed width: letters of East Asia take two columns."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def printable(path: Path) -> str:
    """A path as text that any encoding of the record can hold."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def valid_text(value: Any) -> Any:
    """Plain data with all its values in Unicode: a byte of a file's name that is no UTF-8 arrives
    as half a surrogate pair, which not every JSON reader takes. It is spelled out (`\\udce9`)."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {key: valid_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [valid_text(item) for item in value]
    return value


def slug(text: str) -> str:
    """A name that is safe as one path component on every system: letters and digits of any script,
    and - _ . ; cut so that it fits where names are limited to 255 bytes, with a suffix to spare."""
    cleaned = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", text)).strip("._")
    return cleaned[:80].encode()[:180].decode(errors="ignore") or "input"
