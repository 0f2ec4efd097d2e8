"""Tables on a terminal and elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

import click

_GAP = 1
"""Spaces between two columns of rich's table as it is set up here."""
_LEAST = 12
"""Characters that a shortened cell keeps: with less of it no name is recognised."""


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    err: bool = False,
    shorten: Collection[int] = (),
) -> None:
    """A coloured table on a terminal, a plain aligned one elsewhere.

    shorten: columns that are cut in the middle where the terminal is too narrow, so that each row
    is one line (if a few letters of each do not fit either, one that the terminal itself wraps).
    Without them what is too wide wraps in its column, those on the right first. Elsewhere than on a
    terminal every cell is whole.
    """
    from orchestrator.report import format_table

    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        click.echo(format_table(header, rows), err=err)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(stderr=err)
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for index, title in enumerate(header):
        # A cut name is of no use to the next command; what is too wide wraps further right.
        table.add_column(title, no_wrap=index == 0 or bool(shorten), overflow="fold")
    fitted = fit(header, rows, shorten, console.width)
    for row in fitted:
        table.add_row(*map(escape, row))
    if shorten:  # rich would cut, or leave out, the columns that still have no room
        console.width = max(console.width, _width(header, fitted))
    console.print(table)


def fit(
    header: Sequence[str], rows: Sequence[Sequence[str]], shorten: Collection[int], width: int
) -> list[list[str]]:
    """The rows, with the cells of some columns shortened so that all fit into `width`.

    The widest of those columns gives first, and none gives more than down to a few letters.
    """
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    for _ in range(_width(header, rows) - width):
        widest = max(shorten, key=lambda index: widths[index], default=0)
        if widest not in shorten or widths[widest] <= _LEAST:
            break
        widths[widest] -= 1
    return [
        [shortened(cell, widths[i]) if i in shorten else cell for i, cell in enumerate(row)]
        for row in rows
    ]


def _width(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    from rich.cells import cell_len

    columns = zip(header, *rows, strict=True)
    return sum(max(map(cell_len, column)) + _GAP for column in columns) - _GAP


def shortened(text: str, width: int) -> str:
    """At most `width` columns of a text: its beginning, "…" and its end."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    head = (width - 1) // 2
    tail = text
    while cell_len(tail) > width - 1 - head:
        tail = tail[1:]
    return f"{set_cell_size(text, head).rstrip()}…{tail}"
