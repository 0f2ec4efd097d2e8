"""The launchers make their environment once, whole or not at all, and then get out of the way."""

from __future__ import annotations

import ast
import errno
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

import _install
import _launch
import _venv
import psutil
import pytest

from devtools.fakes.checkout import REPOSITORY, FakeCheckout, is_alive, said_until, script, wheel
from devtools.patience import PATIENCE, eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals and locks")

LAUNCHERS = sorted(
    file for file in (REPOSITORY / "bin").iterdir() if file.is_file() and file.suffix != ".cmd"
)


@pytest.fixture(autouse=True)
def _no_settings_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KISS3D_VENV_CACHE", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.fixture
def checkout(tmp_path: Path) -> FakeCheckout:
    root = tmp_path / "a checkout"
    root.mkdir()
    return FakeCheckout.make(root)


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["run", "a.png"], ".venv"),
        (["web"], ".venv-web"),
        (["batch", "pictures"], ".venv"),
        (["batch", "pictures", "--ray"], ".venv-ray"),
        (["batch", "pictures", "--ray=local"], ".venv-ray"),
        (["run", "--text", "--ray"], ".venv"),
    ],
)
def test_a_command_that_needs_more_packages_runs_where_they_are(
    words: list[str], folder: str, checkout: FakeCheckout
) -> None:
    root = str(checkout.root)
    for venv in (checkout.venv(), _venv.web_environment(root), _venv.ray_environment(root)):
        checkout.set_up(venv=venv)
    python = json.loads(checkout.run(*words).stdout)["python"]
    assert Path(python).is_relative_to(checkout.root / folder)


