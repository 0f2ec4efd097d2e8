"""Starting and ending stage processes where the system refuses, or when they are hardly there."""

from __future__ import annotations

import errno
import importlib.util
import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import types
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from devtools.patience import PATIENCE
from orchestrator.processes import environment as warm
from orchestrator.processes import guard
from orchestrator.processes.handle import Ended, Event, Spoke, StageProcess
from orchestrator.processes.hub import ProcessHub
from orchestrator.processes.json_child import ask
from orchestrator.processes.workspace import Workspace
from orchestrator.system import clock
from orchestrator.system.private_folders import private_folder
from stages.process import parent_watch, protocol
from stages.process.wire import PROOF_BYTES


def described(**fields) -> StageProcess:
    here = Path("nowhere")
    return StageProcess("fake-1", "fake", "token", here, here, {}, started=0.0, **fields)


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_a_child_that_is_not_yet_a_group_of_its_own_is_killed_all_the_same():
    """A forked child becomes one in its first instructions; a kill must not fall into the gap."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) as child:
        described(pid=child.pid).kill()
        assert child.wait(timeout=PATIENCE) == -signal.SIGKILL


def test_a_kill_before_the_fork_is_remembered():
    process = described()
    process.kill()
    assert process.doomed


def test_a_child_finds_our_packages_first_and_once(monkeypatch):
    entries = ["/elsewhere", str(warm.REPO_ROOT), ""]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entries))
    found = warm.child_environment()["PYTHONPATH"].split(os.pathsep)
    assert found == [str(warm.REPO_ROOT), "/elsewhere"]


ASK_FOR_TOKENS = """
import json, os
import huggingface_hub
found = {name: value for name, value in os.environ.items() if "hf_secret" in value}
print(json.dumps({"token": huggingface_hub.get_token(), "variables": found}))
"""


@pytest.mark.parametrize("kept", ["file", "named file", "home"])
def test_a_child_has_no_token_of_the_hub(kept, monkeypatch, tmp_path):
    """A stage downloads nothing, and may be anybody's code."""
    for name in (
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HUGGINGFACE_TOKEN",
        "HUGGINGFACEHUB_API_TOKEN",
        "HF_API_TOKEN",
        "HF_HUB_TOKEN",
        "HF_API_KEY",
    ):
        monkeypatch.setenv(name, "hf_secret")
    token = tmp_path / "token"
    token.write_text("hf_secret")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN_PATH", raising=False)
    if kept == "named file":
        monkeypatch.setenv("HF_TOKEN_PATH", str(token))
    elif kept == "home":
        monkeypatch.delenv("HF_HOME")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        (tmp_path / "huggingface").mkdir()
        token.rename(tmp_path / "huggingface" / "token")
    assert ask(["-c", ASK_FOR_TOKENS]) == {"token": None, "variables": {}}


@pytest.mark.parametrize(
    "name", ["HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "MY_TOKEN", "KISS3D_MODELS"]
)
def test_a_child_keeps_what_else_is_set(name, monkeypatch):
    monkeypatch.setenv(name, "kept")
    assert warm.child_environment()[name] == "kept"


@pytest.mark.parametrize(
    ("beside", "place", "kept"),
    [(False, None, True), (True, None, False), (False, "mine", False)],
    ids=["nothing is compiled", "libraries are compiled", "it has a place of its own"],
)
def test_children_have_bytecode_where_none_may_lie_beside_sources(
    beside, place, kept, monkeypatch, tmp_path
):
    bytecode = tmp_path / "numpy.pyc"
    if beside:
        bytecode.touch()
    library = types.SimpleNamespace(cached=str(bytecode))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: library)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    if place:
        monkeypatch.setenv("PYTHONPYCACHEPREFIX", place)
    found = warm.child_environment()
    assert ("PYTHONDONTWRITEBYTECODE" in found) is not kept
    assert found.get("PYTHONPYCACHEPREFIX") == (str(tmp_path / "bytecode") if kept else place)


def test_a_system_without_virtual_environment_is_not_written_to(monkeypatch):
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    assert "PYTHONPYCACHEPREFIX" not in warm.child_environment()


@dataclass
class FakeGuard:
    """The parent's end of a guard that says what a test wants, and does start what it is asked."""

    says: list[guard.Word] = field(default_factory=list)
    cold: list[subprocess.Popen[bytes]] = field(default_factory=list)
    pid: int = field(default_factory=os.getpid)
    template_pid: int = 0

    def __post_init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.heard = self.template_heard = clock.now()

    def fileno(self) -> int:
        return self.ours.fileno()

    def fork(self, *_: object) -> None:
        self.theirs.send(b".")

    def start(self, name: str, command: list[str], log: Path, environment: dict[str, str]) -> None:
        environment = {**warm.child_environment(), **environment}
        self.cold.append(subprocess.Popen(command, env=environment, start_new_session=True))
        self.says.append(guard.Born(name, self.cold[-1].pid))

    def kill_template(self) -> None:
        pass

    def receive(self) -> list[guard.Word]:
        self.heard = clock.now()
        said, self.says = self.says, []
        return said + [
            guard.Exited(process.pid, process.returncode)
            for process in self.cold
            if process.poll() is not None
        ]

    def begin_close(self) -> None:
        self.theirs.close()


