"""`config show`, `config profiles` and `config diff`: what is set, and by which layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.cli import common


@click.group()
def config() -> None:
    """Look at profiles and the effective configuration."""


@config.command()
@common.settings_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--all/--set-only", "everything", default=True, help="Defaults too, or not.")
def show(
    profile: str | None,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    caption: str | None,
    fast: bool,
    allow_tf32: bool,
    as_json: bool,
    everything: bool,
) -> None:
    """The effective configuration, and which layer set what."""
    from orchestrator.config import DEFAULT
    from orchestrator.request import prepare

    options = common.options_from(
        profile, config_file, sets, seed, caption=caption, fast=fast, allow_tf32=allow_tf32
    )
    prepared = prepare(options)
    rows = [row for row in prepared.settings.rows() if everything or row[2] != DEFAULT]
    if as_json:
        common.print_json(
            [dict(zip(("path", "value", "source"), row, strict=True)) for row in rows]
        )
        return
    click.echo(f"profile {prepared.settings.name} ({prepared.reason})", err=True)
    common.print_table(
        ("path", "value", "from"), [(path, _text(value), source) for path, value, source in rows]
    )


@config.command()
def profiles() -> None:
    """The shipped profiles."""
    from orchestrator.config import load, profile_names

    rows = [(name, load(name).profile.description) for name in profile_names()]
    common.print_table(("profile", "what it is for"), rows)


@config.command()
@click.argument("first")
@click.argument("second")
def diff(first: str, second: str) -> None:
    """Values in which two profiles differ."""
    from orchestrator.config import load

    sides = []
    for name in (first, second):
        sides.append({path: (value, source) for path, value, source in load(name).rows()})
    rows = []
    sides = [{p: e for p, e in side.items() if p != "description"} for side in sides]
    for path in dict.fromkeys([*sides[0], *sides[1]]):
        before, after = sides[0].get(path), sides[1].get(path)
        if (before and before[0]) != (after and after[0]) or (before is None) != (after is None):
            rows.append((path, _side(before), _side(after)))
    common.print_table(("path", first, second), rows)


def _side(entry: tuple[Any, str] | None) -> str:
    """A value, and where it comes from unless that is the profile which heads the column."""
    if entry is None:
        return "-"
    return _text(entry[0]) + (" (default)" if entry[1] == "default" else "")


def _text(value: Any) -> str:
    from orchestrator.config import Attempt

    if isinstance(value, list) and value and isinstance(value[0], dict) and "device" in value[0]:
        return " -> ".join(str(Attempt.model_validate(rung)) for rung in value)
    return value if isinstance(value, str) and value else repr(value)
