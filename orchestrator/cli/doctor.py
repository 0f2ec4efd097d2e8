"""`doctor`: what works on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import common
from orchestrator.terminal import say

if TYPE_CHECKING:
    from orchestrator.doctor import Check

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_NAME_WIDTH = len("weights: multiview_only")
"""Rows are shown one at a time, as they come: the longest name is not known by then."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def doctor(as_json: bool) -> None:
    """Check what works on this machine.

    Python, torch, CUDA, GPUs, pytorch3d, memory, disk and weights. Exit code 1 when something
    needed is broken.
    """
    from dataclasses import asdict

    from orchestrator.doctor import report

    rows: list[Check] = []
    good = report(Path("outputs"), rows.append if as_json else _show)
    if as_json:
        common.print_json([asdict(row) for row in rows])
    if not good:
        raise SystemExit(1)


def _show(check: Check) -> None:
    verdict = click.style(f"{check.verdict:4}", fg=_COLOURS[check.verdict])
    say(f"{verdict}  {check.name:<{_NAME_WIDTH}}  {check.found}")
    if check.remedy:
        say(f"      {'':<{_NAME_WIDTH}}  -> {check.remedy}")
