"""Text for people and for names of files: sizes, plain tables, paths, slugs."""

from __future__ import annotations

import io
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

TABLE_GAP, PLAIN_GAP = 1, 2
"""Spaces between two columns of a table, on a terminal and elsewhere."""


def format_size(value: int) -> str:
    if value <= 0:
        return "-"
    return f"{value / 2**30:.2f} GiB" if value >= 1 << 30 else f"{value / 2**20:.0f} MiB"


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int] | None = None
) -> str:
    """A plain aligned table for logs and pipes. Texts wrap where `widths` is given, else not."""
    from orchestrator.system.terminal import open_console

    shown = io.StringIO()
    console = open_console(file=shown)
    console.width = 1 << 16
    console.print(rich_table(header, rows, widths, plain=True))
    return "\n".join(line.rstrip() for line in shown.getvalue().splitlines())


def rich_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int] | None = None,
    one_line: bool = False,
    plain: bool = False,
) -> Table:
    """rich's table of these texts as they are.

    widths: of the columns; what is wider wraps, or is cut with `one_line`. plain: the titles are
    underlined by a line, and nothing is coloured.
    """
    from rich.box import Box
    from rich.table import Table
    from rich.text import Text

    underlined = Box("\n".join(("    ", "    ", " -  ", *["    "] * 5, "")))
    table = Table(
        box=underlined if plain else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, TABLE_GAP, 0, 0),  # the box has one more column between two
        header_style="" if plain else "bold",
    )
    for index, title in enumerate(header):
        width = widths[index] if widths else None
        table.add_column(Text(title), width=width, no_wrap=one_line or not widths)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


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
    and - _ . ; cut so that it fits where names are limited to 255 bytes, with a suffix to spare.
    None begins with a dash, which commands take for an option."""
    cleaned = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", text)).strip("._").lstrip("-._")
    return cleaned[:80].encode()[:180].decode(errors="ignore") or "input"
