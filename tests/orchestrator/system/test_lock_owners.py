"""Locks where the file system has none: a file says whose the lock is, and gives signs of life."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import SoftFileLease

from devtools.fakes.tools import cli_environment
from devtools.patience import eventually
from orchestrator.errors import OutputError, RunLockedError
from orchestrator.system import locks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX calls and access rights")


@pytest.fixture
def no_flock(monkeypatch, request):
    import fcntl

    number = getattr(request, "param", errno.ENOLCK)

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@pytest.mark.parametrize("no_flock", dict.fromkeys(NO_LOCKS), indirect=True)
def test_without_kernel_locks_a_file_says_whose_the_lock_is(no_flock, tmp_path):
    with locks.directory_lock(tmp_path):
        text = locks.owner_file(tmp_path / ".lock").read_text()
        assert f"pid={os.getpid()}" in text
        assert f"host={socket.gethostname()}" in text
        assert "start=" in text
        assert locks.in_use(tmp_path)
        with pytest.raises(RunLockedError), locks.directory_lock(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("no_flock", [errno.EIO, errno.EROFS], indirect=True)
@pytest.mark.parametrize("before", [True, False])
def test_another_fault_of_a_lock_is_told_and_leaves_nothing(no_flock, before, tmp_path):
    if before:
        (tmp_path / ".lock").touch()
    with pytest.raises(OutputError, match="cannot write to"), locks.directory_lock(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ([".lock"] if before else [])


@pytest.mark.usefixtures("no_flock")
def test_a_folder_that_takes_no_owner_file_either_is_told_and_keeps_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SoftFileLease, "acquire", full)
    with pytest.raises(OutputError, match="No space left"), locks.directory_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_another_host_has_just_removed_is_made_again(tmp_path, monkeypatch):
    import fcntl

    real, asked = fcntl.flock, []

    def stale_once(*arguments):
        asked.append(arguments)
        if len(asked) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(*arguments)

    monkeypatch.setattr(fcntl, "flock", stale_once)
    with locks.directory_lock(tmp_path):
        assert len(asked) > 1
        assert locks.in_use(tmp_path)


@pytest.mark.parametrize("number", ["", "4026531836", "4026532999"])
@pytest.mark.usefixtures("no_flock")
def test_this_host_is_called_as_the_library_calls_it(number, tmp_path, monkeypatch):
    """Containers of one name number their processes by themselves: they are several hosts."""
    if number:
        real = os.stat

        def stat_of(path, *arguments, **options):
            seen = real(path, *arguments, **options)
            if os.fspath(path) != "/proc/self/ns/pid":
                return seen
            return os.stat_result((seen.st_mode, int(number), *seen[2:]))

        monkeypatch.setattr(os, "stat", stat_of)
    with locks.held(tmp_path / ".lock"):
        assert locks.owner_is_here(tmp_path / ".lock")


def test_a_host_with_locks_heeds_the_owner_file_of_one_without(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)
    owned_by_another_host(tmp_path / ".lock")
    with (
        pytest.raises(locks.InUseError),
        locks.held(tmp_path / ".lock", patient=False),
    ):
        pass
    with locks.held(tmp_path / ".lock"):
        assert locks.owner_is_here(tmp_path / ".lock")
    assert not locks.owner_file(tmp_path / ".lock").exists()


ROBBED = """
import errno, fcntl, os, sys, time
from pathlib import Path
from orchestrator.system import locks
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
locks.LEASE_SECONDS = 0.6
folder = Path(sys.argv[1])
with locks.directory_lock(folder):
    owner = locks.owner_file(folder / ".lock")
    another = folder / "another"
    another.write_text(owner.read_text().replace("host=", "host=far-"))
    os.replace(another, owner)
    time.sleep(600)
"""


def test_a_process_whose_lock_another_host_has_taken_over_stops(tmp_path):
    words = [sys.executable, "-c", ROBBED, str(tmp_path)]
    done = subprocess.run(words, env=cli_environment(), capture_output=True, text=True)
    assert "was taken over by another process: this one stops" in done.stderr
    assert "KeyboardInterrupt" in done.stderr
    assert "host=far-" in (tmp_path / ".lock.owner").read_text(), "that is the other one's"


def owned_by_another_host(file: Path) -> None:
    """A lock as a process on another machine has it."""
    lease = SoftFileLease(locks.owner_file(file), lease_duration=locks.LEASE_SECONDS)
    lease.acquire(timeout=0)
    lines = (
        locks.owner_file(file).read_text().replace(f"host={socket.gethostname()}\n", "host=far\n")
    )
    lease.release(force=True)
    locks.owner_file(file).write_text(lines)


@pytest.mark.usefixtures("no_flock")
def test_another_hosts_lock_is_taken_over_without_a_sign_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)
    owned_by_another_host(tmp_path / ".lock")
    assert "host=far" in locks.owner_file(tmp_path / ".lock").read_text()
    (tmp_path / ".lock").touch()
    assert locks.in_use(tmp_path), "a look waits for nobody"
    long_ago = time.time() - 1000.0
    os.utime(locks.owner_file(tmp_path / ".lock"), (long_ago, long_ago))
    assert not locks.in_use(tmp_path), "and does not believe the dead for ever"
    with locks.held(tmp_path / ".lock"):
        assert f"host={socket.gethostname()}" in locks.owner_file(tmp_path / ".lock").read_text()
    assert not locks.owner_file(tmp_path / ".lock").exists()


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_an_owner_that_was_killed_while_it_wrote_its_file_is_taken_over(
    seconds, tmp_path, monkeypatch
):
    monkeypatch.setattr(locks, "_EMPTY_SECONDS", 0.3)
    locks.owner_file(tmp_path / ".lock").touch()
    with locks.held(tmp_path / ".lock", seconds):
        assert f"pid={os.getpid()}\n" in locks.owner_file(tmp_path / ".lock").read_text()
    assert not locks.owner_file(tmp_path / ".lock").exists()


@pytest.mark.usefixtures("no_flock")
def test_another_hosts_lock_holds_as_long_as_it_is_kept_fresh(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 4.0)
    owned_by_another_host(tmp_path / ".lock")
    owner = locks.owner_file(tmp_path / ".lock")
    beat = "import os, sys, time\nwhile True: os.utime(sys.argv[1]); time.sleep(0.1)"
    written = owner.stat().st_mtime_ns
    alive = subprocess.Popen([sys.executable, "-c", beat, str(owner)])
    try:
        eventually(lambda: owner.stat().st_mtime_ns != written)
        with pytest.raises(locks.InUseError), locks.held(tmp_path / ".lock"):
            pass
    finally:
        alive.kill()
        alive.wait()


def test_the_owner_gives_signs_of_life(tmp_path, no_flock, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.6)
    with locks.held(tmp_path / ".lock"):
        owner = locks.owner_file(tmp_path / ".lock")
        first = owner.stat().st_mtime_ns
        eventually(lambda: owner.stat().st_mtime_ns != first)
