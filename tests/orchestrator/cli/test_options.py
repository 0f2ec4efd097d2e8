"""Options that several commands share reach each of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
import pytest

from orchestrator.cli.batch import WithMerge
from orchestrator.cli.commands import cli
from orchestrator.cli.merge import merge


def commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command)
        elif command is not None:
            yield command
            if isinstance(command, WithMerge):
                yield merge


@pytest.mark.parametrize("command", list(commands(cli)), ids=lambda command: command.name)
def test_a_command_takes_every_option_that_it_declares(command):
    given = {param.name: None for param in command.params if param.expose_value}
    inspect.signature(command.callback).bind(**given)
