"""A command line that runs beside the test: start it, wait for a moment, look at its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from devtools.fakes.tools import cli_environment, command
from devtools.patience import PATIENCE


def start(folder: Path, *arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    """The command line in a session of its own, with `folder` as working directory."""
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env={**cli_environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited thing did not happen"
        time.sleep(0.01)


def seen(out: Path, kind: str, node: str) -> bool:
    """Whether a run's events.jsonl tells this of a node."""
    file = out / "events.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return any(event["event"] == kind and event.get("node") == node for event in events)


def attempts(out: Path, node: str) -> list[dict]:
    rows: list[dict] = json.loads((out / "run.json").read_text())["nodes"][node]["attempts"]
    return rows


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def guard_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    (guard,) = psutil.Process(process.pid).children()
    return guard


def template_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The guard's first child; stage processes, which it has as well, are younger."""
    return min(guard_of(process).children(), key=lambda child: child.pid)


def alive(pids: Iterable[int]) -> list[int]:
    """Those that still run; a zombie does not, it only waits to be read."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def of_this_session(*command: str) -> list[psutil.Process]:
    """Processes with this command line that a test of this session has started.

    They have inherited its temporary folder; on the machine there may be more of the same kind.
    """
    found = psutil.process_iter(["cmdline", "environ"])
    return [
        process
        for process in found
        if process.info["cmdline"] == list(command)
        and (process.info["environ"] or {}).get("TMPDIR") == os.environ["TMPDIR"]
    ]


def interrupt_twice(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, and again once the first has been answered: two at once would be one."""
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while b"Ctrl-C again stops at once" not in (line := process.stderr.readline()):
        assert line, "it ended without a word"
    process.send_signal(signal.SIGINT)


def finish(process: subprocess.Popen[bytes], seconds: float = PATIENCE) -> str:
    """Its stderr, when it has ended."""
    return process.communicate(timeout=seconds)[1].decode()
