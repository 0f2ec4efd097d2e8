"""Start Python programs of this checkout in its environment, whatever Python started the launcher.

Standard library only, and it parses on Python 3.8 (see _venv.py).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Callable, Sequence

from _lock import say
from _venv import ROOT, SetupError, Venv

if TYPE_CHECKING:
    from typing import NoReturn

OLDEST, NEWEST = (3, 11), (3, 14)
"""The Pythons that pyproject.toml allows, `requires-python`."""


def launcher(body: Callable[[Sequence[str]], int]) -> None:
    """Run a launcher's body under a Python that will do, and exit with what it returns."""
    try:
        _hold_signals(False)
        if not OLDEST <= sys.version_info[:2] <= NEWEST:
            replace_process([*_supported_python(), *sys.argv])
        sys.exit(body(sys.argv[1:]))
    except (SetupError, OSError) as error:
        say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def command(venv: Venv, module: str, arguments: Sequence[str]) -> list[str]:
    """`python -m module`; -P keeps modules out that happen to lie in the current folder."""
    return [venv.python, "-P", "-m", module, *arguments]


def environment(venv: Venv, root: str = ROOT) -> dict[str, str]:
    """The user's, in which this checkout's packages come first.

    Where they want no bytecode beside sources, as containers often do, it is kept in the virtual
    environment: without any, each process compiles all that it imports, diffusers for 9 s more.
    """
    paths = [root, os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if env.pop("PYTHONDONTWRITEBYTECODE", None):
        env.setdefault("PYTHONPYCACHEPREFIX", (venv.base or venv).file("bytecode"))
    return env


def replace_process(arguments: Sequence[str], env: dict[str, str] | None = None) -> NoReturn:
    """Become another program: signals, exit status and terminal are its own.

    Windows cannot, so there this process waits, and leaves Ctrl-C to the other one.
    """
    env = dict(os.environ) if env is None else env
    if sys.platform == "win32":
        import signal
        import subprocess

        signal.signal(signal.SIGINT, lambda *_: None)
        sys.exit(subprocess.call(list(arguments), env=env))
    _hold_signals(True)
    try:
        os.execve(arguments[0], list(arguments), env)
    finally:
        _hold_signals(False)


def _hold_signals(hold: bool) -> None:
    """Keep Ctrl-C and the like waiting until the next program can answer them (`STOP.take_over`, or
    `launcher`): while Python starts it would show a traceback."""
    if sys.platform != "win32":
        import signal

        how = signal.SIG_BLOCK if hold else signal.SIG_UNBLOCK
        signal.pthread_sigmask(how, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def _supported_python() -> list[str]:
    """How to start the newest supported Python of this machine. Raises SetupError."""
    import shutil
    import subprocess

    check = f"import sys; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
    unseen = subprocess.DEVNULL
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        for name, *option in ([f"python3.{minor}"], ["py", f"-3.{minor}"]):
            found = [shutil.which(name) or "", *option]
            # A name on PATH may be a shim for a Python that is not there.
            if found[0] and not subprocess.call(
                [*found, "-c", check], stdout=unseen, stderr=unseen
            ):
                return found
    raise SetupError(
        f"Python 3.{OLDEST[1]} to 3.{NEWEST[1]} is needed; this is {sys.version.split()[0]} "
        f"({sys.executable}), and none of those is on PATH. Install one and start again."
    )
