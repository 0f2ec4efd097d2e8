"""An exit code as a person reads it."""

from __future__ import annotations

import signal
import sys

import pytest

from orchestrator.system.exit_codes import describe_exit

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (255, "exit code 255"),
        (-9, "SIGKILL (-9): usually the system's out-of-memory killer"),
        (-11, "SIGSEGV (-11): a native library read memory that is not its own"),
        (-6, "SIGABRT (-6): a native library gave up (assertion or CUDA driver)"),
        (-signal.SIGBUS, f"SIGBUS (-{signal.SIGBUS:d}): a mapped file shrank"),
        (-4, "SIGILL (-4): a wheel built for another CPU"),
        (-15, "SIGTERM (-15)"),
        (-2, "SIGINT (-2)"),
        (-4711, "signal 4711"),
    ],
)
def test_an_exit_is_told_with_its_usual_cause(code, text):
    assert describe_exit(code).startswith(text)


def test_a_signal_without_a_usual_cause_claims_none():
    assert describe_exit(-signal.SIGTERM) == "SIGTERM (-15)"
