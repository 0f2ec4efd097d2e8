"""The page's server as a process, for tests."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devtools.fakes.tools import cli_environment, command
from devtools.patience import PATIENCE


@dataclass
class Server:
    """A server that answers. outputs: its runs"""

    process: subprocess.Popen[str]
    address: str
    outputs: Path

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it by a signal; its exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


@contextlib.contextmanager
def web_server(folder: Path, *options: object, port: int = 0) -> Iterator[Server]:
    """`web` with its outputs in `folder`, up and answering."""
    with contextlib.closing(socket.create_server(("127.0.0.1", port))) as found:
        free = found.getsockname()[1]
    outputs = folder / "outputs"
    process = subprocess.Popen(
        command("web", "--output", outputs, "--port", free, *options),
        cwd=folder,
        env=cli_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address.startswith("http"):
            raise AssertionError(process.communicate(timeout=PATIENCE)[1])
        yield Server(process, address.rstrip("/"), outputs)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE)
