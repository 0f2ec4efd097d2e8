"""Every command of the program takes the options that it declares."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
import pytest

from orchestrator.cli.commands import cli


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        yield f"{path}{name}", command


@pytest.mark.parametrize(("name", "command"), [pytest.param(*c, id=c[0]) for c in commands(cli)])
def test_a_command_takes_what_its_options_give(name: str, command: click.Command) -> None:
    assert command.callback is not None
    given = {parameter.name for parameter in command.params if parameter.expose_value}
    taken = inspect.signature(inspect.unwrap(command.callback)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return
    assert given == set(taken) - {"ctx", "context"}
