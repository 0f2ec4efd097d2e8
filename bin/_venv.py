"""The environments that the launchers in bin/ run in: made on first use, never half-made.

    run   what the program needs, requirements/run.txt     <repo>/.venv
    dev   the tools of bin/test, requirements/dev.txt      <repo>/.venv-dev, which sees run's as well

With KISS3D_VENV_CACHE they are <that folder>/run-<key> and dev-<key>. The key is a hash of the
exact versions and of the Python. In and beside each of them:

    kiss3d-owned       written first: this folder is ours, and may be emptied
    install.log        what the installer said
    kiss3d-ready       written last: the key that the environment was made for
    <folder>.lock      held shared by everyone who runs in it, exclusively by the one who makes it

The kernel drops a lock with its last holder, so nothing is stale after a kill. Installers inherit
it: one that outlives a killed launcher keeps the next launcher waiting instead of racing it.

Standard library only. Every start pays for the imports at the top, so the others stand where they
are used. The file parses on Python 3.8, so that an old Python can say which one is needed.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Callable, Mapping, NamedTuple, Sequence

if TYPE_CHECKING:
    from types import FrameType

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
OWNED, READY, LOG = "kiss3d-owned", "kiss3d-ready", "install.log"

DISK_GB = {"linux": 7, "win32": 4, "darwin": 3}
"""Free disk asked for before run's is made. Measured on Linux: 5.7, shared with uv's cache."""

UNUSED_DAYS = 14
"""A cached environment that nobody started for so long is removed when another one is made."""

POLL_S = 0.1
"""How often a waiting start looks whether it can go on."""

QUIET_POLLS = 3
"""A wait shorter than this is not worth a message."""


class SetupError(Exception):
    """The environment cannot be made. The text says why and what to do."""


class Venv(NamedTuple):
    """An environment that the checkout needs, made or not."""

    path: str
    key: str
    lock_file: str
    """Its packages: exact versions with hashes."""
    base: Venv | None
    """The environment whose packages it sees too."""

    @property
    def scripts(self) -> str:
        """The folder of its programs."""
        return os.path.join(self.path, "Scripts" if sys.platform == "win32" else "bin")

    @property
    def python(self) -> str:
        """Its interpreter."""
        return os.path.join(self.scripts, "python.exe" if sys.platform == "win32" else "python")

    @property
    def cached(self) -> bool:
        """Whether checkouts, and maybe users, share it."""
        return self.key in os.path.basename(self.path)

    @property
    def cached(self) -> bool:
        """Whether checkouts, and maybe users, share it."""
        return self.key in os.path.basename(self.path)

    @property
    def cached(self) -> bool:
        """Whether checkouts, and maybe users, share it."""
        return self.key in os.path.basename(self.path)

    @property
    def cached(self) -> bool:
        """Whether checkouts, and maybe users, share it."""
        return self.key in os.path.basename(self.path)

    def file(self, name: str) -> str:
        """One of the files that the launchers keep in it."""
        return os.path.join(self.path, name)

    def made_for(self) -> str | None:
        """The key that it was completed for; None while it is not complete."""
        try:
            with open(self.file(READY), encoding="utf-8") as stamp:
                return stamp.readline().strip()
        except OSError:
            return None

    def is_ready(self) -> bool:
        """Complete, up to date, and the Python that it links to is still installed."""
        return self.made_for() == self.key and os.path.exists(self.python)


Install = Callable[[Venv, int], None]
"""Fills the empty folder of an environment, or raises SetupError. The number is the lock's file
descriptor, for the commands to inherit."""


def say(text: str) -> None:
    """Tell the user, on stderr: stdout belongs to the program that is being started."""
    print(f"kiss3d-orchestrate: {text}", file=sys.stderr, flush=True)


def run_environment(root: str = ROOT, environ: Mapping[str, str] = os.environ) -> Venv:
    """What the program of the checkout at `root` runs in under this Python."""
    machine = "" if sys.platform == "win32" else os.uname().machine
    tag, flags = sys.implementation.cache_tag, getattr(sys, "abiflags", "")
    return _describe("run", root, environ, f"{tag} {flags} {sys.platform} {machine}", None)


def dev_environment(root: str = ROOT, environ: Mapping[str, str] = os.environ) -> Venv:
    """What the tests of the checkout at `root` run in: the program's packages and the tools."""
    run = run_environment(root, environ)
    return _describe("dev", root, environ, run.key, run)


def _describe(
    name: str, root: str, environ: Mapping[str, str], depends_on: str, base: Venv | None
) -> Venv:
    import hashlib

    lock_file = os.path.join(root, "requirements", f"{name}.txt")
    with open(lock_file, "rb") as file:
        key = hashlib.sha256(depends_on.encode() + b"\n" + file.read()).hexdigest()[:16]
    cache = environ.get("KISS3D_VENV_CACHE")
    if cache:
        path = os.path.join(os.path.expanduser(cache), f"{name}-{key}")
    else:
        path = os.path.join(root, ".venv-dev" if base else ".venv")
    return Venv(os.path.realpath(path), key, lock_file, base)


