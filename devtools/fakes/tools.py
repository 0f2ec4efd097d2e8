"""What tests share: the command line as a process, and what a clean end leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def leftovers(folder: Path) -> list[Path]:
    """Locks and temporary files below a folder: there must be none after a clean end."""
    return [*folder.glob("**/.lock"), *folder.glob("**/.*.part")]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)]


def cli_environment() -> dict[str, str]:
    """The environment of a command line process: this checkout first."""
    path = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *([path] if path else [])])}


def made_run(
    kiss3d: Callable[..., subprocess.CompletedProcess[str]],
    picture: Path,
    config: Path,
    out: Path,
    *options: object,
) -> subprocess.CompletedProcess[str]:
    """A whole run by the command line, which has to succeed."""
    done = kiss3d("run", picture, "--config", config, "--output", out, *options)
    assert done.returncode == 0, done.stderr
    return done
