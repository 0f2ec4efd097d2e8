"""The launchers find a Python and an environment, and then get out of the way."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import _launch
import _venv
import pytest

from devtools.fakes.checkout import REPOSITORY, FakeCheckout, script, venv_is_free
from devtools.patience import PATIENCE, eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals and locks")

LAUNCHERS = sorted(
    file for file in (REPOSITORY / "bin").iterdir() if file.is_file() and file.suffix != ".cmd"
)


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
    for venv in (checkout.venv(), *(_venv.environment_of(n, root) for n in ("web", "ray"))):
        checkout.set_up(venv=venv)
    python = json.loads(checkout.run(*words).stdout)["python"]
    assert Path(python).is_relative_to(checkout.root / folder)


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


def test_bytecode_is_kept_beside_the_sources_or_else_in_the_environment(
    checkout: FakeCheckout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    venv = checkout.set_up()

    def kept() -> object:
        return json.loads(checkout.run().stdout)["bytecode"]

    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    assert kept() == ""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert kept() == venv.file("bytecode")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    assert kept() == str(tmp_path)


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


@pytest.mark.parametrize("launcher", [file.name for file in LAUNCHERS if file.suffix != ".py"])
def test_ctrl_c_while_a_launcher_imports_ends_it_without_a_traceback(
    launcher: str, checkout: FakeCheckout
) -> None:
    interrupted = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (checkout.root / "bin" / "_lock.py").write_text(interrupted)
    done = checkout.run(launcher=launcher)
    assert (done.returncode, done.stderr) == (130, "")


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
    assert not venv_is_free(venv)
    start.kill()
    start.wait()
    assert venv_is_free(venv)


def test_a_ready_start_adds_little(checkout: FakeCheckout) -> None:
    """Processor time counted in bare starts of Python: 3 were measured.

    To read what all installed packages are called would add 9 more, to import numpy 27.
    """
    venv = checkout.set_up()
    direct = _launch.command(venv, "orchestrator.cli", [])
    launched = [sys.executable, str(checkout.root / "bin" / "kiss3d-orchestrate")]
    environment = _launch.environment(venv, checkout.path)
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


def _least(command: list[str], environment: dict[str, str], runs: int = 5) -> float:
    def once() -> float:
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        _, child.returncode, usage = os.wait4(child.pid, 0)
        return usage.ru_utime + usage.ru_stime

    return min(once() for _ in range(runs))
