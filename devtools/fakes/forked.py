"""The command line in processes that are forked, not started: its modules are imported once.

Half of what a short command takes is imports. A process that has them waits for requests and forks
one process for each: with its own folder, environment, streams, signals and exit code, as any
other. `Forked.run` is what tests call; `python -m devtools.fakes.forked N` is the other side.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from PIL import Image

from devtools.fakes.tools import cli_environment, command
from stages.contract.registry import BUILT_IN

_MET_ON_THE_WAY = (
    "email.parser", "filelock", "gzip", "jinja2", "mmap", "numpy", "PIL.ImageFont", "PIL.ImageOps",
    "PIL.ImageSequence", "platformdirs.unix", "psutil", "pynvml", "rich.console", "rich.table",
)  # fmt: skip
"""Packages that a run imports when it comes to what they are for."""
_READ_AT_START = ("PYTHON", "LC_", "LANG")
"""Beginnings of variables that a fork cannot take up any more: its interpreter runs already."""


class Forked:
    """The process that forks, from its start to `close`."""

    def __init__(self) -> None:
        self._environment = _read_at_start(cli_environment())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [sys.executable, "-m", "devtools.fakes.forked", str(theirs.fileno())]
        self._process = subprocess.Popen(words, env=cli_environment(), pass_fds=[theirs.fileno()])
        theirs.close()
        self._socket = ours

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def can(self, environment: dict[str, str]) -> bool:
        """Whether a process with this environment would be no other than a new one."""
        return _read_at_start(environment) == self._environment

    def run(
        self, arguments: tuple[object, ...], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` of the command line, with both outputs captured."""
        read, write = os.pipe()
        with contextlib.ExitStack() as stack:
            ended = stack.enter_context(open(read, "rb"))
            nothing = stack.enter_context(open(os.devnull, "rb"))
            out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            asked = stack.enter_context(tempfile.TemporaryFile())
            words = [*map(str, arguments)]
            mask = os.umask(0)
            os.umask(mask)
            request: dict[str, Any] = {"arguments": words, "cwd": str(cwd), "umask": mask}
            request["env"] = cli_environment()
            asked.write(json.dumps(request).encode())
            asked.seek(0)
            files: list[IO[bytes]] = [nothing, out, err, asked]
            numbers = [file.fileno() for file in files]
            socket.send_fds(self._socket, [b"."], [*numbers, write])
            os.close(write)
            pid = int(ended.readline())
            with _killed_after(timeout, pid):
                status = int(ended.readline())
            said = []
            for stream in (out, err):
                stream.seek(0)
                said.append(stream.read().decode().replace("\r\n", "\n"))
        code = os.waitstatus_to_exitcode(status)
        return subprocess.CompletedProcess(command(*arguments), code, *said)


def _read_at_start(environment: dict[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in environment if name.startswith(_READ_AT_START)}


@contextlib.contextmanager
def _killed_after(seconds: float, pid: int) -> Iterator[None]:
    timer = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def serve(number: int) -> dict[str, Any] | None:
    """Fork for each request. Returns the request in the process that is to carry it out, None at
    the end. Another process in between waits for that one, and tells its pid and how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    server = socket.socket(fileno=number)
    while True:
        word, files, *_ = socket.recv_fds(server, 1, 5)
        if not word:
            return None
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, request, ended = files
    pid = os.fork()
    if pid:
        os.write(ended, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(ended, f"{status}\n".encode())
        os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.close(ended)
    server.close()
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    with open(request, "rb") as asked:
        document: dict[str, Any] = json.load(asked)
    return document


def become(request: dict[str, Any]) -> None:
    """What is different in a process that was started for this request."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    tempfile.tempdir = None
    main = importlib.import_module("orchestrator.cli").__file__ or ""
    sys.argv = [str(Path(main).with_name("__main__.py")), *request["arguments"]]
    sys.path[0] = request["cwd"]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )


def import_all() -> None:
    """What commands import, but what reads the environment as it is imported."""
    for room in ("cli", "commands", "running"):
        package = importlib.import_module(f"orchestrator.{room}")
        for module in pkgutil.iter_modules(package.__path__):
            if module.name != "__main__":
                importlib.import_module(f"orchestrator.{room}.{module.name}")
    shipped = {place.partition(":")[0] for place in BUILT_IN.values()}  # for their params
    for name in (*_MET_ON_THE_WAY, "orchestrator.weights.pull", *sorted(shipped)):
        importlib.import_module(name)
    Image.preinit()  # the common formats come first, as where a picture is opened
    Image.init()
    assert "huggingface_hub" not in sys.modules


if __name__ == "__main__":
    import_all()
    if (mine := serve(int(sys.argv[1]))) is not None:
        become(mine)
        from orchestrator.cli import main

        main()
