"""Who gives the shards of a soaked batch out, and whom of its processes a kill can hit."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Protocol

import psutil

from bench.robustness.forked import ROOT, Place, Running
from devtools.fakes import ray_nodes
from devtools.fakes.tools import command as command_line

WORKER = "orchestrator.api.worker"
TASK = "ray::run_shard"
HANG_SECONDS = 300.0


class Driver(Protocol):
    """A batch under way. commands: how often it was begun; wrong: what it should not have said."""

    commands: int
    wrong: list[str]

    def start(self) -> None: ...

    def over(self) -> bool:
        """Whether all is done. What was killed is begun anew."""

    def kill(self) -> None:
        """The driver, and without Ray all workers with it."""

    def workers(self) -> list[int]:
        """The processes that are a batch each, whose children are guards."""


class Array:
    """Shards by commands, so many at once; one that was killed is queued again."""

    def __init__(self, place: Place, command: list[str], workers: int, shards: int) -> None:
        self._place, self._command = place, command
        self._at_once, self._shards = workers, shards
        self._waiting: list[int] = []
        self._running: dict[int, Running] = {}
        self.commands = 0
        self.wrong: list[str] = []

    def start(self) -> None:
        self._waiting = list(range(self._shards))

    def over(self) -> bool:
        for shard, running in list(self._running.items()):
            code = running.poll()
            if code is None:
                continue
            del self._running[shard]
            if code == -signal.SIGKILL:
                self._waiting.append(shard)
            elif code != 0:
                text = running.wait(HANG_SECONDS).text
                self.wrong.append(f"shard {shard}: exit code {code}: {text[-600:]}")
        while self._waiting and len(self._running) < self._at_once:
            shard = self._waiting.pop(0)
            self._running[shard] = self._place.start(
                *self._command, "--shard", f"{shard}/{self._shards}", name=str(shard)
            )
            self.commands += 1
        return not self._running

    def kill(self) -> None:
        for running in self._running.values():
            running.kill()
        for running in self._running.values():
            running.wait(HANG_SECONDS)
        self._running.clear()

    def workers(self) -> list[int]:
        return [running.pid for running in self._running.values()]


class OnRay:
    """`batch --ray`, given again where it ended before all was done."""

    def __init__(self, place: Place, command: list[str], address: str) -> None:
        self._place = place
        self._command = command_line(*command, "--ray", address)
        self._popen: subprocess.Popen[bytes] | None = None
        self._text: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (as long as this lives)
        self.commands = 0
        self.wrong: list[str] = []

    def start(self) -> None:
        self._popen = subprocess.Popen(
            self._command, cwd=self._place.root, stdout=subprocess.DEVNULL, stderr=self._text
        )
        self.commands += 1

    def over(self) -> bool:
        assert self._popen is not None
        code = self._popen.poll()
        if code is None:
            return False
        if code == 0:
            return True
        if code != 1:  # 1: a shard was hit more often than it is tried, and the command says so
            self._text.seek(max(0, self._text.tell() - 2000))
            self.wrong.append(f"exit code {code}: {self._text.read().decode(errors='replace')}")
            return True
        self.start()
        return False

    def kill(self) -> None:
        assert self._popen is not None
        self._popen.kill()
        self._popen.wait()

    def workers(self) -> list[int]:
        return [process.pid for process in _processes(self._place, WORKER)]


class Victims:
    """Processes of the batch that may be hit."""

    def __init__(self, place: Place, driver: Driver, ray: bool) -> None:
        self._place, self._driver, self._ray = place, driver, ray

    def hit(self, kind: str, rng: random.Random) -> int:
        """Kill one of a kind, if there is one now; how many."""
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            rng.choice(self._of(kind, rng)).kill()
            return 1
        return 0

    def _of(self, kind: str, rng: random.Random) -> list[psutil.Process]:
        workers = [psutil.Process(pid) for pid in self._driver.workers()]
        if kind == "worker":
            return [*workers, *_processes(self._place, TASK)] if self._ray else workers
        guard = rng.choice(workers).children()[0]
        if kind == "guard":
            return [guard]
        below = sorted(guard.children(), key=lambda child: (child.create_time(), child.pid))
        return below[:1] if kind == "template" else below[1:]

    def await_end(self, seconds: float) -> int:
        """How many processes of the batch there still are after so long; they are killed."""
        until = time.monotonic() + seconds
        while (left := self._left()) and time.monotonic() < until:
            time.sleep(0.05)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return len(left)

    def _left(self) -> list[psutil.Process]:
        if not self._ray:
            return [
                psutil.Process(pid) for pid in self._place.processes() if psutil.pid_exists(pid)
            ]
        return [*_processes(self._place, "orchestrator"), *_processes(self._place, "stages.")]


def _processes(place: Place, word: str) -> list[psutil.Process]:
    """Those that were started here with a word in their command line."""
    found = []
    for pid in place.processes():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


@contextlib.contextmanager
def opened(
    asked: argparse.Namespace, place: Place, command: list[str]
) -> Iterator[tuple[Driver, Victims]]:
    """The driver that is asked for. A Ray cluster of its own ends with it."""
    driver: Driver
    if not asked.ray:
        driver = Array(place, command, asked.workers, asked.shards)
        yield driver, Victims(place, driver, False)
        return
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path[:1], os.environ["PYTHONPATH"]])
    with ray_nodes.opened(2, asked.workers) as cluster:  # two cores a slot, on two nodes
        driver = OnRay(place, command, cluster.address)
        yield driver, Victims(place, driver, True)