def wait_for(hub: ProcessHub, wanted: type, seconds: float = PATIENCE) -> Event:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for event in hub.wait(0.2):
            if isinstance(event, wanted):
                return event
    raise AssertionError(f"no {wanted.__name__} within {seconds} s")


def ends_when_told(hub: ProcessHub) -> StageProcess:
    spoke = wait_for(hub, Spoke)
    assert isinstance(spoke.message, protocol.Hello)
    hub.send(spoke.process, protocol.Exit())
    assert wait_for(hub, Ended).process is spoke.process
    return spoke.process


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd to do without")
def test_a_kernel_without_pidfd_starts_processes_and_hears_of_their_end(tmp_path, monkeypatch):
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with ProcessHub(Workspace(tmp_path, None, "cold")) as hub:
        hub.start("fake.source", (), tmp_path / "log", {})
        assert ends_when_told(hub).exit_code == 0


def test_a_process_that_cannot_be_started_ends_at_once_and_leaves_no_secret(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with ProcessHub(Workspace(tmp_path, None, "cold")) as hub:
        process = hub.start("fake.source", (), tmp_path / "log", {})
        (event,) = hub.wait(PATIENCE)
        assert event == Ended(process)
        assert "temporarily unavailable" in process.unstarted
        assert not process.connection.exists()
        assert hub.wait(0.0) == []


TEMPLATE_WITHOUT_FORK = """
import errno, os, sys
from stages.process import fork_template as template

def refuse():
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

os.fork = refuse
template.serve(int(sys.argv[1]), int(sys.argv[2]), 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="warm starts are for Linux")
def test_a_template_that_cannot_fork_says_so_and_lives_on():
    ours, theirs = socket.socketpair()
    heard, words = os.pipe()
    with (
        ours,
        open(heard, "rb", buffering=0) as speech,
        subprocess.Popen(
            [sys.executable, "-c", TEMPLATE_WITHOUT_FORK, str(theirs.fileno()), str(words)],
            env=warm.child_environment(),
            pass_fds=[theirs.fileno(), words],
        ) as template,
    ):
        theirs.close()
        os.close(words)
        for request in ({"fork": "connection", "needs": []}, {"import": ["colorsys"]}):
            ours.sendall(json.dumps(request).encode() + b"\n")
        refused, imported = (json.loads(speech.readline()) for _ in range(2))
        ours.close()
        assert template.wait(timeout=PATIENCE) == 0
    assert refused["born"] == "connection"
    assert "temporarily unavailable" in refused["error"]
    assert imported["imported"] == "colorsys"


def test_a_fork_that_comes_after_the_cold_start_is_ended(tmp_path):
    """Of two requests the first is refused: both start cold, though the second is forked yet."""
    fake = FakeGuard()
    with (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) as stray,
        ProcessHub(Workspace(tmp_path, fake, "")) as hub,
    ):
        process = hub.start("fake.source", (), tmp_path / "log", {})
        other = hub.start("fake.source", (), tmp_path / "log", {})
        fake.says = [
            guard.Born(str(other.connection), error="cannot fork"),
            guard.Born(str(process.connection), stray.pid),
        ]
        other.kill()
        assert wait_for(hub, Ended).process is other
        assert ends_when_told(hub).exit_code == 0
        assert process.pid != stray.pid
        assert stray.wait(timeout=PATIENCE) == -signal.SIGKILL
        for child in fake.cold:
            child.wait()
    fake.ours.close()


@pytest.mark.skipif(sys.platform != "linux", reason="warm starts are for Linux")
@pytest.mark.parametrize(
    ("computes", "says"), [(False, "stood still for 10 s"), (True, "did not answer for 25 s")]
)
def test_a_template_that_does_not_answer_is_not_waited_for(computes, says, tmp_path, monkeypatch):
    now = itertools.count(step=5.0)
    monkeypatch.setattr(clock, "now", lambda: float(next(now)))
    ticks = itertools.count()
    monkeypatch.setattr(parent_watch, "cpu_ticks", lambda pid: next(ticks) if computes else 7)
    fake = FakeGuard()
    with ProcessHub(Workspace(tmp_path, fake, ""), silence=25.0) as hub:
        process = hub.start("fake.source", (), tmp_path / "log", {})
        assert ends_when_told(hub).exit_code == 0
        assert not process.warm
        assert says in process.cold_reason
    fake.ours.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no modes, and no /proc")
def test_nobody_else_on_the_machine_sees_how_to_speak_for_a_child(tmp_path):
    """The token is in a file that only we read, until the child has called; never in what `ps`
    shows or in what a helper of the stage would inherit."""
    with private_folder() as folder, ProcessHub(Workspace(folder, None, "cold")) as hub:
        process = hub.start("fake.source", (), tmp_path / "log", {})
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(process.connection.stat().st_mode) == 0o600
        child = psutil.Process(process.pid)
        halves = process.token[:PROOF_BYTES], process.token[PROOF_BYTES:]
        shown = " ".join([*child.cmdline(), *map(str, child.environ().items())])
        assert not [half for half in halves if half in shown]
        assert process.token not in repr(process)
        assert isinstance(wait_for(hub, Spoke).message, protocol.Hello)
        assert not process.connection.exists()
        hub.send(process, protocol.Exit())
        assert wait_for(hub, Ended).process.exit_code == 0
