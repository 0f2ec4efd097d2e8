"""The command line's entry point: signals first, and only then what takes time to import."""

from __future__ import annotations

import sys

try:
    import contextlib
    import gc
    import os
    from typing import NoReturn

    from orchestrator.system.stop_signals import STOP
except KeyboardInterrupt:  # `STOP` answers the later ones
    sys.exit(130)


def main(arguments: list[str] | None = None) -> None:
    """Carry out a command line (default: this program's own) and exit."""
    STOP.take_over()
    _require_own_packages()
    gc.set_threshold(50_000)  # imports make objects that stay: looking at them again takes 15 ms
    try:
        from orchestrator.cli.commands import run_command

        run_command(arguments)
    except SystemExit as end:
        if STOP.count:
            _leave(end)
        raise
    finally:
        STOP.let_go()
        gc.freeze()  # the interpreter's last look at each of them takes 40 ms


def _leave(end: SystemExit) -> NoReturn:
    """End with this exit code. Python itself would end by SIGINT, where the signal came while it
    carried out generated code, as that of a dataclass is."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(end.code if isinstance(end.code, int) else STOP.exit_code)


def _require_own_packages() -> None:
    """End with exit code 2 where `stages` is somebody else's: both packages have common names."""
    import stages  # not above: `orchestrator.cli.stages` takes that name in this package

    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    found = os.path.realpath(stages.__file__ or next(iter(stages.__path__)))
    beside = os.path.dirname(os.path.dirname(found)) == ours
    if beside and getattr(stages, "PROJECT", "") == "kiss3d-orchestrate":
        return
    from orchestrator.system.terminal import say

    say(
        f"error: {found} is found as this program's package stages, and is another one\n"
        "  -> install this program in an environment of its own (pipx and uv tool install do), and "
        "look at PYTHONPATH",
        err=True,
    )
    sys.exit(2)
