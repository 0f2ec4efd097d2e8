"""An environment is made once, whole or not at all, whatever happens while it is made."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import _venv
import psutil
import pytest

from devtools.fakes.checkout import FakeCheckout, is_alive, said_until, venv_is_free
from devtools.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals and locks")


def test_a_failed_installation_leaves_nothing_and_the_next_start_succeeds(
    checkout: FakeCheckout,
) -> None:
    with pytest.raises(_venv.SetupError):
        checkout.set_up("fail: for now")
    venv = checkout.venv()
    assert os.listdir(venv.path) == [_venv.STAMP]
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
    killed.wait()
    killed.stderr.close()  # the installer still has the other end
    assert is_alive(installer)
    assert not venv_is_free(checkout.venv())

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
