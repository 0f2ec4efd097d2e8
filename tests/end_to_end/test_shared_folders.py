"""Network and shared folders: no fsync of directories, no locks of the kernel, others who look."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import SoftFileLease

from devtools.fakes.parts import make_run
from devtools.fakes.tools import cli_environment, command, leftovers, made_run
from devtools.patience import eventually
from orchestrator.errors import OutputError, RunLockedError
from orchestrator.system import locks
from orchestrator.system.folders import new_folder_mode

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX calls and access rights")
pytestmark = posix

REFUSING = """
import errno, fcntl, os, stat
number = {number}
real = os.fsync
def fsync(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(number, os.strerror(number))
    return real(descriptor)
def flock(*_):
    raise OSError(number, os.strerror(number))
if {what!r} == "fsync":
    os.fsync = fsync
else:
    fcntl.flock = flock
"""


@pytest.fixture
def refusing(tmp_path, monkeypatch):
    """Have the system's call fail in every process that is started from now on."""

    def refuse(what: str, number: int) -> None:
        folder = tmp_path / f"without-{what}"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(REFUSING.format(what=what, number=number))
        path = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
        monkeypatch.setenv("PYTHONPATH", path)

    return refuse


@pytest.mark.parametrize(("what", "number"), [("fsync", errno.EINVAL), ("flock", errno.ENOLCK)])
def test_a_run_works_where_the_system_refuses(
    what, number, kiss3d, picture, config_file, tmp_path, refusing
):
    refusing(what, number)
    out = tmp_path / "outputs" / "run"
    made_run(kiss3d, picture, config_file(), out)
    assert leftovers(out) == []
    assert not locks.owner_file(out / ".lock").exists()
    assert kiss3d("clean", "--yes").returncode == 0
    assert not out.exists()


def test_without_kernel_locks_two_processes_still_exclude_each_other(
    kiss3d, picture, config_file, tmp_path, refusing
):
    refusing("flock", errno.ENOLCK)
    flag, out = tmp_path / "flag", tmp_path / "outputs" / "run"
    words = ("run", picture, "--config", config_file(mode="sleep", flag=str(flag)), "--output", out)
    first = subprocess.Popen(
        command(*words), cwd=tmp_path, env=cli_environment(), stderr=subprocess.DEVNULL
    )
    try:
        eventually(flag.exists)
        second = kiss3d("resume", out)
        assert second.returncode == 2
        assert "another process is working" in second.stderr
        listed = json.loads(kiss3d("runs", "list", "--json").stdout)
        assert [run["state"] for run in listed] == ["running"]
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    listed = json.loads(kiss3d("runs", "list", "--json").stdout)
    assert [run["state"] for run in listed] == ["interrupted"]
    resumed = kiss3d("resume", out)
    assert resumed.returncode == 0, resumed.stderr
    assert not locks.owner_file(out / ".lock").exists()


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


COUNTING = """
import os, sys, time
from pathlib import Path
from orchestrator.system import locks
name, folder, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
count, mine = folder / "count", folder / name
for _ in range(rounds):
    with locks.held(folder / ".lock", seconds=120.0):
        seen = int(count.read_text())
        time.sleep(0.002)
        (folder / f"{name}-next").write_text(str(seen + 1))
        os.replace(folder / f"{name}-next", count)
        with mine.open("ab") as stream:
            stream.write(b".")
"""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_kernel_locks_many_processes_take_turns_and_a_killed_one_hinders_nobody(
    number, tmp_path, refusing
):
    """Each adds one to a file that all write: an addition is lost as soon as two are at it."""
    refusing("flock", number)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "count").write_text("0")

    def start(name: str, rounds: int) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", COUNTING, name, str(folder), str(rounds)]
        return subprocess.Popen(words, env=cli_environment())

    def rounds_of(name: str) -> int:
        return (folder / name).stat().st_size if (folder / name).exists() else 0

    lasting = {name: start(name, 12) for name in ("a", "b", "c")}
    doomed = start("d", 100_000)
    eventually(lambda: rounds_of("d") >= 2)
    os.kill(doomed.pid, signal.SIGSTOP)
    os.waitpid(doomed.pid, os.WUNTRACED)  # it stands still now
    done_by_doomed = rounds_of("d")
    counted = {done_by_doomed, done_by_doomed + 1}  # it may die between its two writes
    doomed.kill()
    doomed.wait()
    for process in lasting.values():
        assert process.wait() == 0
    assert start("e", 1).wait() == 0  # whoever comes last, takes over what the killed one held
    assert {rounds_of(name) for name in lasting} == {12}
    assert int((folder / "count").read_text()) - 3 * 12 - 1 in counted
    assert not locks.owner_file(folder / ".lock").exists()


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
        lines = locks.owner_file(tmp_path / ".lock").read_text().splitlines()
        assert f"host={locks._this_host()}" in lines
        assert locks._owner_is_here(tmp_path / ".lock")


