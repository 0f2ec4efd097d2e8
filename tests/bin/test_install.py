"""What fills an environment: uv, else pip, and nothing but the packages of the lock file."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path

import _install
import _venv
import pytest

from devtools.fakes.checkout import REPOSITORY, FakeCheckout, wheel
from devtools.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals and locks")


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
    assert "on disk; it takes minutes, this one time" in first.stderr
    assert "uv could not" not in first.stderr
    assert "ready after" in first.stderr
    assert "toy" not in first.stderr, "the packages are not named one by one"
    assert "+ toy" in Path(checkout.venv().file("install.log")).read_text()
    subprocess.run([checkout.venv().python, "-c", "import toy"], check=True)

    second = checkout.run()
    assert (second.returncode, second.stderr) == (7, "")


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
    assert "Successfully installed" not in program.stderr
    run, dev = checkout.venv(), _venv.environment_of("dev", checkout.path)
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
    assert "DO NOT MATCH THE HASHES" in refused.stderr, "pip's own words"
    assert "the package was damaged on its way" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not checkout.venv().is_ready()


def test_wheels_only_so_that_nothing_compiles_and_only_those_of_the_lock() -> None:
    venv = _venv.Venv("/env", "key", "/repo/run.txt", base=None, cached=False)
    uv, pip = _install.uv_command("uv", venv), _install.pip_command(venv, venv.lock_file)
    for command in (uv, pip):
        said = " ".join(command)
        assert "--only-binary :all: --no-binary iopath" in said
        assert "--no-deps --require-hashes" in said
        assert command[-1] == "--requirement=/repo/run.txt"


@pytest.mark.parametrize("status", [0, 3])
def test_a_terminal_shows_an_installers_last_line_and_all_of_them_where_it_fails(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = _venv.Venv(str(tmp_path), "key", "/repo/run.txt", base=None, cached=False)
    seen = tmp_path / "seen"
    code = (
        "import pathlib, sys, time\nprint('first\\nsecond', flush=True)\n"
        f"while not pathlib.Path({str(seen)!r}).exists(): time.sleep(0.02)\nsys.exit({status})"
    )
    ours, theirs = pty.openpty()
    told = b""

    def read() -> None:
        nonlocal told
        with contextlib.suppress(OSError):  # there is nobody any more at the other end
            while part := os.read(ours, 1000):
                told += part
                if b"second" in told:
                    seen.touch()

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        program = [sys.executable, "-I", "-c", code]
        done = _install.installs(program, venv, os.open(os.devnull, os.O_RDONLY))
    reader.join(PATIENCE)
    os.close(ours)
    assert done == (status == 0)
    assert b"\rsecond" in told
    assert (b"first" in told) == (status != 0)


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
    _install.compile_once(venv, os.open(os.devnull, os.O_RDONLY))
    log = Path(venv.file("first-run.log")).read_text()
    assert log.startswith(
        f"{REPOSITORY} -P -m orchestrator.cli run {REPOSITORY}/examples/robot.png"
    )
    assert not Path(venv.file("first-run")).exists()
    assert ("so the first run compiles" in capsys.readouterr().err) == (status != 0)
