"""What `kiss3d-orchestrate web` was told, and whether Gradio is here."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import InputFileError, UsageError
from orchestrator.system.reading import read_limited

EXTRA = "kiss3d-orchestrate[web]"
_AUTH_BYTES = 1 << 20
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SSR_MODE": "False",
}
"""Environment, set before Gradio is imported: it asks for nothing and tells nobody anything."""
OVERRIDES = (
    *("GRADIO_ALLOWED_PATHS", "GRADIO_BLOCKED_PATHS", "GRADIO_SHARE", "GRADIO_MCP_SERVER"),
    *("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_ROOT_PATH", "GRADIO_NUM_WORKERS"),
    *("GRADIO_VIBE_MODE", "GRADIO_WATCH_DIRS", "GRADIO_LOCAL_DEV_MODE", "GRADIO_DEBUG"),
)
"""Gradio's own settings that would open what the options leave closed."""
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class WebOptions:
    """The command's options.

    output      the folder of the runs; nothing outside of it is shown
    auth        (user, password) of everybody who may come in; empty: whoever reaches the port
    at_once     runs that compute at a time; waiting: runs that may wait for their turn
    upload_mib  the largest file that is taken
    api, mcp    programs may use the page's functions, over HTTP and as MCP's tools
    """

    output: Path
    host: str = "127.0.0.1"
    port: int = 7860
    share: bool = False
    auth: tuple[tuple[str, str], ...] = ()
    at_once: int = 1
    waiting: int = 32
    upload_mib: int = 64
    api: bool = False
    mcp: bool = False

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the page."""
        return self.host in LOCAL_HOSTS and not self.share


def require_gradio() -> None:
    """Make Gradio ready to be imported. Raises `UsageError` where it is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise UsageError(
            "the page needs Gradio, which is not installed",
            f'pip install "{EXTRA}" (from a clone: pip install ".[web]"); '
            "`bin/kiss3d-orchestrate web` of a clone brings it along by itself",
        )
    os.environ.update(QUIET)
    for name in OVERRIDES:
        os.environ.pop(name, None)


def read_auth(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """user:password of each `--auth`; one that names a file stands for the file's lines.

    Raises `UsageError` without a colon, or with an empty half; a password is never repeated.
    """
    found: list[tuple[str, str]] = []
    for text in given:
        file = Path(text)
        if ":" in text and not file.is_file():
            found.append(_pair(text, "--auth"))
            continue
        try:
            lines = read_limited(file, _AUTH_BYTES).decode().splitlines()
        except (OSError, ValueError) as error:
            raise InputFileError(
                f"--auth: neither user:password nor a file that can be read ({error})",
                "--auth NAME:PASSWORD, or a file with such lines",
            ) from None
        rows = [line.strip() for line in lines]
        pairs = [_pair(row, str(file)) for row in rows if row and not row.startswith("#")]
        if not pairs:
            raise UsageError(f"--auth: {file} names nobody", "a line for each: user:password")
        found += pairs
    names = [name for name, _ in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--auth: {', '.join(twice)} has two passwords", "leave one out")
    return tuple(found)


def _pair(text: str, where: str) -> tuple[str, str]:
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise UsageError(f"{where}: a line is not user:password", "both halves, a colon between")
    return name, password