def test_a_host_with_locks_heeds_the_owner_file_of_one_without(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)
    owned_by_another_host(tmp_path / ".lock")
    with (
        pytest.raises(locks.InUseError),
        locks.held(tmp_path / ".lock", patient=False),
    ):
        pass
    with locks.held(tmp_path / ".lock"):
        assert f"host={locks._this_host()}" in locks.owner_file(tmp_path / ".lock").read_text()
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


@pytest.fixture
def shared(tmp_path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def open_umask():
    old = os.umask(0o022)
    yield
    os.umask(old)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o1733])
@pytest.mark.parametrize("depth", ["run", "mine/outputs/run"])
def test_new_folders_below_a_shared_one_are_for_their_user_alone(shared, mode, depth):
    shared.chmod(mode)
    (shared / "mine").mkdir()
    assert new_folder_mode(shared / depth) == 0o700
    (shared.parent / "alias").symlink_to(shared)
    assert new_folder_mode(shared.parent / "alias" / depth) == 0o700


def test_elsewhere_the_umask_decides():
    # Not below the home, which may lie in a shared folder or be none.
    assert new_folder_mode(Path("/elsewhere/outputs/run")) == 0o777


@pytest.mark.usefixtures("open_umask")
def test_a_run_in_a_shared_folder_is_private_with_the_folders_made_for_it(
    shared, kiss3d, picture, config_file
):
    out = shared / "mine" / "run"
    made_run(kiss3d, picture, config_file(), out, "--until", "source")
    assert [rights(out), rights(out.parent)] == [0o700] * 2


@pytest.mark.usefixtures("open_umask")
def test_the_default_output_and_a_batch_are_private_in_a_shared_folder(
    shared, kiss3d, picture, config_file, monkeypatch
):
    pictures = shared.parent / "pictures"
    pictures.mkdir()
    (pictures / "p.txt").write_text("1")
    config = config_file()
    for words in (
        ("run", picture, "--config", config, "--until", "source"),
        ("batch", pictures, "--glob", "*.txt", "--config", config, "--until", "source"),
    ):
        done = subprocess.run(
            command(*words), cwd=shared, env=cli_environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert rights(shared / "outputs") == 0o700
    made = [path for path in (shared / "outputs").iterdir() if path.name[0] != "."]
    assert len(made) == 2
    assert {rights(path) for path in made} == {0o700}


FAILING = """
import errno, os
real = os.replace
def replace(source, target, **options):
    if os.path.basename(os.fspath(target)) == {name!r}:
        raise OSError(errno.EIO, "Input/output error")
    return real(source, target, **options)
os.replace = replace
"""


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """Have every process fail to rename a file to this name."""

    def fail(name: str) -> None:
        (tmp_path / "hook").mkdir()
        (tmp_path / "hook" / "sitecustomize.py").write_text(FAILING.format(name=name))
        path = os.pathsep.join([str(tmp_path / "hook"), os.environ["PYTHONPATH"]])
        monkeypatch.setenv("PYTHONPATH", path)

    return fail


@pytest.mark.parametrize("step", ["replace", "fsync"])
@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("made_before", ["", "run", "file"])
def test_a_run_that_cannot_be_made_leaves_nothing(step, call, made_before, tmp_path, monkeypatch):
    real, calls = getattr(os, step), []

    def fail(*arguments, **options):
        calls.append(arguments)
        if len(calls) == min(call, 2 if step == "replace" else 3):
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments, **options)

    monkeypatch.setattr(os, step, fail)
    out = tmp_path / "new" / "run"
    if made_before:
        out.mkdir(parents=True)
    if made_before == "file":
        (out / "notes.txt").touch()
    with pytest.raises(OutputError, match="Input/output error"):
        make_run(out)
    assert (tmp_path / "new").is_dir() == bool(made_before), "a folder of the user's stays"
    assert [path.name for path in out.glob("*")] == (["notes.txt"] if made_before == "file" else [])


def test_a_command_whose_run_cannot_be_made_leaves_nothing(
    failing, kiss3d, picture, config_file, tmp_path
):
    failing("run.json")
    done = kiss3d("run", picture, "--config", config_file())
    assert done.returncode == 2
    assert "Input/output error" in done.stderr
    assert not list(tmp_path.glob("outputs/*"))


def test_a_batch_that_cannot_be_made_leaves_nothing(failing, kiss3d, config_file, tmp_path):
    failing("batch.json")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "p.txt").write_text("1")
    for output in ((), ("-o", tmp_path / "new" / "batch")):
        done = kiss3d("batch", pictures, "--glob", "*.txt", "--config", config_file(), *output)
        assert done.returncode == 2, done.stderr
        assert not (tmp_path / "new").exists()
        assert not list(tmp_path.glob("outputs/*"))
