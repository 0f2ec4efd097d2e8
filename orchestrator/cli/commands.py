"""The command line's commands, and how it ends. Command modules import lightly, so that --help
answers at once."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from orchestrator import __version__
from orchestrator.errors import KissError, UsageError, nearest
from orchestrator.system.faults import as_told
from orchestrator.system.stop_signals import STOP
from orchestrator.system.terminal import ReaderGoneError, drop_stdout, prepare_streams, say

PROGRAM = "kiss3d-orchestrate"

_COMMANDS = {
    "run": ("orchestrator.cli.run", "run"),
    "plan": ("orchestrator.cli.run", "plan"),
    "resume": ("orchestrator.cli.run", "resume"),
    "batch": ("orchestrator.cli.batch", "batch"),
    "stage": ("orchestrator.cli.stage", "stage"),
    "stages": ("orchestrator.cli.stages", "stages"),
    "runs": ("orchestrator.cli.runs", "runs"),
    "open": ("orchestrator.cli.pages", "open_page"),
    "compare": ("orchestrator.cli.pages", "compare"),
    "export": ("orchestrator.cli.export", "export"),
    "web": ("orchestrator.cli.web", "web"),
    "evaluate": ("orchestrator.cli.evaluate", "evaluate"),
    "config": ("orchestrator.cli.config", "config"),
    "models": ("orchestrator.cli.models", "models"),
    "doctor": ("orchestrator.cli.doctor", "doctor"),
    "clean": ("orchestrator.cli.clean", "clean"),
    "completion": ("orchestrator.cli.completion", "completion"),
}


class _LazyGroup(click.Group):
    """Imports a command's module when the command is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        import importlib

        if name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def _meant(self, name: str) -> list[str]:
        """The commands of commands that are called so, else the command whose name is nearest."""
        found = ["batch merge"] if name == "merge" else []
        for group in _COMMANDS:
            command = self.get_command(click.Context(self), group)
            if isinstance(command, click.Group) and name in command.commands:
                found.append(f"{group} {name}")
        return found or list(filter(None, [nearest(name, _COMMANDS)]))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            near = " or ".join(f'"{one}"' for one in self._meant(name))
            ctx.fail(f'no such command "{name}"' + (f"; did you mean {near}?" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(
    cls=_LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "color": False if os.environ.get("NO_COLOR") else None,
    },
)
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Turn a picture into a textured 3D mesh with Kiss3DGen, one process a stage.

    \b
    kiss3d-orchestrate run img.png       one picture; or a mesh, or --text "a red vase"
    kiss3d-orchestrate batch pictures/   a whole directory
    kiss3d-orchestrate resume RUN_DIR    go on after a crash
    kiss3d-orchestrate models list       the weights: what there is, what is here
    kiss3d-orchestrate doctor            what works on this machine

    Exit codes: 0 done, 1 a run failed, 2 the request cannot be done as given, 130 interrupted
    (129 by SIGHUP, 143 by SIGTERM).
    """


def run_command(arguments: list[str] | None) -> NoReturn:
    """Carry out a command line and exit: every expected error is a message and its exit code."""
    prepare_streams()
    try:
        STOP.interrupt()
        code = _carry_out(sys.argv[1:] if arguments is None else arguments)
    except KissError as error:
        _end(error.message, error.hint, error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        hint = _hint_behind(error) or "give the same command again"
        _end("interrupted", hint, STOP.exit_code)
    except ReaderGoneError:
        drop_stdout()
        sys.exit(STOP.exit_code if STOP.count else 1)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 (the last place; Rust's panics are no Exception)
        if STOP.count:  # the terminal was closed, or a library's import was torn by the signal
            drop_stdout()
            sys.exit(STOP.exit_code)
        told = as_told(error)
        _end(told.message, told.hint, told.exit_code)
    sys.exit(code)


def _carry_out(arguments: list[str]) -> int:
    """Run the command, and return the exit code. Raises whatever ends it, but no error of click."""
    try:
        code = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        wrong = _as_ours(error, arguments)
        if "--json" in arguments:
            from orchestrator.cli.answers import print_failure

            print_failure(wrong.message, wrong.hint, wrong.exit_code)
        raise wrong from error
    return code if isinstance(code, int) else 0


def _as_ours(error: click.ClickException, arguments: list[str]) -> UsageError:
    """What click found wrong with the command line, with what to do."""
    context = getattr(error, "ctx", None)
    # Of an option without its value click does not say of which command it is.
    asked = [PROGRAM, *(word for word in arguments[:1] if word in _COMMANDS)]
    hint = f"{context.command_path if context else ' '.join(asked)} --help"
    if isinstance(error, click.NoSuchOption) and error.option_name.lstrip("-") in _COMMANDS:
        command = error.option_name.lstrip("-")
        return UsageError(
            f"No such option: {error.option_name}", f"{PROGRAM} {command} is a command of its own"
        )
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        hint = f"did you mean {' or '.join(sorted(error.possibilities))}? or see {hint}"
        return UsageError(f"No such option: {error.option_name}", hint)
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option):
        return UsageError(
            error.format_message().rstrip("."),
            f"add {error.param.opts[0]} {error.param.metavar or 'VALUE'}; or see {hint}",
        )
    if isinstance(error, click.MissingParameter) and context is not None:
        hint = " ".join(context.get_usage().split()).removeprefix("Usage: ")
    return UsageError(error.format_message().rstrip("."), hint)


def _hint_behind(error: BaseException | None) -> str:
    """The way on that a stopped run was about to name when one more Ctrl-C came."""
    while error is not None:
        if isinstance(error, KissError):
            return error.hint
        error = error.__cause__ or error.__context__
    return ""


def _end(message: str, hint: str, exit_code: int) -> NoReturn:
    say(f"error: {message}", err=True)
    if hint:
        say(f"  -> {hint}", err=True)
    sys.exit(exit_code)