def ensure(venv: Venv, install: Install | None = None) -> int:
    """Return when the environment is ready, with the lock (a descriptor) that keeps it so.

    Whoever finds it missing or out of date makes it; everyone else waits. Raises SetupError.
    """
    os.makedirs(os.path.dirname(venv.path), exist_ok=True)
    while True:
        lock = _lock(venv, exclusive=False)
        if venv.is_ready():
            _mark_used(venv)
            return lock
        os.close(lock)
        lock = _lock(venv, exclusive=True)
        try:
            if not venv.is_ready():
                _make(venv, install or _installer(), lock)
                _prune(venv)
        finally:
            os.close(lock)


def _installer() -> Install:
    import _install

    return _install.install


def _mark_used(venv: Venv) -> None:
    """Date the stamp, for `_prune`. Not our file to date in somebody else's installation."""
    try:
        os.utime(venv.file(READY))
    except PermissionError:
        return


# Making


def _make(venv: Venv, install: Install, lock: int) -> None:
    """Empty the folder, fill it, and stamp it. The caller holds the lock exclusively."""
    import signal
    import time

    start = time.monotonic()
    say(f"{_reason(venv)}: setting up {venv.path}")
    _claim(venv)
    _check_disk(venv)
    previous = signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        install(venv, lock)
        _write(venv.file(READY), f"{venv.key}\n")
    except Exception:
        _empty(venv.path, keep=(LOG, OWNED))
        raise
    except BaseException:
        # Gigabytes take a while to remove: whoever interrupts is not kept waiting for that.
        say("set-up was interrupted; the next start begins anew")
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
    say(f"ready after {time.monotonic() - start:.0f} s")


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    """Unwind, so that the installer is ended too."""
    raise SystemExit(128 + number)


def _reason(venv: Venv) -> str:
    if venv.made_for() is not None:
        return "the requirements or the Python have changed"
    if os.path.exists(venv.file(OWNED)):
        return "the last set-up did not finish"
    return "first start"


def _claim(venv: Venv) -> None:
    """Take the folder over and empty it, or refuse if somebody else made it.

    The stamp goes first and the mark of ownership stays throughout, so that a kill at any point
    leaves a folder that is neither taken for ready nor for somebody else's.
    """
    os.makedirs(venv.path, exist_ok=True)
    if os.listdir(venv.path) and not os.path.exists(venv.file(OWNED)):
        raise SetupError(
            f"{venv.path} exists and was not made by this launcher, so it is left alone.\n"
            "Move it away, or set KISS3D_VENV_CACHE to a folder for environments."
        )
    _write(venv.file(OWNED), "Made by the launchers in bin/, which may empty it.\n")
    _empty(venv.path, keep=(OWNED,))


def _check_disk(venv: Venv) -> None:
    import shutil

    needed = 0 if venv.base else DISK_GB.get(sys.platform, 0)
    free = shutil.disk_usage(venv.path).free / 1e9
    if free < needed:
        raise SetupError(
            f"about {needed:g} GB are needed and {free:.1f} GB are free at {venv.path}.\n"
            "Free some, or set KISS3D_VENV_CACHE to a folder on a larger disk."
        )


def _prune(made: Venv) -> None:
    """Remove other cached environments that are long unused and that nobody runs in."""
    import shutil

    if not made.cached:
        return
    cache = os.path.dirname(made.path)
    for path in (os.path.join(cache, other) for other in sorted(os.listdir(cache))):
        if path == made.path or not _is_stale(path):
            continue
        lock = _try_lock(path, exclusive=True)
        if lock is None:
            continue
        if _is_stale(path):
            say(f"removing {path}, unused for {UNUSED_DAYS} days")
            _empty(path, keep=(OWNED,))
            shutil.rmtree(path)
        os.close(lock)


def _is_stale(path: str) -> bool:
    """An environment of ours whose last start, or half-made one whose making, is long ago."""
    import time

    marks = [os.path.join(path, name) for name in (READY, OWNED)]
    dates = [os.path.getmtime(mark) for mark in marks if os.path.exists(mark)]
    return bool(dates) and max(dates) < time.time() - UNUSED_DAYS * 86400


# Locks and files


def _lock(venv: Venv, *, exclusive: bool) -> int:
    """Hold the environment's lock, waiting for whoever has it."""
    import time

    polls = 0
    while (lock := _try_lock(venv.path, exclusive=exclusive)) is None:
        polls += 1
        if polls == QUIET_POLLS:
            in_use = exclusive and venv.made_for() is not None
            say(
                f"{venv.path} must be set up again and is in use; waiting for its users to end"
                if in_use
                else f"another start is setting up {venv.path}; waiting for it ({LOG} is there)"
            )
        time.sleep(POLL_S)
    return lock


def _try_lock(path: str, *, exclusive: bool) -> int | None:
    """Hold the lock beside `path`; None if it cannot be had now.

    A reader opens the file read-only, so that one user can run what another one has installed.
    Windows has no shared locks of this kind, so there a reader only makes sure that nobody is
    making the environment; files in use cannot be removed there anyway.
    """
    mode = os.O_RDWR if exclusive or sys.platform == "win32" else os.O_RDONLY
    descriptor = os.open(f"{path}.lock", mode | os.O_CREAT, 0o666)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            if not exclusive:
                msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _empty(folder: str, keep: Sequence[str]) -> None:
    """Remove what is in `folder`; the stamp first, for no unfinished removal may look ready."""
    import shutil

    for name in sorted(os.listdir(folder), key=lambda name: name != READY):
        path = os.path.join(folder, name)
        if name in keep:
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
