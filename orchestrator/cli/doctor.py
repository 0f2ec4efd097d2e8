"""`doctor`: what works on this machine."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import answers
from orchestrator.system.terminal import as_typed, say, say_json

if TYPE_CHECKING:
    from orchestrator.commands.doctor import Check

_COLOURS = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "red"}
_WIDTH = 80
_NAMES = len("weights: multiview_only") + 2
"""Rows are shown one at a time, as they come: the longest name is not known by then."""
_MARKS = 6


@click.command()
@click.option(
    "--profile",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="What the machine is to be fit for: warnings are of what this profile needs.",
)
@click.option("--wait", is_flag=True, help="Wait for libraries that take more than 2 s to load.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def doctor(profile: str, wait: bool, as_json: bool) -> None:
    """Check what works on this machine.

    Python, torch, CUDA, GPUs, pytorch3d, memory, disk and weights. Exit code 1 when something
    needed is broken.
    """
    from dataclasses import asdict

    from orchestrator.commands.doctor import report

    rows: list[Check] = []
    with answers.errors_as_json(as_json):
        good = report(Path("outputs"), rows.append if as_json else _show, profile, wait)
    if as_json:
        say_json([asdict(row) for row in rows])
    if not good:
        raise SystemExit(1)


def _show(check: Check) -> None:
    """The row, and below it what to do, where a command has room to stand in one line."""
    beside = _MARKS + _NAMES
    lines = [check.name]
    for text in _wrapped(check.found, _WIDTH - beside):
        if len(text) > _WIDTH - beside:  # a path: it stands on a line of its own
            lines.append(" " * _MARKS + text)
        elif lines == [check.name]:
            lines = [f"{check.name:<{_NAMES}}{text}"]
        else:
            lines.append(" " * beside + text)
    if check.remedy:
        first, *others = _wrapped(as_typed(check.remedy), _WIDTH - _MARKS - 3)
        lines += _indented([f"-> {first}", *_indented(others, 3)], _MARKS)
    mark = f"{check.verdict:<{_MARKS}}"
    say("\n".join(lines), mark=mark, colour=_COLOURS[check.verdict])


def _wrapped(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return lines or [""]


def _indented(lines: Iterable[str], columns: int) -> list[str]:
    return [" " * columns + line for line in lines]
