"""The warm template: imports between requests, forks that belong to whoever adopts them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.patience import PATIENCE, eventually
from stages.process.parent_watch import adopt_orphans, adopts_orphans

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no forks elsewhere")

SERVE = "import sys\nfrom stages.process.fork_template import serve\nserve(*map(int, sys.argv[1:]))"


class Template:
    """A template in a process of its own, of which this process is the guard."""

    def __init__(self, folder: Path) -> None:
        self._ours, theirs = socket.socketpair()
        self._reader, writer = os.pipe()
        self._words = os.fdopen(self._reader, "rb")
        os.set_inheritable(theirs.fileno(), True)
        os.set_inheritable(writer, True)
        numbers = [str(theirs.fileno()), str(writer), str(os.getpid())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE, *numbers],
            pass_fds=(theirs.fileno(), writer),
            env=environment,
        )
        theirs.close()
        os.close(writer)

    def ask(self, request: dict[str, Any]) -> None:
        self._ours.sendall(json.dumps(request).encode() + b"\n")

    def word(self) -> dict[str, Any]:
        line = self._words.readline()
        assert line, "the template has ended"
        word: dict[str, Any] = json.loads(line)
        return word

    def close(self) -> int:
        self._ours.close()
        code = self.process.wait(PATIENCE)
        self._words.close()
        return code


@pytest.fixture
def template(tmp_path: Path) -> Iterator[Template]:
    adopted = adopts_orphans()
    adopt_orphans()
    made = Template(tmp_path)
    try:
        yield made
    finally:
        made.process.kill()
        with contextlib.suppress(OSError):
            made.close()
        adopt_orphans(adopted)


def exit_code_of(pid: int) -> int:
    """Wait for the end of a stage process, which is ours once the process between has ended."""

    def collected() -> bool:
        with contextlib.suppress(ChildProcessError):
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return bool(codes)

    codes: list[int] = []
    eventually(collected)
    return codes[0]


def fork_request(folder: Path, needs: tuple[str, ...] = ()) -> dict[str, Any]:
    connection = str(folder / "connection.json")
    log = folder / "stage.log"
    log.touch()
    env = {"MARK": "of the stage"}
    return {"fork": connection, "needs": list(needs), "log": str(log), "env": env}


def test_modules_are_imported_once_and_a_broken_one_is_told(template, tmp_path):
    (tmp_path / "sound_module.py").write_text("")
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('deliberate')")
    template.ask({"import": ["broken_module", "sound_module", "sound_module"]})
    template.ask({"import": ["json"]})
    broken, sound, last = template.word(), template.word(), template.word()
    assert (broken["imported"], broken["error"]) == ("broken_module", "RuntimeError: deliberate")
    assert (sound["imported"], "error" in sound) == ("sound_module", False)
    assert last["imported"] == "json", "the second asking was no import"
    assert template.close() == 0


def test_a_fork_has_what_it_needs_imported_and_belongs_to_the_guard(template, tmp_path):
    """The connection's file is missing: the stage process ends, and says why in its log."""
    (tmp_path / "needed_module.py").write_text("")
    template.ask(fork_request(tmp_path, needs=("needed_module",)))
    imported, born = template.word(), template.word()
    assert imported["imported"] == "needed_module"
    assert born["born"] == str(tmp_path / "connection.json")
    assert exit_code_of(born["pid"]) == 1
    assert "FileNotFoundError" in (tmp_path / "stage.log").read_text()
    assert template.process.poll() is None, "it serves on"


def test_nothing_appears_where_the_parent_has_removed_the_run_meanwhile(template, tmp_path):
    request = fork_request(tmp_path)
    (tmp_path / "stage.log").unlink()
    template.ask(request)
    assert exit_code_of(template.word()["pid"]) == 1
    assert not (tmp_path / "stage.log").exists()


def test_a_stage_process_outlives_the_template(template, tmp_path):
    (tmp_path / "connection.json").symlink_to(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe")  # reading its connection holds it
    template.ask(fork_request(tmp_path))
    born = template.word()
    assert template.close() == 0
    os.kill(born["pid"], 0)
    (tmp_path / "pipe").write_text("no connection")
    assert exit_code_of(born["pid"]) == 1


def test_no_stage_is_forked_from_a_process_that_has_touched_cuda(template, tmp_path):
    """A forked child could not use it."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        textwrap.dedent("""
            class cuda:
                @staticmethod
                def is_initialized():
                    return True
        """)
    )
    template.ask(fork_request(tmp_path, needs=("torch",)))
    template.word()
    assert "initialised CUDA" in template.word()["error"]
