"""`completion`: what a shell needs to complete this program's command line."""

from __future__ import annotations

import sys

import click

from orchestrator.system.terminal import say

_WHERE = {
    "bash": ("source <(kiss3d-orchestrate completion bash)", "~/.bashrc"),
    "zsh": ("source <(kiss3d-orchestrate completion zsh)", "~/.zshrc, behind compinit"),
    "fish": ("kiss3d-orchestrate completion fish | source", "~/.config/fish/config.fish"),
}


@click.command()
@click.argument("shell", type=click.Choice(list(_WHERE)))
def completion(shell: str) -> None:
    """Print what completes command lines in SHELL.

    Commands, options and profiles are completed with the Tab key.

    \b
    bash   source <(kiss3d-orchestrate completion bash)          in ~/.bashrc
    zsh    source <(kiss3d-orchestrate completion zsh)           in ~/.zshrc, behind compinit
    fish   kiss3d-orchestrate completion fish | source           in ~/.config/fish/config.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # click has all three
    root = click.get_current_context().find_root()
    name = root.info_name or "kiss3d-orchestrate"
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    # Of the class above bash's own, which starts the machine's bash to look at its version.
    script = ShellComplete.source(found(root.command, {}, name, variable))
    say(script.strip())
    line, file = _WHERE[shell]
    if sys.stdout.isatty():  # else a shell reads it, each time that it starts
        say(f"put this into {file}: {line}", err=True)
