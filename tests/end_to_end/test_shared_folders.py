"""Network and shared folders: no fsync of directories, no locks of the kernel, others who look."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.fakes.parts import make_run
from devtools.fakes.tools import cli_environment, command, leftovers, made_run
from devtools.patience import eventually
from orchestrator.errors import OutputError
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
        done = kiss3d(*words, cwd=shared)
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
