"""The parent's end of the guard (`stages.process.guard`) and of the template that it brings
along."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orchestrator.processes.environment import child_environment
from orchestrator.system import clock
from stages.process import parent_watch

COMMON_MODULES = ("stages.process.child", "msgpack", "psutil", "numpy")
"""What every child needs, whatever its stage."""
END_SECONDS = 2.0
_STRAYS_SECONDS = 1.0


def works_here() -> bool:
    """Whether this system has what a guard needs: a way to adopt orphans."""
    return sys.platform == "linux"


@dataclass(frozen=True)
class Born:
    """An answer to `start` or `fork` of this name: `pid`, or `error` when there is no process."""

    name: str
    pid: int = 0
    error: str = ""


@dataclass(frozen=True)
class Exited:
    """A process that the guard answers for has ended; `code` is negative for a signal."""

    pid: int
    code: int


@dataclass(frozen=True)
class TemplateGone:
    """The template ended. Processes that it has forked live on."""


@dataclass(frozen=True)
class GuardGone:
    """The guard ended, and every process below it."""


Word = Born | Exited | TemplateGone | GuardGone


class GuardLink:
    """A running guard. Whatever it starts ends with it, and it ends with this process.

    folder    this process's private folder, which the guard removes at its end
    warm      bring a template along
    output    the log of the guard itself; None: this process's own streams
    heard     `clock.now()` when it last said something
    template_heard, template_pid   the same of the template; 0: there is none
    """

    def __init__(
        self,
        folder: Path,
        warm: bool,
        output: IO[bytes] | int | None = None,
    ) -> None:
        self._folder = folder
        self._output = output
        self._adopts = False
        self._open(warm)
        if warm:
            with contextlib.suppress(OSError):  # gone already: `receive` tells it
                self.preload(COMMON_MODULES)
        # From here on beside the guard's own start. Should it be killed, its children are ours.
        self._adopts = parent_watch.adopts_orphans()
        parent_watch.adopt_orphans()

    def _open(self, warm: bool) -> None:
        self._channel, theirs = socket.socketpair()
        self._template, template = socket.socketpair()
        with theirs, template:
            handed = [theirs.fileno(), *([template.fileno()] if warm else [])]
            numbers = [str(number) for number in (*handed, -1)[:2]]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "stages.process.guard", *numbers, str(self._folder)],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                env=child_environment(),
                pass_fds=handed,
                start_new_session=True,
            )
        self._template.setblocking(False)
        self._unread = b""
        self.pid = self._process.pid
        self._began = parent_watch.began(self.pid)
        self.template_pid = 0
        self.heard = self.template_heard = clock.now()

    def fileno(self) -> int:
        return self._channel.fileno()

    def start(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        """Ask for a process; the answer is a `Born`. Raises OSError when the guard is gone.

        environment: on top of `child_environment()`.
        """
        request = {
            "start": name,
            "command": list(command),
            "log": str(log),
            "env": dict(environment),
        }
        self._channel.sendall(json.dumps(request).encode() + b"\n")

    def preload(self, modules: Sequence[str]) -> None:
        """Have the template import these one by one, while nothing else is asked for."""
        self._ask_template({"import": list(modules)})

    def fork(
        self, name: str, needs: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        """Ask the template for a stage process; the answer is a `Born`. name: of its connection
        file. Raises OSError when the template is gone or reads nothing any more."""
        self._ask_template(
            {
                "fork": name,
                "needs": [*COMMON_MODULES, *needs],
                "log": str(log),
                "env": dict(environment),
            }
        )

    def _ask_template(self, request: dict[str, Any]) -> None:
        self._template.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> list[Word]:
        """What has been said since the last call; does not block."""
        try:
            data = self._channel.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            return [GuardGone()]
        self.heard = clock.now()
        *lines, self._unread = (self._unread + data).split(b"\n")
        words = [self._understood(json.loads(line)) for line in lines]
        return [word for word in words if word is not None]

    def _understood(self, word: dict[str, Any]) -> Word | None:
        if "beat" not in word:
            self.template_heard = self.heard
        if "template" in word:
            self.template_pid = word["template"]
        elif "born" in word:
            return Born(word["born"], word.get("pid", 0), word.get("error", ""))
        elif "exited" in word:
            if word["exited"] != self.template_pid:
                return Exited(word["exited"], word["code"])
            self.template_pid = 0
            return TemplateGone()
        return None

    def kill_template(self) -> None:
        """End the template, stuck or stopped; `TemplateGone` follows."""
        if self.template_pid:
            parent_watch.kill_all([self.template_pid])

    def restart(self) -> None:
        """Behind `GuardGone`, or when it hangs: another guard, without a template."""
        self.close(patience=0.0, keep_folder=True)
        self._open(warm=False)
        parent_watch.adopt_orphans()

    def begin_close(self, keep_folder: bool = False) -> None:
        """Have it end everything, and remove the private folder, without waiting."""
        word = {"end": True, "keep": keep_folder}
        with contextlib.suppress(OSError):
            self._channel.sendall(json.dumps(word).encode() + b"\n")
            self._channel.shutdown(socket.SHUT_WR)

    def close(self, patience: float = END_SECONDS, keep_folder: bool = False) -> None:
        """End the guard and all that it has started; after `patience` seconds without its help."""
        self.begin_close(keep_folder)
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._channel.settimeout(max(patience, 0.001))
            while self._channel.recv(65536):
                pass
            self._process.wait(timeout=patience)
        self.end_by_force()
        self._process.wait()
        self._channel.close()
        self._template.close()
        parent_watch.adopt_orphans(self._adopts)

    def end_by_force(self) -> None:
        """Kill the guard, if it lives, and whatever of its children has become ours by that."""
        if self._process.poll() is not None and self._process.returncode == 0:
            return
        self._process.kill()
        self._process.wait()
        until = time.monotonic() + _STRAYS_SECONDS
        while (strays := self._strays()) and time.monotonic() < until:
            parent_watch.kill_all(strays)
            for pid in strays:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.005)

    def _strays(self) -> set[int]:
        """Children that we did not start. Our own are of our session, or older than the guard."""
        found = set()
        for pid in parent_watch.children_of(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) != os.getsid(0) and parent_watch.began(pid) >= self._began:
                    found.add(pid)
        return found
