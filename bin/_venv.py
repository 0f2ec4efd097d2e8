"""The environments that the launchers in bin/ run in: made on first use, never half-made.

    run   the packages of requirements/run.txt                <repo>/.venv
    web   Gradio for the page, requirements/web.txt           <repo>/.venv-web
    ray   Ray for batches on a cluster, requirements/ray.txt  <repo>/.venv-ray
    dev   the tools of the tests, requirements/dev.txt        <repo>/.venv-dev

The last three see the packages of the first.

With KISS3D_VENV_CACHE they are <that folder>/run-<key>, web-<key> and so on. The key is a hash
of the lock file and of what the Python is. In and beside each of them:

    kiss3d-owned    this folder is ours, and may be emptied; holds the key once all is installed
    <folder>.lock   held shared by everyone who runs in it, exclusively by the one who makes it

Standard library only. Every start pays for the imports at the top, so the others stand where they
are used. The file parses on Python 3.8, so that an old Python can say which one is needed.
"""

from __future__ import annotations

import os
import sys
from typing import Callable, NamedTuple, Sequence

from _lock import hold_lock, say, try_lock

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
STAMP = "kiss3d-owned"

DISK_GB = {"linux": 7, "win32": 4, "darwin": 3}
"""Free disk asked for before run's is made. Measured on Linux: 5.7, shared with uv's cache."""

UNUSED_DAYS = 14
"""A cached environment that nobody started for so long is removed when another one is made."""


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
    cached: bool
    """Whether it is shared by checkouts, and maybe by users."""

    @property
    def scripts(self) -> str:
        """The folder of its programs."""
        return self.file("Scripts" if sys.platform == "win32" else "bin")

    @property
    def python(self) -> str:
        """Its interpreter."""
        return os.path.join(self.scripts, "python.exe" if sys.platform == "win32" else "python")

    def file(self, name: str) -> str:
        """One of the files in it."""
        return os.path.join(self.path, name)

    def made_for(self) -> str | None:
        """The key that it was completed for; "" while it is not complete, None if not begun."""
        try:
            with open(self.file(STAMP), encoding="utf-8") as stamp:
                return stamp.read()
        except OSError:
            return None

    def is_ready(self) -> bool:
        """Complete, up to date, and the Python that it links to is still installed."""
        return self.made_for() == self.key and os.path.exists(self.python)


Install = Callable[[Venv, int], None]
"""Fills the empty folder of an environment, or raises SetupError. The number is the lock's file
descriptor, for the commands to inherit."""


def environment_of(name: str, root: str = ROOT) -> Venv:
    """The environment "run", "web", "ray" or "dev" of the checkout at `root` under this Python."""
    import hashlib

    base = None if name == "run" else environment_of("run", root)
    if base:
        given = base.key
    else:
        machine = "" if sys.platform == "win32" else os.uname().machine
        tag, flags = sys.implementation.cache_tag, getattr(sys, "abiflags", "")
        given = f"{tag} {flags} {sys.platform} {machine}"
    lock_file = os.path.join(root, "requirements", f"{name}.txt")
    with open(lock_file, "rb") as file:
        key = hashlib.sha256(given.encode() + b"\n" + file.read()).hexdigest()[:16]
    cache = os.environ.get("KISS3D_VENV_CACHE")
    if cache:
        path = os.path.join(os.path.expanduser(cache), f"{name}-{key}")
    else:
        path = os.path.join(root, f".venv-{name}" if base else ".venv")
    return Venv(os.path.realpath(path), key, lock_file, base, cached=bool(cache))


def ensure(venv: Venv, install: Install | None = None) -> int:
    """Return when the environment is ready, with the lock (a descriptor) that keeps it so.

    Whoever finds it missing or out of date makes it; everyone else waits. Raises SetupError.
    """
    os.makedirs(os.path.dirname(venv.path), exist_ok=True)
    while True:
        lock = hold_lock(venv.path, exclusive=False)
        if venv.is_ready():
            _mark_used(venv)
            return lock
        os.close(lock)
        try:
            lock = hold_lock(venv.path, exclusive=True)
        except PermissionError:
            raise SetupError(
                f"{venv.path} is another user's, and not ready for the Python that you start.\n"
                "Set KISS3D_VENV_CACHE to a folder of your own; an environment is made there."
            ) from None
        try:
            if not venv.is_ready():
                _make(venv, lock, install)
                if venv.cached:
                    _prune(os.path.dirname(venv.path))
        finally:
            os.close(lock)


