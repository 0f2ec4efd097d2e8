"""The parent's end of the warm template (`stages.template`): asks for forks, hears of exits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import StageProcessError

COMMON_MODULES = ("stages.host", "msgpack", "psutil", "numpy")
"""What every child needs, whatever its stage."""
_HUB_TOKEN = re.compile(r"(HF|HUGGING_?FACE)\w*_(TOKEN|TOKEN_PATH|KEY|SECRET)", re.IGNORECASE)
"""HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HUGGINGFACEHUB_API_TOKEN, HF_API_KEY, ..."""
REPO_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Forked:
    """A fork request was answered: `pid`, or `error` when the template refused."""

    connection: str
    pid: int = 0
    error: str = ""


@dataclass(frozen=True)
class Exited:
    """A child of the template ended; `code` is negative for a signal."""

    pid: int
    code: int


@dataclass(frozen=True)
class TemplateGone:
    """The template itself ended, and its children with it."""


def supported() -> str:
    """ "" where warm starts can work, else the reason why not."""
    if sys.platform != "linux":
        # macOS forks unsafely once system frameworks are loaded; Windows has no fork.
        return f"fork is not used on {sys.platform}"
    return ""


def child_environment() -> dict[str, str]:
    """The environment of every child: our packages importable, CUDA checks that do not touch it.

    Without the hub's tokens, in variables or in the file that `models login` writes: only the
    parent downloads, and a stage may be anybody's code.
    """
    environment = {k: v for k, v in os.environ.items() if not _HUB_TOKEN.fullmatch(k)}
    environment["HF_TOKEN_PATH"] = os.devnull
    environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    paths = [str(REPO_ROOT), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # bin/ has named it already
    # Without it torch.cuda.is_available() initialises CUDA and a forked child cannot use it.
    environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


class WarmTemplate:
    """A running template process. Must be started from the thread that stays alive longest:
    on Linux the template dies with the thread that started it."""

    def __init__(self, log: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as stream:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "stages.template",
                    "--fd",
                    str(theirs.fileno()),
                    "--parent",
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=child_environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._channel = ours
        self._buffer = b""
        self.preload(COMMON_MODULES)

    def fileno(self) -> int:
        return self._channel.fileno()

    def preload(self, modules: Sequence[str]) -> None:
        """Import these one by one, while nothing else is asked for."""
        self._send({"import": list(modules)})

    def fork(
        self, connection: Path, needs: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        """Ask for a child; the answer is a `Forked`."""
        self._send(
            {
                "fork": str(connection),
                "needs": [*COMMON_MODULES, *needs],
                "log": str(log),
                "env": dict(environment),
            }
        )

    def _send(self, request: dict[str, Any]) -> None:
        try:
            self._channel.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise StageProcessError(f"the warm template is gone ({error})") from error

    def receive(self) -> list[Forked | Exited | TemplateGone]:
        """What the template has said; call when `fileno` is readable."""
        try:
            data = self._channel.recv(65536)
        except OSError:
            data = b""
        if not data:
            return [TemplateGone()]
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        events: list[Forked | Exited | TemplateGone] = []
        for message in map(json.loads, lines):
            if "forked" in message:
                events.append(
                    Forked(message["forked"], message.get("pid", 0), message.get("error", ""))
                )
            elif "exited" in message:
                events.append(Exited(message["exited"], message["code"]))
        return events

    def begin_close(self) -> None:
        """Tell the template to end, without waiting; it kills what it has left."""
        self._channel.close()

    def close(self) -> None:
        """End the template and wait for its end."""
        self.begin_close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:  # it was in the middle of a long import
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
