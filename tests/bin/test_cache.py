"""Environments that checkouts share, and what is removed of them."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

import _venv
import pytest

from devtools.fakes.checkout import FakeCheckout

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals and locks")


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
