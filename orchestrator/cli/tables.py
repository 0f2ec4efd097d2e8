"""Tables on a terminal and elsewhere."""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Collection, Sequence

from orchestrator.system.terminal import open_console, say, shortened, visible

_GAP = 1
"""Spaces between two columns of rich's table as it is set up here."""
_PIPE_WIDTH = 119
"""Columns of a table that no terminal shows: what an editor or a forum shows without wrapping."""
_LEAST = 12
"""Characters that a shortened cell keeps: with less of it no name is recognised."""

Row = Sequence[str]


def print_table(
    header: Row, rows: Sequence[Row], err: bool = False, shorten: Collection[int] = ()
) -> None:
    """A coloured table on a terminal, a plain aligned one elsewhere.

    shorten: columns that are cut in the middle where the terminal is too narrow, so that each row
    is one line (if a few letters of each do not fit either, one that the terminal itself wraps).
    Without them what is too wide wraps between words in its column, and where that is not enough
    each row becomes a paragraph. So it does elsewhere than on a terminal, where no cell is cut.
    """

    rows = [[visible(cell, one_line=True) for cell in row] for row in rows]
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        say(_plain(header, rows), err=err)
        return
    from rich.table import Table
    from rich.text import Text

    console = open_console(err)
    widths = _widths(header, rows, shorten, console.width, _GAP)
    needed = sum(widths) + _GAP * (len(widths) - 1)
    if needed > console.width and not shorten:
        say(paragraphs(header, rows, console.width), err=err)
        return
    console.width = max(needed, console.width)
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for title, width in zip(header, widths, strict=True):
        table.add_column(title, width=width, no_wrap=bool(shorten))
    for row in rows:
        cells = map(shortened, row, widths) if shorten else row
        table.add_row(*map(Text, cells))
    console.print(table)


def _plain(header: Row, rows: Sequence[Row]) -> str:
    """A table for files and pipes, of lines below `_PIPE_WIDTH` columns unless a word is longer."""
    from orchestrator.system.text import format_table

    widths = _widths(header, rows, (), _PIPE_WIDTH, 2)
    if sum(widths) + 2 * (len(widths) - 1) > _PIPE_WIDTH:
        return paragraphs(header, rows, _PIPE_WIDTH)
    lines: list[Row] = []
    for row in rows:
        cells = [
            textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False) or [""]
            for cell, width in zip(row, widths, strict=True)
        ]
        lines += itertools.zip_longest(*cells, fillvalue="")
    return format_table(header, lines)


def _widths(
    header: Row, rows: Sequence[Row], shorten: Collection[int], width: int, gap: int
) -> list[int]:
    """How wide each column is to be: the widest gives first, none more than it can."""
    from rich.cells import cell_len

    natural, least = [], []
    for index, (title, *cells) in enumerate(zip(header, *rows, strict=True)):
        natural.append(max(map(cell_len, (title, *cells))))
        if shorten:
            least.append(min(_LEAST, natural[-1]) if index in shorten else natural[-1])
        elif index == 0:  # a name that is cut or wrapped is of no use to the next command
            least.append(natural[-1])
        else:
            words = (word for cell in cells for word in cell.split())
            least.append(max(map(cell_len, (title, *words))))
    widths = natural
    for _ in range(sum(widths) + gap * (len(widths) - 1) - width):
        ready = [index for index, least_width in enumerate(least) if widths[index] > least_width]
        if not ready:
            break
        widths[max(ready, key=lambda index: widths[index])] -= 1
    return widths


def paragraphs(header: Row, rows: Sequence[Row], width: int) -> str:
    """Each row as its first cell and, below it, the others that say anything, with their titles."""
    texts = []
    for first, *others in rows:
        told = [
            f"{title}: {cell}"
            for title, cell in zip(header[1:], others, strict=True)
            if cell not in ("", "-")
        ]
        below = textwrap.fill(
            "; ".join(told),
            max(width, 20),
            initial_indent="  ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        texts.append(f"{first}\n{below}" if told else first)
    return "\n".join(texts)
