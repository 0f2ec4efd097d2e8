"""The command line's commands, and how it ends. Command modules import lightly, so that --help
answers at once."""

from __future__ import annotations

import io
import os
import sys

import click

from orchestrator import __version__
from orchestrator.errors import KissError
from orchestrator.signals import STOP

_COMMANDS = {
    "run": ("orchestrator.cli.run", "run"),
    "plan": ("orchestrator.cli.run", "plan"),
    "resume": ("orchestrator.cli.run", "resume"),
    "batch": ("orchestrator.cli.batch", "batch"),
    "stage": ("orchestrator.cli.stage", "stage"),
    "stages": ("orchestrator.cli.stages", "stages"),
    "runs": ("orchestrator.cli.runs", "runs"),
    "evaluate": ("orchestrator.cli.evaluate", "evaluate"),
    "config": ("orchestrator.cli.config", "config"),
    "models": ("orchestrator.cli.models", "models"),
    "doctor": ("orchestrator.cli.doctor", "doctor"),
    "clean": ("orchestrator.cli.clean", "clean"),
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from orchestrator.errors import nearest

        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            near = nearest(name, _COMMANDS)
            ctx.fail(f'no such command "{name}"' + (f'; did you mean "{near}"?' if near else ""))
        return super().resolve_command(ctx, args)


@click.group(
    cls=_LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "color": False if os.environ.get("NO_COLOR") else None,
    },
)
@click.version_option(__version__, prog_name="kiss3d-orchestrate")
def cli() -> None:
    """Turn a picture into a textured 3D mesh with Kiss3DGen, one process a stage.

    \b
    kiss3d-orchestrate run img.png       one picture
    kiss3d-orchestrate batch pictures/   a whole directory
    kiss3d-orchestrate resume RUN_DIR    go on after a crash
    kiss3d-orchestrate models list       the weights: what there is, what is here
    kiss3d-orchestrate doctor            what works on this machine

    Exit codes: 0 done, 1 a run failed, 2 the request cannot be done as given, 130 interrupted
    (129 by SIGHUP, 143 by SIGTERM).
    """


def run_command(arguments: list[str] | None) -> None:
    """Carry out a command line and exit: every expected error is a message and its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        STOP.interrupt()
        code = cli.main(arguments, prog_name="kiss3d-orchestrate", standalone_mode=False)
    except KissError as error:
        _complain(error.message, error.hint)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if "--json" in (sys.argv[1:] if arguments is None else arguments):
            from orchestrator.cli.common import print_failure

            print_failure(error.format_message(), "", error.exit_code)
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        _complain("interrupted", _hint_behind(error))
        sys.exit(STOP.exit_code)
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        _drop_stdout()
        sys.exit(STOP.exit_code if STOP.count else 1)
    except OSError as error:
        if STOP.count:  # the terminal was closed: SIGHUP came, and nothing can be written
            _drop_stdout()
            sys.exit(STOP.exit_code)
        if error.filename is not None:
            raise
        # Without a file name it was a write to an open stream: stdout goes to a full disk.
        _drop_stdout()
        _complain(f"cannot write the output: {error.strerror or error}", "")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _hint_behind(error: BaseException | None) -> str:
    """The way on that a stopped run was about to name when one more Ctrl-C came."""
    while error is not None:
        if isinstance(error, KissError):
            return error.hint
        error = error.__cause__ or error.__context__
    return ""


def _complain(message: str, hint: str) -> None:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"  -> {hint}", err=True)


def _drop_stdout() -> None:
    """What stdout still holds cannot be written; at exit Python would try again and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
