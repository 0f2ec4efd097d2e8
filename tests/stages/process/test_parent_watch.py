"""A child that has lost its parent does not begin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stages.process import parent_watch


class EndedError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def ends_are_seen(monkeypatch):
    def end(code: int) -> None:
        raise EndedError(code)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(parent_watch.ctypes, "CDLL", lambda name: pytest.fail("asked the kernel"))


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_a_child_whose_parent_is_there_lives_on(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    parent_watch.die_with_parent(os.getppid())


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_a_child_whose_parent_has_died_meanwhile_ends(monkeypatch, platform):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(EndedError):
        parent_watch.die_with_parent(gone.pid)


def test_the_launcher_of_a_virtual_environment_may_stand_between_on_windows(monkeypatch):
    """The expected parent lives, and is not the parent of this process."""
    monkeypatch.setattr(sys, "platform", "win32")
    parent_watch.die_with_parent(os.getpid())
