"""What happens on a node of a Ray cluster: a shard, in a worker process like any other work.

Imported there by name, with what it imports; nothing but paths and small rows travels.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.api.messages import error_fields
from orchestrator.api.request import Request
from orchestrator.api.work import Work
from orchestrator.errors import KissError, RunLockedError
from orchestrator.system.locks import LEASE_SECONDS

LOCKED_SECONDS = 3.0 * LEASE_SECONDS
"""How long a shard is asked for again that a lost task's processes, which end by themselves, still
hold; or that the dead of another node held, where the folder has no locks of the kernel."""
_LOOK_SECONDS = 0.3


def look(folder: str, token: str, answer: str) -> dict[str, str]:
    """Read the driver's token in the folder that all share, and write it back to another file.

    Raises OSError where this node does not see the folder, or may not write there.
    """
    content = (Path(folder) / token).read_text()
    (Path(folder) / answer).write_text(content)
    return {"host": socket.gethostname(), "version": __version__}


def run_shard(line: bytes) -> dict[str, Any]:
    """Carry out a request in a worker process of its own: {"host", "rows", "error"}.

    rows   of the shard's pictures, as in its summary; error: what it was refused with, or None
    Ray's cancellation, and the end of the process that calls, stop the worker as Ctrl-C does.
    """
    until = time.monotonic() + LOCKED_SECONDS
    while True:
        work = Work(Request.from_data(json.loads(line)))
        _attend(work)
        error = work.heard.error
        if not isinstance(error, RunLockedError) or time.monotonic() > until:
            break
        time.sleep(_LOOK_SECONDS)
    if error is not None and not isinstance(error, KissError):
        raise error
    return {
        "host": socket.gethostname(),
        "rows": work.heard.outcomes,
        "error": error_fields(error) if error else None,
    }


def _attend(work: Work) -> None:
    """Wait for the end of a worker. Awake at times: Ray's KeyboardInterrupt wakes nobody."""
    listener = threading.Thread(target=work.listen)
    listener.start()
    try:
        while not work.wait(_LOOK_SECONDS):
            pass
    except BaseException:
        work.stop()
        raise
    finally:
        listener.join()