def _mark_used(venv: Venv) -> None:
    """Date the stamp, for `_prune`. Not our file to date in somebody else's installation."""
    try:
        os.utime(venv.file(STAMP))
    except PermissionError:
        return


def _make(venv: Venv, lock: int, install: Install | None) -> None:
    """Empty the folder, fill it, and stamp it. The caller holds the lock exclusively."""
    import signal
    import time

    import _install

    start = time.monotonic()
    reasons = {None: "first start", "": "the last set-up did not finish"}
    reason = reasons.get(venv.made_for(), "the requirements or the Python have changed")
    say(f"{reason}: setting up {venv.path}")
    _claim(venv)
    _check_disk(venv)
    # Unwind, so that the installer is ended too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        (install or _install.install)(venv, lock)
    except Exception:
        _empty(venv.path, keep=(STAMP,))
        raise
    except BaseException:
        # Gigabytes take a while to remove: whoever interrupts is not kept waiting for that.
        say("set-up was interrupted; the next start begins anew")
        raise
    _stamp(venv, venv.key)
    say(f"ready after {time.monotonic() - start:.0f} s")


def _claim(venv: Venv) -> None:
    """Take the folder over and empty it, or refuse if somebody else made it.

    The stamp loses its key first and stays throughout, so that a kill at any point leaves a folder
    that is neither taken for ready nor for somebody else's.
    """
    os.makedirs(venv.path, exist_ok=True)
    if os.listdir(venv.path) and venv.made_for() is None:
        raise SetupError(
            f"{venv.path} exists and was not made by this launcher, so it is left alone.\n"
            "Move it away, or set KISS3D_VENV_CACHE to a folder for environments."
        )
    _stamp(venv, "")
    _empty(venv.path, keep=(STAMP,))


def _stamp(venv: Venv, key: str) -> None:
    with open(venv.file(STAMP), "w", encoding="utf-8") as file:
        file.write(key)


def _check_disk(venv: Venv) -> None:
    import shutil

    needed = 0 if venv.base else DISK_GB.get(sys.platform, 0)
    free = shutil.disk_usage(venv.path).free / 1e9
    if free < needed:
        raise SetupError(
            f"about {needed} GB are needed and {free:.1f} GB are free at {venv.path}.\n"
            "Free some, or set KISS3D_VENV_CACHE to a folder on a larger disk."
        )


def _prune(cache: str) -> None:
    """Remove the environments that are long unused and that nobody runs in."""
    import glob
    import shutil
    import time

    oldest = time.time() - UNUSED_DAYS * 86400
    for stamp in sorted(glob.glob(os.path.join(glob.escape(cache), "*", STAMP))):
        path = os.path.dirname(stamp)
        if not _is_ours(path, stamp):
            continue
        lock = try_lock(path, exclusive=True)
        if lock is None:
            continue
        if os.path.exists(stamp) and os.path.getmtime(stamp) < oldest:
            say(f"removing {path}, unused for {UNUSED_DAYS} days")
            open(stamp, "w").close()
            _empty(path, keep=(STAMP,))
            shutil.rmtree(path)
        os.close(lock)


def _is_ours(path: str, stamp: str) -> bool:
    """A folder itself, no link to one, that holds our stamp, both of this user."""
    if os.path.islink(path) or not os.path.isfile(stamp):
        return False
    return sys.platform == "win32" or {os.stat(p).st_uid for p in (path, stamp)} == {os.getuid()}


def _empty(folder: str, keep: Sequence[str]) -> None:
    import shutil

    for name in set(os.listdir(folder)) - set(keep):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
