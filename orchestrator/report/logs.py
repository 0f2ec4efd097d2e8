"""What a stage's process last wrote, for its row on a page."""

from __future__ import annotations

import contextlib
from pathlib import PurePath
from typing import BinaryIO

from orchestrator.record.manifest import AttemptRow
from orchestrator.record.run_directory import ATTEMPT_LOGS, BATCH_LOGS, PROCESS_LOGS, RunDirectory
from orchestrator.system.inside import Inside
from orchestrator.system.locks import BATCH_FILE

_BYTES = 4096


def log_tail(run: RunDirectory, node: str, row: AttemptRow) -> str:
    """The last lines of an attempt's log, "" where there are none.

    The record only says its name: what it says of the folder could be anything of this machine. The
    log of a batch's process tells of other pictures too, so it is shown of a failed attempt alone.
    """
    name = PurePath(row.log.replace("\\", "/")).name
    with contextlib.suppress(OSError, ValueError):
        if ATTEMPT_LOGS.fullmatch(name):
            with run.inside.read(f"{node}/{name}") as stream:
                return _tail(stream)
        shared = row.outcome != "done" and (run.path.parent / BATCH_FILE).is_file()
        if shared and PROCESS_LOGS.fullmatch(name):
            with Inside(run.path.parent).read(f"{BATCH_LOGS}/{name}") as stream:
                return _tail(stream)
    return ""


def _tail(stream: BinaryIO) -> str:
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _BYTES))
    text = stream.read(_BYTES).decode(errors="replace")
    return text if size <= _BYTES else f"... {text.partition(chr(10))[2] or text}"
