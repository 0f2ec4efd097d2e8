"""`config show`, `config profiles` and `config diff`: what is set, and by which layer."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli import answers, parameters, tables
from orchestrator.system.terminal import say, say_json


@click.group()
def config() -> None:
    """Look at profiles and the effective configuration."""


_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@config.command()
@parameters.settings_options
@_json
@click.option("--all/--set-only", "everything", default=True, help="Defaults too, or not.")
def show(as_json: bool, everything: bool, **request: Any) -> None:
    """The effective configuration, and which layer set what."""
    from orchestrator.pipeline.layers import DEFAULT
    from orchestrator.planning.request import prepare

    with answers.errors_as_json(as_json):
        prepared = prepare(parameters.options_from(**request))
    rows = [row for row in prepared.settings.rows() if everything or row[2] != DEFAULT]
    if as_json:
        say_json([dict(zip(("path", "value", "source"), row, strict=True)) for row in rows])
        return
    from orchestrator.pipeline.value_text import value_text

    say(f"profile {prepared.settings.name} ({prepared.reason})", err=True)
    # Values last: one of them is a sentence, which would push the next column out of sight.
    tables.print_table(
        ("path", "from", "value"),
        [(path, source, value_text(value)) for path, value, source in rows],
    )


@config.command()
@_json
def profiles(as_json: bool) -> None:
    """The shipped profiles."""
    from orchestrator.pipeline.layers import load, profile_names
    from orchestrator.planning.vram_table import least_card
    from orchestrator.weights import needs as weights_of

    with answers.errors_as_json(as_json):
        shipped = {name: load(name).profile for name in profile_names()}
        cards = {name: least_card(profile) for name, profile in shipped.items()}
        known = weights_of.catalogue()
        sizes = {n: weights_of.total_gb(weights_of.profile_needs(n), known) for n in shipped}
    if as_json:
        say_json(
            [
                {
                    "name": name,
                    "description": profile.description,
                    "card_gib": cards[name],
                    "weights_gb": round(sizes[name], 2),
                }
                for name, profile in shipped.items()
            ]
        )
        return
    rows = [
        (
            name,
            f"{cards[name]} GiB and more" if cards[name] else "none",
            f"{sizes[name]:.0f} GB" if sizes[name] else "none",
            profile.description,
        )
        for name, profile in shipped.items()
    ]
    tables.print_table(("profile", "card", "weights", "what it is for"), rows)


@config.command()
@click.argument("first")
@click.argument("second")
@_json
def diff(first: str, second: str, as_json: bool) -> None:
    """Values in which two profiles differ."""
    with answers.errors_as_json(as_json):
        sides = [_values(first), _values(second)]
    rows = []
    for path in dict.fromkeys([*sides[0], *sides[1]]):
        before, after = sides[0].get(path), sides[1].get(path)
        if (before and before[0]) != (after and after[0]) or (before is None) != (after is None):
            rows.append((path, before, after))
    if as_json:
        say_json(
            [
                {"path": path, "first": _side_row(first, one), "second": _side_row(second, other)}
                for path, one, other in rows
            ]
        )
        return
    if not rows:
        say(f"{first} and {second} set the same", err=True)
        return
    tables.print_table(
        ("path", first, second), [(path, _side(one), _side(other)) for path, one, other in rows]
    )


def _values(profile: str) -> dict[str, tuple[Any, str]]:
    """Dotted path -> (value, source); what a profile says of itself is no setting."""
    from orchestrator.pipeline.layers import load

    rows = load(profile).rows()
    return {path: (value, source) for path, value, source in rows if path != "description"}


def _side_row(profile: str, entry: tuple[Any, str] | None) -> dict[str, Any]:
    """Without a value: the profile has no such path."""
    if entry is None:
        return {"profile": profile}
    return {"profile": profile, "value": entry[0], "source": entry[1]}


def _side(entry: tuple[Any, str] | None) -> str:
    """A value, and where it comes from unless that is the profile which heads the column."""
    if entry is None:
        return "-"
    from orchestrator.pipeline.layers import DEFAULT
    from orchestrator.pipeline.value_text import value_text

    return value_text(entry[0]) + (" (default)" if entry[1] == DEFAULT else "")