# Making the environment


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where pip and uv find packages, and nothing else is there to find them."""
    folder = tmp_path / "wheels"
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", folder.as_uri())  # paths end at a space
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return folder


def test_the_first_start_installs_with_uv_and_later_starts_install_nothing(
    checkout: FakeCheckout, wheels: Path
) -> None:
    try:
        [uv] = (file.locate() for file in metadata.files("uv") or () if file.name == "uv")
    except metadata.PackageNotFoundError:
        pytest.skip("pip installed this environment, so there is no uv")
    checkout.require(wheel(wheels, "uv", f'#!/bin/sh\nexec "{uv}" "$@"\n'), file="installer")
    checkout.require(wheel(wheels, "toy"))
    first = checkout.run()
    assert first.returncode == 7, first.stderr
    assert "first start: setting up" in first.stderr
    assert "uv could not" not in first.stderr
    assert "ready after" in first.stderr
    subprocess.run([checkout.venv().python, "-c", "import toy"], check=True)

    log = Path(checkout.venv().file(_venv.LOG))
    written = log.stat().st_mtime_ns
    second = checkout.run()
    assert (second.returncode, second.stderr) == (7, "")
    assert log.stat().st_mtime_ns == written


def test_pip_installs_where_there_is_no_uv_and_the_tools_of_the_tests_come_on_top(
    checkout: FakeCheckout, wheels: Path
) -> None:
    (checkout.root / "pytest.py").write_text("import toy, tool, sys; sys.exit(3)")
    checkout.require("uv==1.0 --hash=sha256:00", file="installer")
    checkout.require(wheel(wheels, "toy"))
    checkout.require(wheel(wheels, "tool"), file="dev")
    program = checkout.run()
    assert program.returncode == 7, program.stderr
    assert "uv could not, so pip does" in program.stderr
    run, dev = checkout.venv(), _venv.dev_environment(checkout.path)
    assert subprocess.run([run.python, "-c", "import toy"]).returncode == 0
    assert not os.path.exists(dev.path), "running needs no tools"

    tests = checkout.run("-q", launcher="test")
    assert tests.returncode == 3, tests.stderr
    assert f"setting up {run.path}\n" not in tests.stderr, "it was ready"
    assert subprocess.run([run.python, "-c", "import tool"], capture_output=True).returncode != 0


def test_a_package_that_is_not_the_locked_one_is_refused(
    checkout: FakeCheckout, wheels: Path
) -> None:
    locked = wheel(wheels, "toy")
    wheel(wheels, "toy", program="#!/bin/sh\n")
    checkout.require(locked)
    refused = checkout.run()
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "not the one that requirements/ names" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not checkout.venv().is_ready()


@pytest.mark.parametrize(
    ("log", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "KISS3D_VENV_CACHE moves"),
        ("The virtual environment was not created: ensurepip is not available", "python3-venv"),
        ("Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'", "network"),
        ("ERROR: No matching distribution found for torch", "no prebuilt wheel"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "damaged on its way"),
        ("something else", "The next start begins anew"),
    ],
)
def test_what_the_log_says_is_turned_into_advice(
    checkout: FakeCheckout, log: str, advice: str
) -> None:
    with pytest.raises(_venv.SetupError, match=advice) as caught:
        checkout.set_up(f"fail: {log}")
    assert log in str(caught.value)
    assert checkout.venv().file(_venv.LOG) in str(caught.value)


def test_a_failed_installation_leaves_only_its_log_and_the_next_start_succeeds(
    checkout: FakeCheckout,
) -> None:
    with pytest.raises(_venv.SetupError):
        checkout.set_up("fail: for now")
    venv = checkout.venv()
    assert sorted(os.listdir(venv.path)) == sorted([_venv.LOG, _venv.STAMP])
    checkout.set_up()
    assert venv.is_ready()


def test_after_a_kill_in_the_middle_the_next_start_begins_anew(checkout: FakeCheckout) -> None:
    killed = checkout.start_set_up("waits")
    installer = checkout.installer_pid()
    killed.kill()
    os.kill(installer, signal.SIGKILL)
    killed.communicate()
    venv = checkout.venv()
    assert Path(venv.file("half-made")).exists()
    assert not venv.is_ready()
    Path(venv.file("left-over")).touch()

    retry = checkout.start_set_up()
    _, said = retry.communicate(timeout=PATIENCE)
    assert retry.returncode == 0, said
    assert "the last set-up did not finish" in said
    assert venv.is_ready()
    assert not Path(venv.file("left-over")).exists()


def test_an_installer_that_outlives_its_launcher_keeps_the_next_start_waiting(
    checkout: FakeCheckout,
) -> None:
    killed = checkout.start_set_up("waits")
    installer = checkout.installer_pid()
    killed.kill()
    killed.communicate()
    assert is_alive(installer)
    with pytest.raises(BlockingIOError):
        _must_lock(checkout.venv())

    retry = checkout.start_set_up()
    said_until(retry, "waiting for another process that sets it up")
    assert checkout.installs() == 0
    checkout.release()
    _, said = retry.communicate(timeout=PATIENCE)
    assert retry.returncode == 0, said
    assert not is_alive(installer)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_the_installer_too(
    checkout: FakeCheckout, number: signal.Signals, status: int
) -> None:
    start = checkout.start_set_up("waits")
    installer = checkout.installer_pid()
    start.send_signal(number)
    _, said = start.communicate(timeout=PATIENCE)
    assert start.returncode == status
    assert "the next start begins anew" in said
    assert not is_alive(installer)
    checkout.set_up()


def test_two_starts_at_once_install_once(checkout: FakeCheckout) -> None:
    starts = [checkout.start_set_up("waits") for _ in range(2)]
    first = psutil.Process(checkout.installer_pid()).ppid()
    (other,) = (start for start in starts if start.pid != first)
    said_until(other, "waiting for another process")
    checkout.release()
    said = [start.communicate(timeout=PATIENCE)[1] for start in starts]
    assert [start.returncode for start in starts] == [0, 0], said
    assert checkout.installs() == 1
    assert not any("waiting for another process" in text for text in said)


def test_changed_requirements_are_installed(
    checkout: FakeCheckout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.set_up()
    checkout.require("toy", "another")
    assert not checkout.venv().is_ready()
    capsys.readouterr()
    checkout.set_up()
    assert "the requirements or the Python have changed" in capsys.readouterr().err
    assert checkout.installs() == 2


def test_an_environment_in_use_is_replaced_only_when_its_user_has_ended(
    checkout: FakeCheckout,
) -> None:
    lock = _venv.ensure(checkout.venv(), checkout.installer())
    checkout.require("toy", "another")
    start = checkout.start_set_up()
    said_until(start, "waiting for another process that runs in it")
    assert checkout.installs() == 1
    os.close(lock)
    _, said = start.communicate(timeout=PATIENCE)
    assert start.returncode == 0, said
    assert checkout.installs() == 2


def test_an_environment_whose_python_is_gone_is_made_again(checkout: FakeCheckout) -> None:
    venv = checkout.set_up()
    os.remove(venv.python)
    os.symlink("/no/such/python", venv.python)
    checkout.set_up()
    assert checkout.installs() == 2


def test_a_folder_that_somebody_else_made_is_left_alone(checkout: FakeCheckout) -> None:
    mine = checkout.root / ".venv" / "bin" / "python"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(_venv.SetupError, match="was not made by this launcher"):
        checkout.set_up()
    assert mine.exists()


def test_too_little_disk_is_noticed_before_anything_is_installed(
    checkout: FakeCheckout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_venv.DISK_GB, sys.platform, 10**9)
    with pytest.raises(_venv.SetupError, match="GB are needed"):
        checkout.set_up()
    assert checkout.installs() == 0


# A cache of environments


def test_checkouts_share_an_environment_through_the_cache(
    checkout: FakeCheckout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KISS3D_VENV_CACHE", str(tmp_path / "cache"))
    other = tmp_path / "other"
    other.mkdir()
    first, second = checkout.set_up(), FakeCheckout.make(other).set_up()
    assert first.path == second.path
    assert Path(first.path).parent == tmp_path / "cache"
    assert not (checkout.root / ".venv").exists()
    assert checkout.installs() == 1


def test_making_an_environment_removes_those_long_unused_but_none_that_is_in_use(
    checkout: FakeCheckout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KISS3D_VENV_CACHE", str(tmp_path))
    stranger = tmp_path / "somebody-elses"
    stranger.mkdir()
    made = {}
    for name in ("unused", "running", "recent", "half-made"):
        checkout.require(name)
        made[name] = checkout.set_up()
    checkout.require("running")
    running = _venv.ensure(checkout.venv())
    Path(made["half-made"].file(_venv.STAMP)).write_text("")
    long_ago = time.time() - (_venv.UNUSED_DAYS + 1) * 86400
    for name in ("unused", "running", "half-made"):
        os.utime(made[name].file(_venv.STAMP), (long_ago, long_ago))
    checkout.require("new")
    checkout.set_up()
    os.close(running)
    left = [name for name, venv in made.items() if os.path.exists(venv.path)]
    assert left == ["running", "recent"]
    assert stranger.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links and owners are POSIX")
@pytest.mark.parametrize("what", ["link", "no stamp", "another user's"])
def test_what_the_launchers_did_not_make_is_not_removed_from_the_cache(
    what: str, checkout: FakeCheckout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KISS3D_VENV_CACHE", str(tmp_path / "cache"))
    checkout.require("old")
    old = Path(checkout.set_up().path)
    if what == "link":
        old.rename(tmp_path / "mine")
        old.symlink_to(tmp_path / "mine")
    elif what == "no stamp":
        (old / _venv.STAMP).unlink()
    else:
        owner = old.stat().st_uid
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    (old / "notes.txt").touch()
    long_ago = time.time() - (_venv.UNUSED_DAYS + 1) * 86400
    if (old / _venv.STAMP).exists():
        os.utime(old / _venv.STAMP, (long_ago, long_ago))
    checkout.require("new")
    checkout.set_up()
    assert (old / "notes.txt").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_start_without_file_locks_goes_on_and_says_so(
    number: int,
    checkout: FakeCheckout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert checkout.set_up().is_ready()
    assert "has no file locks" in capsys.readouterr().err


# Starting the program


def test_arguments_and_exit_status_pass_through_and_the_checkout_comes_first_on_the_path(
    checkout: FakeCheckout, tmp_path: Path
) -> None:
    checkout.set_up()
    arguments = ["run", "an image.png", "--seed=0", ""]
    environment = {**os.environ, "PYTHONPATH": "/of/the/user"}
    done = checkout.run(*arguments, cwd=tmp_path, env=environment)
    assert done.returncode == 7, done.stderr
    said = json.loads(done.stdout)
    assert said["arguments"] == arguments
    assert said["cwd"] == str(tmp_path)
    assert said["python"] == checkout.venv().python
    assert said["pythonpath"] == f"{checkout.path}{os.pathsep}/of/the/user"


def test_the_launcher_can_be_started_through_a_symlink(
    checkout: FakeCheckout, tmp_path: Path
) -> None:
    checkout.set_up()
    link = tmp_path / "kiss3d"
    link.symlink_to(checkout.root / "bin" / "kiss3d-orchestrate")
    program = [sys.executable, link, "--version"]
    done = subprocess.run(program, capture_output=True, text=True, cwd="/")
    assert os.access(link, os.X_OK)
    assert done.returncode == 7, done.stderr
    assert json.loads(done.stdout)["arguments"] == ["--version"]


def test_modules_in_the_current_folder_are_not_picked_up(
    checkout: FakeCheckout, tmp_path: Path
) -> None:
    checkout.set_up()
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    assert checkout.run(cwd=tmp_path).returncode == 7


def test_signals_reach_the_program(checkout: FakeCheckout) -> None:
    checkout.set_up()
    ready = checkout.root / "ready"
    (checkout.root / "orchestrator" / "cli.py").write_text(
        "import pathlib, signal, time\ntry:\n"
        "    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})\n"
        f"    pathlib.Path({str(ready)!r}).touch()\n"  # the signal may come before it returns
        "    time.sleep(3600)\nexcept KeyboardInterrupt:\n    raise SystemExit(42)\n"
    )
    start = subprocess.Popen([sys.executable, checkout.root / "bin" / "kiss3d-orchestrate"])
    eventually(ready.exists)
    start.send_signal(signal.SIGINT)
    assert start.wait(timeout=PATIENCE) == 42


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_signal_before_the_program_can_answer_waits_until_it_can(checkout: FakeCheckout) -> None:
    checkout.set_up()
    ready = checkout.root / "ready"
    (checkout.root / "orchestrator" / "cli.py").write_text(
        "import os, pathlib, signal, sys\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"  # while it imports, say
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(43))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})\n"
    )
    done = checkout.run()
    assert ready.exists()
    assert done.returncode == 43
    assert "Traceback" not in done.stderr


def test_a_running_program_keeps_its_environment(checkout: FakeCheckout) -> None:
    venv = checkout.set_up()
    ready = checkout.root / "ready"
    (checkout.root / "orchestrator" / "cli.py").write_text(
        f"import pathlib, time\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(3600)\n"
    )
    start = subprocess.Popen([sys.executable, checkout.root / "bin" / "kiss3d-orchestrate"])
    eventually(ready.exists)
    with pytest.raises(BlockingIOError):
        _must_lock(venv)
    start.kill()
    start.wait()
    _must_lock(venv)


def test_a_ready_start_adds_little(checkout: FakeCheckout) -> None:
    """Processor time counted in bare starts of Python: 3 were measured.

    To read what all installed packages are called would add 9 more, to import numpy 27.
    """
    venv = checkout.set_up()
    direct = _launch.command(venv, "orchestrator.cli", [])
    launched = [sys.executable, str(checkout.root / "bin" / "kiss3d-orchestrate")]
    environment = _launch.environment(checkout.path)
    bare = _least([sys.executable, "-I", "-S", "-c", ""], environment)
    added = _least(launched, environment) - _least(direct, environment)
    assert added < 10.0 * bare


# Which Python


@pytest.mark.parametrize("file", LAUNCHERS, ids=lambda file: file.name)
def test_the_launchers_parse_on_python_3_8(file: Path) -> None:
    ast.parse(file.read_text(), feature_version=(3, 8))


def test_the_launchers_allow_the_pythons_that_pyproject_allows() -> None:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    (old, oldest), (new, newest) = _launch.OLDEST, _launch.NEWEST
    assert pyproject["project"]["requires-python"] == f">={old}.{oldest},<{new}.{newest + 1}"


@pytest.fixture
def old_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This Python says it is 3.8; the folder returned is all of PATH."""
    monkeypatch.setattr(sys, "version_info", (3, 8, 18, "final", 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_an_old_python_starts_a_newer_one_that_really_works(
    old_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(old_python / "python3.14", "#!/bin/sh\necho no such version; exit 127\n")
    script(old_python / "python3.12", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    started = []
    monkeypatch.setattr(sys, "argv", ["bin/test", "--slow"])
    monkeypatch.setattr(_launch, "replace_process", started.append)
    with pytest.raises(SystemExit):
        _launch.launcher(lambda _: 0)
    assert started == [[str(old_python / "python3.12"), "bin/test", "--slow"]]


@pytest.mark.usefixtures("old_python")
def test_without_a_newer_python_the_launcher_says_which_is_needed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="1"):
        _launch.launcher(lambda _: 0)
    assert "Python 3.11 to 3.14 is needed" in capsys.readouterr().err


# What is asked of the installers


def test_wheels_only_so_that_nothing_compiles_and_only_those_of_the_lock() -> None:
    venv = _venv.Venv("/env", "key", "/repo/run.txt", base=None, cached=False)
    uv, pip = _install.uv_command("uv", venv), _install.pip_command(venv, venv.lock_file)
    for command in (uv, pip):
        said = " ".join(command)
        assert "--only-binary :all: --no-binary iopath" in said
        assert "--no-deps --require-hashes" in said
        assert command[-1] == "--requirement=/repo/run.txt"


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize("status", [0, 3])
def test_the_example_is_run_once_so_that_the_first_picture_waits_for_no_compiler(
    status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venv = _venv.Venv(str(tmp_path), "key", "/repo/run.txt", base=None, cached=False)
    python = Path(venv.python)
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/sh\necho "$PYTHONPATH $@"\nmkdir "$0/../../first-run"\nexit {status}\n'
    )
    python.chmod(0o755)
    _install.compile_once(venv, _install.Commands(venv, os.open(os.devnull, os.O_RDONLY)))
    log = Path(venv.file(_venv.LOG)).read_text()
    assert (
        f"{REPOSITORY} -P -m orchestrator.cli run {REPOSITORY}/examples/robot.png"
        in log.splitlines()[1]
    )
    assert not Path(venv.file("first-run")).exists()
    assert ("so the first run compiles" in capsys.readouterr().err) == (status != 0)


def _must_lock(venv: _venv.Venv) -> None:
    """Take and release the exclusive lock, or raise."""
    lock = _venv._try_lock(venv.path, exclusive=True)
    if lock is None:
        raise BlockingIOError(venv.path)
    os.close(lock)


def _least(command: list[str], environment: dict[str, str], runs: int = 5) -> float:
    def once() -> float:
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        _, child.returncode, usage = os.wait4(child.pid, 0)
        return usage.ru_utime + usage.ru_stime

    return min(once() for _ in range(runs))
