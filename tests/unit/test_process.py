"""What a stage process is started with, and its end in the moments in which it is hardly there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import warm
from orchestrator.process import StageProcess


def described(**fields) -> StageProcess:
    here = Path("nowhere")
    return StageProcess("fake-1", "fake", "token", here, here, {}, warm=True, started=0.0, **fields)


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_a_child_that_is_not_yet_a_group_of_its_own_is_killed_all_the_same():
    """A forked child becomes one in its first instructions; a kill must not fall into the gap."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        described(pid=child.pid).signal_group(signal.SIGKILL)
        assert child.wait(timeout=10) == -signal.SIGKILL


def test_a_kill_before_the_fork_is_remembered():
    process = described()
    process.signal_group(signal.SIGKILL)
    assert process.doomed


def test_a_child_finds_our_packages_first_and_once(monkeypatch):
    entries = ["/elsewhere", str(warm.REPO_ROOT), ""]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entries))
    found = warm.child_environment()["PYTHONPATH"].split(os.pathsep)
    assert found == [str(warm.REPO_ROOT), "/elsewhere"]
