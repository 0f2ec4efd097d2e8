"""Tables on a terminal and elsewhere."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Collection, Sequence

from orchestrator.system.terminal import open_console, say, shortened, visible
from orchestrator.system.text import PLAIN_GAP, TABLE_GAP, format_table, rich_table

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
    console = open_console(err)
    terminal, gap = (sys.stderr if err else sys.stdout).isatty(), TABLE_GAP
    if not terminal:
        console.width, shorten, gap = _PIPE_WIDTH, (), PLAIN_GAP
    widths = _widths(header, rows, shorten, console.width, gap)
    needed = sum(widths) + gap * (len(widths) - 1)
    if needed > console.width and not shorten:
        say(paragraphs(header, rows, console.width), err=err)
        return
    console.width = max(needed, console.width)
    if shorten:
        rows = [list(map(shortened, row, widths)) for row in rows]
    if terminal:
        console.print(rich_table(header, rows, widths, one_line=bool(shorten)))
    else:
        say(format_table(header, rows, widths), err=err)


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
