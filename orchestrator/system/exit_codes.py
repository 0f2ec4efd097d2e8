"""How a process ended, in words: exit codes become the names of signals, with their usual cause."""

from __future__ import annotations

import signal

_SIGNAL_CAUSES = {
    "SIGSEGV": "a native library read memory that is not its own",
    "SIGKILL": "usually the system's out-of-memory killer",
    "SIGABRT": "a native library gave up (assertion or CUDA driver)",
    "SIGBUS": "a mapped file shrank, or the disk or shared memory is full",
    "SIGILL": "a wheel built for another CPU",
}


def describe_exit(code: int) -> str:
    """An exit code as a person reads it: "SIGSEGV (-11): a native library ..."."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
    cause = _SIGNAL_CAUSES.get(name)
    return f"{name} ({code}){f': {cause}' if cause else ''}"
